use super::*;

/// The quick start of PRX's page on Mattermost, as it stands there.
const PRX_PAGE: &str = r#"[channels_config.mattermost]
url = "https://mattermost.example.com"
bot_token = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
channel_id = "abc123def456ghi789"
allowed_users = ["user123456"]
"#;

/// A folder with a config file in it, and an environment.
struct Setup {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Setup {
    fn new(config: &str) -> Setup {
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup {
            folder,
            environment: Vec::new(),
        };
        setup.write("config.toml", config);
        setup
    }

    fn set(mut self, name: &'static str, value: &str) -> Setup {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    fn load(&self) -> Result<Config, String> {
        let environment = |name: &str| {
            let mut variables = self.environment.iter();
            Some(variables.find(|(known, _)| *known == name)?.1.clone())
        };
        load(Some(&self.path("config.toml")), &environment).map_err(|error| error.to_string())
    }

    /// The lines of `texts` without the folder's name.
    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn config(text: &str) -> Config {
    Setup::new(text).load().expect("a config that loads")
}

fn error(text: &str) -> String {
    let setup = Setup::new(text);
    setup.plain(&setup.load().expect_err(text))
}

fn warnings(text: &str) -> Vec<String> {
    let setup = Setup::new(text);
    let config = setup.load().expect(text);
    config
        .warnings
        .iter()
        .map(|line| setup.plain(line))
        .collect()
}

#[test]
fn the_five_lines_of_the_prx_page_load_and_each_placeholder_is_a_warning() {
    let config = config(PRX_PAGE);
    assert_eq!(config.mattermost.url, "https://mattermost.example.com");
    assert_eq!(
        config.mattermost.token.reveal(),
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    );
    assert_eq!(
        config.mattermost.channel_id,
        Some(ChannelId::from("abc123def456ghi789"))
    );
    assert_eq!(config.provider.kind, ProviderKind::None);
    let id = "an id is 26 lower-case letters and digits; `prx channel doctor` finds it";
    let key = "channels_config.mattermost";
    assert_eq!(
        warnings(PRX_PAGE),
        [
            format!(
                "config.toml:3: {key}.bot_token: is a placeholder; write the bot's access token"
            ),
            format!(
                "config.toml:4: {key}.channel_id: \"abc123def456ghi789\" is not a channel's id: {id}"
            ),
            format!("config.toml:5: {key}.allowed_users: \"user123456\" is not a user's id: {id}"),
        ]
    );
}
