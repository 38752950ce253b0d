use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::provider::{Api, ProviderKind};
use crate::url::http_url;

/// The quick start of PRX's page on Mattermost, as it stands there.
const PRX_PAGE: &str = r#"[channels_config.mattermost]
url = "https://mattermost.example.com"
bot_token = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
channel_id = "abc123def456ghi789"
allowed_users = ["user123456"]
"#;

/// A folder with a config file in it, and an environment.
pub(super) struct Setup {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Setup {
    pub(super) fn new(config: &str) -> Setup {
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup {
            folder,
            environment: Vec::new(),
        };
        setup.write("config.toml", config);
        setup
    }

    pub(super) fn set(mut self, name: &'static str, value: &str) -> Setup {
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

    pub(super) fn load(&self) -> Result<Config, String> {
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

pub(super) fn config(text: &str) -> Config {
    Setup::new(text).load().expect("a config that loads")
}

/// The first line of what is wrong.
pub(super) fn error(text: &str) -> String {
    let errors = errors(text);
    errors.lines().next().unwrap_or_default().to_owned()
}

fn errors(text: &str) -> String {
    let setup = Setup::new(text);
    setup.plain(&setup.load().expect_err(text))
}

fn warnings(text: &str) -> Vec<String> {
    let setup = Setup::new(text);
    let config = setup.load().expect(text);
    config
        .warnings
        .iter()
        .map(|warning| setup.plain(&warning.to_string()))
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

/// A section that loads without a warning, of four lines, and `rest` below it.
fn good(rest: &str) -> String {
    format!(
        "[channels_config.mattermost]\nurl = \"https://chat.example.com\"\nbot_token = \"t0ken\"\n\
         allowed_users = \"*\"\n{rest}\n"
    )
}

/// `top` above a section that loads without a warning.
fn provider(top: &str) -> String {
    format!("{top}\n{}", good(""))
}

#[test]
fn an_error_names_the_line_the_key_and_what_to_write() {
    let token = "write the bot's access token in quotes, or name a file that holds it with \
                 bot_token_file, or set $MATTERMOST_BOT_TOKEN";
    let cases = [
        (
            "",
            "config.toml: channels_config.mattermost.url: missing; write \
             url = \"https://mattermost.example.com\" below [channels_config.mattermost], or set \
             $MATTERMOST_URL",
        ),
        (
            "[channels_config.mattermost]\nurl = \"https://a.example\"",
            &format!("config.toml: channels_config.mattermost.bot_token: missing; {token}"),
        ),
        (
            "channels_config = 1",
            "config.toml:1: channels_config: must be a table; write [channels_config]",
        ),
        (
            "[channels_config]\nmattermost = []",
            "config.toml:2: channels_config.mattermost: must be a table; write \
             [channels_config.mattermost]",
        ),
        (
            "[channels_config.mattermost]\nurl = https://a.example",
            "config.toml:2: is not TOML: string values must be quoted, expected literal string",
        ),
        (
            &good("url = \"b\""),
            "config.toml:5: is not TOML: duplicate key",
        ),
        (
            &good("[channels_config]\nmessage_timeout_secs = 0"),
            "config.toml:6: channels_config.message_timeout_secs: must be a whole number from 1 to \
             86400, without quotes",
        ),
        (
            &good("[channels_config.mattermost.channels.abc]\nallowed_users = [\n \"a\",\n 7]"),
            "config.toml:8: channels_config.mattermost.channels.abc.allowed_users: must be a text; \
             write it in quotes",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn all_that_is_wrong_or_odd_is_told_at_once_what_is_fatal_first() {
    let key = "channels_config.mattermost";
    let section = "[channels_config.mattermost]\n";
    let url = "write url = \"https://mattermost.example.com\" below [channels_config.mattermost], or \
               set $MATTERMOST_URL";
    let token = "write the bot's access token in quotes, or name a file that holds it with \
                 bot_token_file, or set $MATTERMOST_BOT_TOKEN";
    let nobody = "empty, so nobody is answered; add user ids, or \"*\" for everybody";
    let missing = format!(
        "config.toml: {key}.url: missing; {url}\nconfig.toml: {key}.bot_token: missing; {token}"
    );
    let cases = [
        (
            "[channels_config.matermost]\nurl = \"https://a.example\"".to_owned(),
            format!(
                "{missing}\nwarning: config.toml:1: channels_config.matermost: unknown key; did you \
                 mean mattermost?\nwarning: config.toml: {key}.allowed_users: {nobody}"
            ),
        ),
        (
            format!("url = \"a\"\nbot_token_file = \"b\"\n{section}allowed_users = [\"*\"]"),
            format!(
                "{missing}\nwarning: config.toml:1: url: has no effect here; move it below [{key}]\n\
                 warning: config.toml:2: bot_token_file: has no effect here; move it below [{key}]"
            ),
        ),
        (
            format!(
                "api_key = 1\nmax_tokens = 0\n{section}histroy_posts = 5\nallowed_users = \"*\"\n\
                 bot_token = 5\nurl = \"a\"\nstream_mode = \"x\""
            ),
            format!(
                "config.toml:1: api_key: must be a text; write it in quotes\n\
                 config.toml:2: max_tokens: must be a whole number from 1 to 10000000, without quotes\n\
                 config.toml:6: {key}.bot_token: must be a text; write it in quotes\n\
                 config.toml:7: {key}.url: is not a URL; it must begin with https:// or http://\n\
                 config.toml:8: {key}.stream_mode: must be \"off\" or \"partial\"\n\
                 warning: config.toml:4: {key}.histroy_posts: unknown key; did you mean \
                 history_posts?\n\
                 warning: config.toml: default_model: missing, and most providers answer nothing \
                 without a model's name; write default_model = \"…\" above the first [table]"
            ),
        ),
        (
            good(
                "[fallback.x]\nmodel = 1\n[reliability]\nfallback_providers = [\"x\", \"command\"]",
            ),
            "config.toml:6: fallback.x.model: must be a text; write it in quotes\n\
             config.toml: provider_command: missing; write provider_command = [\"program\", \
             \"argument\"]\n\
             warning: config.toml:8: reliability.fallback_providers: \"x\" is no provider that prx \
             knows by name, so it is left out; did you mean \"xai\"?"
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(&text), expected, "{text}");
    }
}

#[test]
fn a_wrong_setting_of_the_section_is_an_error_in_its_line() {
    let flag = "must be true or false, without quotes";
    let cases = [
        ("mention_only = \"true\"", flag),
        ("thread_replies = 1", flag),
        ("follow_threads = \"\"", flag),
        ("allow_unsafe_links = []", flag),
        ("channel_id = 5", "must be a text; write it in quotes"),
        (
            "history_posts = 201",
            "must be a whole number from 0 to 200, without quotes",
        ),
        (
            "history_posts = -1",
            "must be a whole number from 0 to 200, without quotes",
        ),
        (
            "history_posts = 1.5",
            "must be a whole number from 0 to 200, without quotes",
        ),
        (
            "history_chars = 99",
            "must be a whole number from 100 to 10000000, without quotes",
        ),
        (
            "file_chars = 1000001",
            "must be a whole number from 0 to 1000000, without quotes",
        ),
        (
            "catch_up_secs = 31536001",
            "must be a whole number from 0 to 31536000, without quotes",
        ),
        (
            "poll_interval_secs = 0.049",
            "must be a number from 0.05 to 3600, without quotes",
        ),
        (
            "poll_interval_secs = 3601",
            "must be a number from 0.05 to 3600, without quotes",
        ),
        (
            "poll_interval_secs = nan",
            "must be a number from 0.05 to 3600, without quotes",
        ),
        (
            "poll_interval_secs = \"1\"",
            "must be a number from 0.05 to 3600, without quotes",
        ),
        (
            "system_prompt = [\"a\"]",
            "must be a text; write it in quotes",
        ),
        (
            "channels = 1",
            "must be a table; write [channels_config.mattermost.channels]",
        ),
    ];
    for (line, problem) in cases {
        let key = line.split(' ').next().expect("a key");
        let expected = format!("config.toml:5: channels_config.mattermost.{key}: {problem}");
        assert_eq!(error(&good(line)), expected);
    }
}

#[test]
fn a_token_that_cannot_be_one_is_an_error() {
    let cases = [
        (
            "bot_token = \" \"",
            "bot_token: is empty; write the bot's access token in quotes",
        ),
        (
            "bot_token = \"a b\"",
            "bot_token: has white space or a character that no token has",
        ),
        (
            "bot_token = \"tökén\"",
            "bot_token: has white space or a character that no token has",
        ),
        (
            "bot_token = \"enc2:00\"",
            "bot_token: was encrypted by PRX, and only PRX can read it",
        ),
        (
            "bot_token_file = \"none\"",
            "bot_token_file: none: there is no such file",
        ),
        (
            "bot_token_file = \"empty\"",
            "bot_token_file: empty: is empty",
        ),
        (
            "bot_token_file = \".\"",
            "bot_token_file: .: is a directory",
        ),
        (
            "bot_token_file = \"latin1\"",
            "bot_token_file: latin1:1: is not UTF-8 text",
        ),
        (
            "bot_token_file = \"$CREDENTIALS_DIRECTORY/token\"",
            "bot_token_file: $CREDENTIALS_DIRECTORY is not set",
        ),
    ];
    for (line, problem) in cases {
        let text = format!("[channels_config.mattermost]\nurl = \"https://a.example\"\n{line}\n");
        let setup = Setup::new(&text);
        setup.write("empty", "\n");
        setup.write("latin1", b"\xe9");
        let error = setup.plain(&setup.load().expect_err(line));
        let expected = format!("config.toml:3: channels_config.mattermost.{problem}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_wrong_provider_is_an_error() {
    let unknown = "is no provider that prx knows by name";
    let full = "write \"custom:https://api.example.com/v1\" with its full base URL";
    let encrypted = "was encrypted by PRX, and only PRX can read it; write the plain text, or delete \
                     the line and set the environment variable";
    let command = "write provider_command = [\"program\", \"argument\"]";
    let cases = [
        (
            "default_temperature = 2.1",
            "1: default_temperature: must be a number from 0 to 2, without quotes",
        ),
        (
            "max_tokens = 0",
            "1: max_tokens: must be a whole number from 1 to 10000000, without quotes",
        ),
        (
            "default_provider = 1",
            "1: default_provider: must be a text; write it in quotes",
        ),
        (
            "default_provider = \"openai\"",
            "1: default_provider: openai needs a key; write api_key = \"…\" above the first [table], \
             or set $OPENAI_API_KEY",
        ),
        (
            "default_provider = \"opnai\"",
            &format!("1: default_provider: \"opnai\" {unknown}; did you mean \"openai\"?"),
        ),
        (
            "default_provider = \"moonshot\"",
            &format!("1: default_provider: \"moonshot\" {unknown}; {full}"),
        ),
        (
            "default_provider = \"custom\"",
            &format!("1: default_provider: \"custom\" {unknown}; {full}"),
        ),
        (
            "default_provider = \"costum:https://name:hunter2@a.example\"",
            &format!("1: default_provider: \"costum\" {unknown}; {full}"),
        ),
        (
            "default_provider = \"anthropic-custom\"",
            &format!(
                "1: default_provider: \"anthropic-custom\" {unknown}; write \"anthropic-custom:https://api.example.com\""
            ),
        ),
        (
            "default_provider = \"custom:\"",
            "1: default_provider: has no URL; write one such as https://chat.example.com",
        ),
        (
            "default_provider = \"ollama\"\napi_url = \"localhost\"",
            "2: api_url: is not a URL; it must begin with https:// or http://",
        ),
        (
            "default_provider = \"echo\"\napi_key = \"enc2:00ff\"",
            &format!("2: api_key: {encrypted}"),
        ),
        (
            "api_key = \"enc:00ff\"",
            &format!("1: api_key: {encrypted}"),
        ),
        (
            "default_provider = \"command\"",
            &format!(" provider_command: missing; {command}"),
        ),
        (
            "default_provider = \"command\"\nprovider_command = []",
            &format!("2: provider_command: names no program; {command}"),
        ),
        (
            "default_provider = \"command\"\nprovider_command = \"ls -l\"",
            &format!("2: provider_command: must be a list of texts; {command}"),
        ),
    ];
    for (top, expected) in cases {
        assert_eq!(error(&provider(top)), format!("config.toml:{expected}"));
    }
}

#[test]
fn providers_are_found_by_name_alias_or_url() {
    let server = |api, name: &str, base: &str| ProviderKind::Server {
        api,
        name: name.into(),
        base: base.into(),
    };
    let openai = |name, base| server(Api::OpenAi, name, base);
    let anthropic = |name, base| server(Api::Anthropic, name, base);
    let custom = |base| openai("custom", base);
    let key = "api_key = \"k\"";
    let cases = [
        ("", ProviderKind::None),
        ("default_provider = \"\"", ProviderKind::None),
        (key, openai("openrouter", "https://openrouter.ai/api/v1")),
        ("default_provider = \"echo\"", ProviderKind::Echo),
        (
            "default_provider = \"command\"\nprovider_command = [\"a\", \" b \"]",
            ProviderKind::Command(vec!["a".into(), " b ".into()]),
        ),
        (
            &format!("default_provider = \"Claude\"\n{key}"),
            anthropic("anthropic", "https://api.anthropic.com"),
        ),
        (
            &format!("default_provider = \"grok\"\n{key}"),
            openai("xai", "https://api.x.ai/v1"),
        ),
        (
            &format!("default_provider = \"openai\"\napi_url = \"https://a.example/v1/\"\n{key}"),
            openai("openai", "https://a.example/v1"),
        ),
        (
            &format!(
                "default_provider = \"anthropic\"\napi_url = \"https://a.example/v1/messages\"\n{key}"
            ),
            anthropic("anthropic", "https://a.example"),
        ),
        (
            "default_provider = \"ollama\"",
            openai("ollama", "http://localhost:11434/v1"),
        ),
        (
            "default_provider = \"ollama\"\napi_url = \"http://gpu:1\"",
            openai("ollama", "http://gpu:1/v1"),
        ),
        (
            "default_provider = \"ollama\"\napi_url = \"http://gpu:1/v1/\"",
            openai("ollama", "http://gpu:1/v1"),
        ),
        (
            "default_provider = \"custom:http://a.example:80\"",
            custom("http://a.example:80"),
        ),
        (
            "default_provider = \"custom: http://a.example/v1// \"",
            custom("http://a.example/v1"),
        ),
        (
            "default_provider = \"Custom:http://a.example/v1/chat/completions/\"",
            custom("http://a.example/v1"),
        ),
        (
            "default_provider = \"custom:http://a.example\"\napi_url = \"http://b.example\"",
            custom("http://b.example"),
        ),
        (
            "default_provider = \"anthropic-custom:https://a.example/anthropic/v1/messages\"",
            anthropic("anthropic-custom", "https://a.example/anthropic"),
        ),
        (
            "default_provider = \"anthropic-custom:https://a.example/v1\"",
            anthropic("anthropic-custom", "https://a.example"),
        ),
    ];
    for (top, kind) in cases {
        assert_eq!(config(&provider(top)).provider.kind, kind, "{top}");
    }
}

#[test]
fn a_programs_path_is_read_like_any_other_and_its_name_is_left() {
    let cases = [
        (r#"["cat", "a/b"]"#, vec!["cat", "a/b"]),
        (
            r#"["~/bin/answer", "~/notes", "~", "a~/"]"#,
            vec!["/home/ann/bin/answer", "/home/ann/notes", "~", "a~/"],
        ),
        (r#"["bin/answer"]"#, vec!["FOLDER/bin/answer"]),
        (r#"["/bin/sh", "-c"]"#, vec!["/bin/sh", "-c"]),
    ];
    for (words, expected) in cases {
        let text = format!(
            "default_provider = \"command\"\nprovider_command = {words}\n{}\
             [channels_config.mattermost.read_files]\n\".pdf\" = {words}\n",
            good("")
        );
        let setup = Setup::new(&text).set("HOME", "/home/ann");
        let folder = setup.folder.path().canonicalize().expect("a folder");
        let expected: Vec<String> = expected
            .iter()
            .map(|word| word.replace("FOLDER", &folder.to_string_lossy()))
            .collect();
        let config = setup.load().expect("a config");
        assert_eq!(
            config.provider.kind,
            ProviderKind::Command(expected.clone())
        );
        assert_eq!(config.mattermost.read_files.get(".pdf"), Some(&expected));
    }
}

#[test]
fn a_key_comes_from_the_file_or_else_from_the_providers_own_variables() {
    let cases = [
        (
            "default_provider = \"openai\"\napi_key = \" file \"",
            "OPENAI_API_KEY",
            "file",
            "",
        ),
        (
            "default_provider = \"openai\"\napi_key = \"\"",
            "OPENAI_API_KEY",
            "variable",
            "OPENAI_API_KEY",
        ),
        (
            "default_provider = \"gemini\"",
            "GOOGLE_API_KEY",
            "variable",
            "GOOGLE_API_KEY",
        ),
        (
            "default_provider = \"vllm\"",
            "VLLM_API_KEY",
            "variable",
            "VLLM_API_KEY",
        ),
        (
            "default_provider = \"custom:http://a.example\"",
            "OPENAI_API_KEY",
            "",
            "",
        ),
        ("", "OPENROUTER_API_KEY", "", ""),
    ];
    for (top, variable, key, used) in cases {
        let config = Setup::new(&provider(top))
            // As an env file of Docker has it.
            .set(variable, "\"variable\"\n")
            .load()
            .expect(top);
        let found = config.provider.api_key.as_ref().map_or("", Secret::reveal);
        assert_eq!(found, key, "{top}");
        assert_eq!(config.from_environment.concat(), used, "{top}");
    }
    let local = config(&provider("default_provider = \"vllm\"")).provider;
    assert_eq!(local.api_key, None);
    assert_eq!(local.key_variable, "VLLM_API_KEY");
}

#[test]
fn a_url_loses_its_trailing_slashes_and_anything_else_wrong_is_an_error() {
    let good = [
        ("https://a.example", "https://a.example"),
        (" https://a.example// \n", "https://a.example"),
        (
            "HTTP://a.example/chat/team///",
            "http://a.example/chat/team",
        ),
        ("http://127.0.0.1:8065/", "http://127.0.0.1:8065"),
        ("http://[::1]:8065", "http://[::1]:8065"),
        ("http://[::1]", "http://[::1]"),
        ("https://a.example/@here", "https://a.example/@here"),
    ];
    for (text, url) in good {
        assert_eq!(http_url(text).as_deref(), Ok(url));
    }
    let bad = [
        ("", "has no URL"),
        ("a.example", "is not a URL"),
        ("a.example:8065/x", "is not a URL"),
        ("ws://a.example", "must begin with"),
        (
            "https://name:hunter2@a.example",
            "has a user name or password",
        ),
        ("https://name@a.example/?q", "has a user name or password"),
        ("https://a.example/?team=x", "has a ? or # in it"),
        ("https://a.example/#x", "has a ? or # in it"),
        ("https://", "has no valid host and port"),
        ("https:///x", "has no valid host and port"),
        ("https://a.example:", "has no valid host and port"),
        ("https://a.example:0", "has no valid host and port"),
        ("https://a.example:65536", "has no valid host and port"),
        ("https://a:b:1", "has no valid host and port"),
        ("https://a .example", "has a character that no URL has"),
        ("https://ä.example", "has a character that no URL has"),
        ("https://a.example\\x", "has a character that no URL has"),
    ];
    for (text, problem) in bad {
        let error = http_url(text).expect_err(text).to_string();
        assert!(error.starts_with(problem), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_odd_but_not_wrong_is_a_warning() {
    let section = "channels_config.mattermost";
    let id = "an id is 26 lower-case letters and digits; `prx channel doctor` finds it";
    let unknown = |place: &str, key: &str, meant: &str| {
        format!("config.toml:{place}: {key}: unknown key; did you mean {meant}?")
    };
    let moved = "has no effect here; move it above the first [table] of the file";
    let cases = [
        (good(""), String::new()),
        (good("poll_intervall_secs = 2"), unknown("5", &format!("{section}.poll_intervall_secs"), "poll_interval_secs")),
        (good("mention-only = true"), unknown("5", &format!("{section}.mention-only"), "mention_only")),
        (good("Mention-Onyl = true"), unknown("5", &format!("{section}.Mention-Onyl"), "mention_only")),
        (good("something_else = true"), String::new()),
        (good("default_provider = \"echo\""), format!("config.toml:5: {section}.default_provider: {moved}")),
        (
            good("max_images = 2"),
            format!("config.toml:5: {section}.max_images: has no effect here; move it below [multimodal]"),
        ),
        (
            provider("history_posts = 2\n[models]\nx = 1"),
            format!("config.toml:1: history_posts: has no effect here; move it below [{section}]"),
        ),
        (provider("defualt_provider = \"echo\""), unknown("1", "defualt_provider", "default_provider")),
        (good("[channel_config]"), unknown("5", "channel_config", "channels_config")),
        (good("[channels_config.matermost]"), unknown("5", "channels_config.matermost", "mattermost")),
        (
            good(&format!("[{section}.channels.{}]\nmodell = \"x\"", "c".repeat(26))),
            unknown("6", &format!("{section}.channels.{}.modell", "c".repeat(26)), "model"),
        ),
        (
            good(&format!("[{section}.channels.town-square]")),
            format!("config.toml:5: {section}.channels.town-square: \"town-square\" is not a channel's id: {id}"),
        ),
        (good("channel_id = \"Town\""), format!("config.toml:5: {section}.channel_id: \"Town\" is not a channel's id: {id}")),
        (
            good("").replace("\"*\"", "[\n\"aaaaaaaaaaaaaaaaaaaaaaaaa1\",\n \"@ann\"]"),
            format!("config.toml:6: {section}.allowed_users: \"@ann\" is not a user's id: {id}"),
        ),
        (
            good("").replace("\"*\"", "[]"),
            format!("config.toml:4: {section}.allowed_users: empty, so nobody is answered; add user ids, or \"*\" for everybody"),
        ),
        (
            good("").replace("allowed_users = \"*\"\n", ""),
            format!("config.toml: {section}.allowed_users: empty, so nobody is answered; add user ids, or \"*\" for everybody"),
        ),
        (
            good(&format!("[{section}.channels.{}]\nallowed_users = \"*\"", "c".repeat(26))).replacen("\"*\"", "[]", 1),
            String::new(),
        ),
        (
            provider("default_provider = \"ollama\""),
            "config.toml: default_model: missing, and most providers answer nothing without a model's name; write default_model = \"…\" above the first [table]".to_owned(),
        ),
        (
            provider("default_model = \"m\"\ndefault_provider = \"custom:https://a.example/v1/models\""),
            "config.toml:2: default_provider: ends in /models; write the URL without it".to_owned(),
        ),
        (
            provider("api_url = \"http://localhost:1234/v1\""),
            "config.toml:1: api_url: has no effect with this default_provider; delete the line".to_owned(),
        ),
    ];
    for (text, warning) in cases {
        assert_eq!(warnings(&text).join("\n"), warning, "{text}");
    }
}

#[test]
fn settings_have_their_documented_defaults() {
    let config = config(&good(""));
    let mattermost = &config.mattermost;
    assert_eq!(mattermost.channel_id, None);
    assert_eq!(mattermost.poll_interval, Duration::from_secs(1));
    assert_eq!(mattermost.catch_up_secs, 86_400);
    assert_eq!(mattermost.history_posts, 20);
    assert_eq!(mattermost.history_chars, 16_000);
    assert_eq!(mattermost.file_chars, 20_000);
    assert!(!mattermost.allow_unsafe_links);
    assert!(!mattermost.follow_threads);
    assert_eq!(mattermost.ca_file, None);
    assert_eq!(
        mattermost.defaults,
        ChannelSettings {
            allowed_users: Allowed::Everybody,
            thread_replies: true,
            mention_only: false,
            stream_mode: StreamMode::Off,
            system_prompt: None,
            model: None,
            model_parameters: Map::new(),
        }
    );
    assert_eq!(config.provider.model, "");
    assert_eq!(config.provider.temperature, None);
    assert_eq!(config.provider.max_tokens, 16_384);
    assert_eq!(config.message_timeout, Duration::from_secs(300));
}

#[test]
fn every_setting_is_read() {
    let channel = "c".repeat(26);
    let user = "u".repeat(26);
    let setup = Setup::new(&format!(
        "default_provider = \"ollama\"\ndefault_model = \"qwen3\"\ndefault_temperature = 1\n\
         max_tokens = 1_000\nca_file = \"model.pem\"\n\
         [channels_config]\nmessage_timeout_secs = 20\n\
         [channels_config.mattermost]\nurl = \"http://localhost:8065/\"\nbot_token = \" t0ken \"\n\
         channel_id = \"{channel}\"\nallowed_users = [\"{user}\"]\nthread_replies = false\n\
         mention_only = true\npoll_interval_secs = 0.25\nfollow_threads = true\nhistory_posts = 5\n\
         history_chars = 0x1000\ncatch_up_secs = 0\nfile_chars = 0\nsystem_prompt = \"Be brief.\"\n\
         allow_unsafe_links = true\nca_file = \"~/ca.pem\"\nstate_dir = \"/var/lib/prx\"\n\
         [channels_config.mattermost.channels.{channel}]\nmodel = \"big\"\nsystem_prompt = \"\"\n\
         mention_only = false\nallowed_users = [\"*\"]\n\
         model_parameters = {{ top_k = 5 }}\n"
    ))
    .set("HOME", "/home/ann");
    let config = setup.load().expect("a config");
    assert_eq!(config.warnings, []);
    let mattermost = &config.mattermost;
    assert_eq!(mattermost.url, "http://localhost:8065");
    assert_eq!(mattermost.token.reveal(), "t0ken");
    assert_eq!(mattermost.channel_id, Some(ChannelId(channel.clone())));
    assert_eq!(mattermost.poll_interval, Duration::from_millis(250));
    assert_eq!(mattermost.catch_up_secs, 0);
    assert_eq!(mattermost.history_posts, 5);
    assert_eq!(mattermost.history_chars, 4096);
    assert_eq!(mattermost.file_chars, 0);
    assert!(mattermost.allow_unsafe_links);
    assert!(mattermost.follow_threads);
    assert_eq!(
        mattermost.ca_file.as_deref(),
        Some(Path::new("/home/ann/ca.pem"))
    );
    let defaults = ChannelSettings {
        allowed_users: Allowed::These(vec![UserId(user)]),
        thread_replies: false,
        mention_only: true,
        stream_mode: StreamMode::Off,
        system_prompt: Some("Be brief.".into()),
        model: None,
        model_parameters: Map::new(),
    };
    assert_eq!(mattermost.channel(&ChannelId::from("another")), &defaults);
    assert_eq!(
        mattermost.channel(&ChannelId(channel)),
        &ChannelSettings {
            allowed_users: Allowed::Everybody,
            thread_replies: false,
            mention_only: false,
            stream_mode: StreamMode::Off,
            system_prompt: None,
            model: Some("big".into()),
            model_parameters: Map::from_iter([("top_k".to_owned(), 5.into())]),
        }
    );
    assert_eq!(config.provider.model, "qwen3");
    assert_eq!(config.provider.temperature, Some(1.0));
    assert_eq!(config.provider.max_tokens, 1000);
    let folder = setup.folder.path().canonicalize().expect("a folder");
    assert_eq!(config.provider.ca_file, Some(folder.join("model.pem")));
    assert_eq!(config.message_timeout, Duration::from_secs(20));
}

#[test]
fn the_environment_overrides_the_file_and_is_noted() {
    let setup = Setup::new(&good(""))
        .set("MATTERMOST_URL", " https://b.example/\n")
        .set("MATTERMOST_BOT_TOKEN", "other\n");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.url, "https://b.example");
    assert_eq!(config.mattermost.token.reveal(), "other");
    assert_eq!(
        config.from_environment,
        ["MATTERMOST_URL", "MATTERMOST_BOT_TOKEN"]
    );

    let setup = Setup::new(&good(""))
        .set("MATTERMOST_URL", "")
        .set("MATTERMOST_BOT_TOKEN", " \n");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.url, "https://chat.example.com");
    assert_eq!(config.mattermost.token.reveal(), "t0ken");
    assert_eq!(config.from_environment, Vec::<&str>::new());

    let wrong = Setup::new(&good(""))
        .set("MATTERMOST_URL", "b.example")
        .load();
    let expected = "$MATTERMOST_URL: is not a URL; it must begin with https:// or http://";
    assert_eq!(wrong.expect_err("an error"), expected);
}

#[test]
fn a_token_file_is_read_from_the_configs_folder_or_systemds() {
    let text = |file: &str| {
        good("").replace(
            "bot_token = \"t0ken\"",
            &format!("bot_token_file = {file:?}"),
        )
    };
    let setup = Setup::new(&text("secrets/token"));
    setup.write("secrets/token", "from-file\n");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.token.reveal(), "from-file");
    let folder = setup.folder.path().canonicalize().expect("a folder");
    assert_eq!(
        config.sources,
        [setup.path("config.toml"), folder.join("secrets/token")]
    );

    let credentials = tempfile::tempdir().expect("a folder");
    fs::write(credentials.path().join("token"), "from-systemd").expect("a file");
    let setup = Setup::new(&text("$CREDENTIALS_DIRECTORY/token")).set(
        "CREDENTIALS_DIRECTORY",
        &credentials.path().to_string_lossy(),
    );
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.token.reveal(), "from-systemd");
    // Its mode is systemd's business.
    assert_eq!(config.warnings, []);
}

#[test]
fn the_files_of_config_d_are_merged_over_the_config_and_named_in_errors() {
    let setup = Setup::new(&good("history_posts = 5\nmention_only = true"));
    setup.write(
        "config.d/channels.toml",
        "[channels_config.mattermost]\nurl = \"https://b.example\"\nhistory_posts = 6\nhistroy_chars = 1\n",
    );
    setup.write("config.d/routing.toml", "default_provider = \"echo\"\n");
    setup.write("config.d/memory.toml", "not TOML");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.url, "https://b.example");
    assert_eq!(config.mattermost.history_posts, 6);
    assert_eq!(config.mattermost.token.reveal(), "t0ken");
    assert!(config.mattermost.defaults.mention_only);
    assert_eq!(config.provider.kind, ProviderKind::Echo);
    let paths = [
        "config.toml",
        "config.d/channels.toml",
        "config.d/routing.toml",
    ];
    assert_eq!(config.sources, paths.map(|name| setup.path(name)));
    assert_eq!(
        setup.plain(&config.warnings[0].to_string()),
        "config.d/channels.toml:4: channels_config.mattermost.histroy_chars: unknown key; did you \
         mean history_chars?"
    );
    setup.write("config.d/routing.toml", "\ndefault_provider = \"opnai\"\n");
    let error = setup.plain(&setup.load().expect_err("an error"));
    assert!(
        error.starts_with("config.d/routing.toml:2: default_provider: \"opnai\""),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_says_what_to_do() {
    let setup = Setup::new("");
    let cases: [(&[u8], &str); 3] = [
        (
            b"\n\n# \xe9",
            "config.toml:3: is not UTF-8 text; save the file as UTF-8",
        ),
        (
            &[b'#'; 1 << 20 | 1],
            "config.toml: is larger than 1 MiB; name another file",
        ),
        (
            b"\xff\xfeu\0",
            "config.toml:1: is not UTF-8 text; save the file as UTF-8",
        ),
    ];
    for (content, expected) in cases {
        setup.write("config.toml", content);
        assert_eq!(setup.plain(&setup.load().expect_err(expected)), expected);
    }
    fs::remove_file(setup.path("config.toml")).expect("a file");
    let error = setup.plain(&setup.load().expect_err("an error"));
    let expected = "config.toml: there is no such file; this asks what is needed and writes it: prx \
                    init --config config.toml";
    assert_eq!(error, expected);
    fs::create_dir(setup.path("config.toml")).expect("a folder");
    let expected = "config.toml: is a directory; name the file in it";
    assert_eq!(setup.plain(&setup.load().expect_err("an error")), expected);

    let setup = Setup::new("").set("MATTERMOST_URL", "https://a.example");
    fs::remove_file(setup.path("config.toml")).expect("a file");
    let error = setup.load().expect_err("an error");
    assert!(error.contains("allowed_users has no variable"), "{error}");
}

#[test]
fn the_config_is_looked_for_in_the_documented_places() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path().to_str().expect("UTF-8");
    let cases = [
        (
            vec![("HOME", home)],
            format!("{home}/.openprx/config.toml: there is no such file"),
        ),
        (
            vec![("HOME", home), ("OPENPRX_CONFIG_DIR", "/nowhere/prx")],
            "/nowhere/prx/config.toml: there is no such file".to_owned(),
        ),
        (
            vec![("HOME", home), ("OPENPRX_CONFIG_DIR", "~/prx")],
            format!("{home}/prx/config.toml: there is no such file"),
        ),
        (
            vec![],
            "no config file: neither $OPENPRX_CONFIG_DIR nor $HOME is set".to_owned(),
        ),
    ];
    for (variables, expected) in cases {
        let environment = |name: &str| {
            let mut variables = variables.iter();
            Some(variables.find(|(known, _)| *known == name)?.1.to_owned())
        };
        let error = load(None, &environment).expect_err("an error").to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_file_with_a_secret_that_others_can_read_is_a_warning() {
    let readable = |setup: &Setup, name: &str, mode| {
        fs::set_permissions(setup.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        let warnings = setup.load().expect("a config").warnings;
        warnings
            .iter()
            .filter(|warning| warning.problem.fix.contains("\n  chmod 600 /"))
            .count()
    };
    let setup = Setup::new(&provider("default_model = \"m\"\napi_key = \"k\""));
    assert_eq!(readable(&setup, "config.toml", 0o600), 0);
    assert_eq!(readable(&setup, "config.toml", 0o640), 1);
    assert_eq!(readable(&setup, "config.toml", 0o604), 1);

    let setup = Setup::new(&good("").replace("bot_token = \"t0ken\"", "bot_token_file = \"t\""));
    setup.write("t", "t0ken");
    assert_eq!(readable(&setup, "config.toml", 0o644), 0);
    assert_eq!(readable(&setup, "t", 0o644), 1);
}

#[test]
fn a_config_has_one_state_file_whichever_way_its_path_is_written() {
    let setup = Setup::new(&good("state_dir = \"state\""));
    let folder = setup.folder.path().canonicalize().expect("a folder");
    fs::create_dir(folder.join("sub")).expect("a folder");
    std::os::unix::fs::symlink(&folder, folder.join("link")).expect("a link");
    let state_path = |path: &str| {
        let path = folder.join(path);
        load(Some(&path), &|_| None).expect("a config").state_path
    };
    let expected = state_path("config.toml");
    assert!(expected.starts_with(folder.join("state")), "{expected:?}");
    assert_eq!(state_path("sub/../config.toml"), expected);
    assert_eq!(state_path("link/config.toml"), expected);
}

#[test]
fn a_prx_file_with_many_foreign_sections_loads_unchanged() {
    let setup = Setup::new(PRX_LIKE).set("OPENAI_API_KEY", "k");
    let config = setup.load().expect("a config");
    assert_eq!(config.warnings, []);
    let base = "https://api.anthropic.com".to_owned();
    assert_eq!(
        config.provider.kind,
        ProviderKind::Server {
            api: Api::Anthropic,
            name: "anthropic".into(),
            base
        }
    );
    assert_eq!(config.mattermost.url, "https://chat.example.com");
}

/// The sections and keys of a PRX file, most of them none of this program's business.
const PRX_LIKE: &str = r#"
config_schema_version = 23
workspace_dir = "/srv/prx/space"
api_key = "sk-ant-0"
default_provider = "anthropic"
default_model = "claude-sonnet-4-6"
default_temperature = 0.7
model_routes = [{ hint = "fast", provider = "groq", model = "x" }]

[providers.ollama]
base_url = "http://localhost:11434"
[observability]
backend = "log"
[autonomy]
level = "supervised"
allowed_commands = ["git", "ls"]
forbidden_paths = []
max_actions_per_hour = 20
[runtime]
kind = "native"
[reliability]
provider_retries = 2
fallback_providers = ["openai"]
model_fallbacks = { "a" = ["b"] }
[[cron.jobs]]
schedule = "0 9 * * *"
[agent]
max_tool_iterations = 10
[agent.compaction]
mode = "safeguard"
[heartbeat]
enabled = false
[memory]
backend = "sqlite"
auto_save = true
[gateway]
port = 16830
host = "127.0.0.1"
[tunnel]
provider = "none"
[secrets]
encrypt = true
[identity]
format = "openclaw"
[channels_config]
cli = true
message_timeout_secs = 300
[channels_config.telegram]
bot_token = "1:a"
allowed_users = ["ann"]
mention_only = false
[channels_config.matrix]
homeserver = "https://matrix.example.com"
room_id = "!a:b"
[channels_config.mattermost]
url = "https://chat.example.com/"
bot_token = "t0ken"
channel_id = "4xp9fdt77pncbef59f4k1qe83o"
allowed_users = ["nftqk4hw6pb3xdm97hs7h9jryo"]
thread_replies = true
mention_only = true
[channels_config.mattermost.group_reply]
mode = "mention_only"
allowed_sender_ids = []
[channels_config.slack]
bot_token = "xoxb"
"#;

mod any_input {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    const SECRET: &str = "hunter2hunter2";

    fn names(header: &str) -> Vec<&'static str> {
        let section = table::section(header).expect(header);
        section
            .settings
            .iter()
            .map(|setting| setting.name)
            .collect()
    }

    /// Settings, right and wrong; the secret stands wherever one can.
    fn settings(keys: &[&'static str]) -> impl Strategy<Value = String> {
        let value = |key: &'static str| {
            let harmless = [
                "\"https://a.example\"".to_owned(),
                "\"ollama\"".to_owned(),
                "[\"*\", 1]".to_owned(),
                "{ a = 1 }".to_owned(),
                "true".to_owned(),
                "-1".to_owned(),
                "1e400".to_owned(),
                "0xffffffffffffffffff".to_owned(),
                "1979-05-27".to_owned(),
            ];
            let urls = [
                format!("\"https://name:{SECRET}@a.example\""),
                format!("\"https://a.example/{SECRET} \\\\\""),
                format!("\"custom:https://a.example?key={SECRET}\""),
                format!("\"costum:https://name:{SECRET}@a.example\""),
            ];
            let tokens = [
                format!("{SECRET:?}"),
                format!("\"enc2:{SECRET}\""),
                format!("\"ä {SECRET}\""),
                format!("[{SECRET:?}]"),
                SECRET.to_owned(),
            ];
            let values = match key {
                "url" | "api_url" | "default_provider" => [&harmless[..2], &urls].concat(),
                "bot_token" | "api_key" => tokens.to_vec(),
                _ => harmless.to_vec(),
            };
            select(values).prop_map(move |value| format!("{key} = {value}\n"))
        };
        // Wrong settings are rare, so that what comes after them is reached too.
        let chance = |key: &str| match key {
            "url" | "api_url" | "default_provider" | "bot_token" | "api_key" => 0.5,
            _ => 0.02,
        };
        let line = |key: &&'static str| proptest::option::weighted(chance(key), value(key));
        let lines: Vec<_> = keys.iter().map(line).collect();
        lines.prop_map(|lines| lines.into_iter().flatten().collect())
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_secret_is_shown(
            top in settings(&names("")[..8]),
            section in settings(&names("channels_config.mattermost")),
            noise in prop_oneof![9 => Just(String::new()), 1 => "\\PC{0,20}"],
            url in prop_oneof![
                1 => Just(""),
                3 => Just("https://a.example"),
                1 => Just("http://name:hunter2hunter2@a.example"),
            ],
            token in prop_oneof![1 => Just(""), 3 => Just(SECRET), 1 => Just("hunter2hunter2 2")],
        ) {
            let text = format!("{top}[channels_config.mattermost]\n{section}{noise}");
            let setup = Setup::new(&text).set("MATTERMOST_URL", url).set("MATTERMOST_BOT_TOKEN", token);
            let shown = match setup.load() {
                Ok(config) => format!("{config:?}"),
                Err(error) => error,
            };
            prop_assert!(!shown.contains(SECRET), "{}", shown);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let setup = Setup::new("");
            setup.write("config.toml", bytes);
            let _ = setup.load();
        }

        #[test]
        fn no_url_makes_it_panic(text in "(https?://)?\\PC{0,30}") {
            if let Ok(url) = http_url(&text) {
                prop_assert!(!url.ends_with('/'));
                prop_assert_eq!(http_url(&url), Ok(url.clone()));
            }
        }
    }
}

#[test]
fn quotes_that_an_env_file_leaves_around_values_are_taken_off() {
    let setup = Setup::new(&good(""))
        .set("MATTERMOST_URL", "\"https://b.example\"")
        .set("MATTERMOST_BOT_TOKEN", "'quoted'");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.url, "https://b.example");
    assert_eq!(config.mattermost.token.reveal(), "quoted");

    let token = good("").replace("bot_token = \"t0ken\"", "bot_token_file = \"t\"");
    let setup = Setup::new(&token);
    setup.write("t", "\"t0ken\"\n");
    let config = setup.load().expect("a config");
    assert_eq!(config.mattermost.token.reveal(), "t0ken");
}

#[test]
fn settings_of_growing_answers_limits_and_files_are_read() {
    let section = r#"
stream_mode = "partial"
answers_at_once = 32
draft_update_interval_ms = 250
daily_limit = 30
daily_limit_all = 500
chat_commands = false
models = ["small", " ", "big"]
footer = ["tokens", "model"]
read_programs = false
channel_context = 10
[channels_config.mattermost.read_files]
"Application/PDF" = ["pdftotext", "-", "-"]
".ODT" = ["odt2txt"]
[channels_config.mattermost.channels.cccccccccccccccccccccccccc]
stream_mode = "off"
[multimodal]
max_images = 0
max_image_size_mb = 50
"#;
    let config = config(&good(section));
    let settings = &config.mattermost;
    assert_eq!(settings.defaults.stream_mode, StreamMode::Partial);
    let channel = settings.channel(&ChannelId("c".repeat(26)));
    assert_eq!(channel.stream_mode, StreamMode::Off);
    assert_eq!(settings.answers_at_once, 32);
    assert_eq!(settings.draft_update_interval, Duration::from_millis(250));
    assert_eq!((settings.daily_limit, settings.daily_limit_all), (30, 500));
    assert!(!settings.chat_commands && !settings.read_programs);
    assert_eq!(settings.models, ["small", "big"]);
    let Footer {
        model,
        time,
        tokens,
    } = settings.footer;
    assert_eq!((model, time, tokens), (true, false, true));
    assert_eq!(settings.channel_context, 10);
    assert_eq!(
        settings.read_files.get("application/pdf").unwrap(),
        &["pdftotext", "-", "-"]
    );
    assert_eq!(settings.read_files.get(".odt").unwrap(), &["odt2txt"]);
    assert_eq!(
        (settings.max_images, settings.max_image_size),
        (0, 50 << 20)
    );
    assert_eq!(config.warnings, []);
}

#[test]
fn a_value_that_is_none_of_those_possible_is_told_with_them() {
    let cases = [
        ("stream_mode = \"full\"", "must be \"off\" or \"partial\""),
        (
            "footer = [\"cost\"]",
            "may list \"model\", \"time\" and \"tokens\"",
        ),
        (
            "read_files.pdf = [\"pdftotext\"]",
            "is neither a MIME type nor an ending",
        ),
        (
            "read_files.\".pdf\" = \"pdftotext - -\"",
            "must be a list of texts; write \".pdf\" = [",
        ),
        ("read_files.\".pdf\" = []", "names no program"),
    ];
    for (line, expected) in cases {
        let error = Setup::new(&good(line)).load().expect_err(line);
        assert!(error.contains(expected), "{error}");
    }
}
