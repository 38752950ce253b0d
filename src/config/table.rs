//! The table of settings: the reader's defaults and ranges, the check for unknown keys, the manual
//! page and the README's tables are made from it.

/// A table of the config file and its settings.
#[derive(Debug)]
pub struct Section {
    /// Dotted, without brackets; empty for the top of the file. `ID` and `NAME` stand for any key.
    pub header: &'static str,
    /// What the README says beside the header.
    pub note: &'static str,
    /// The settings in it.
    pub settings: &'static [Setting],
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it does, in the README's Markdown.
    pub meaning: &'static str,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number, and what holds without it.
    Whole {
        /// What holds without the setting.
        default: u64,
        /// The smallest value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// A number with a fraction or without.
    Number {
        /// What holds without the setting, if anything.
        default: Option<f64>,
        /// The smallest value.
        least: f64,
        /// The largest value.
        most: f64,
    },
    /// `true` or `false`: what holds without it.
    Flag(bool),
    /// Anything else: the default and the range, in the README's Markdown.
    Other(&'static str, &'static str),
}

impl Setting {
    /// The default, in the README's Markdown.
    pub fn default(&self) -> String {
        match self.kind {
            Kind::Whole { default, .. } => format!("`{default}`"),
            Kind::Number { default, .. } => {
                default.map_or(String::new(), |default| format!("`{default}`"))
            }
            Kind::Flag(default) => format!("`{default}`"),
            Kind::Other(default, _) => default.to_owned(),
        }
    }

    /// The range, in the README's Markdown.
    pub fn range(&self) -> String {
        match self.kind {
            Kind::Whole { least, most, .. } => format!("{least} to {most}"),
            Kind::Number { least, most, .. } => format!("{least} to {most}"),
            Kind::Flag(_) => String::new(),
            Kind::Other(_, range) => range.to_owned(),
        }
    }
}

const fn whole(
    name: &'static str,
    default: u64,
    least: u64,
    most: u64,
    meaning: &'static str,
) -> Setting {
    let kind = Kind::Whole {
        default,
        least,
        most,
    };
    Setting {
        name,
        kind,
        meaning,
    }
}

const fn number(
    name: &'static str,
    default: Option<f64>,
    least: f64,
    most: f64,
    meaning: &'static str,
) -> Setting {
    let kind = Kind::Number {
        default,
        least,
        most,
    };
    Setting {
        name,
        kind,
        meaning,
    }
}

const fn flag(name: &'static str, default: bool, meaning: &'static str) -> Setting {
    let kind = Kind::Flag(default);
    Setting {
        name,
        kind,
        meaning,
    }
}

const fn other(
    name: &'static str,
    default: &'static str,
    range: &'static str,
    meaning: &'static str,
) -> Setting {
    let kind = Kind::Other(default, range);
    Setting {
        name,
        kind,
        meaning,
    }
}

/// All tables of the config file, in the README's order.
// A setting per line.
#[rustfmt::skip]
pub const SECTIONS: &[Section] = &[
    Section {
        header: "",
        note: "above the first `[table]`",
        settings: &[
            other("default_provider", "", "[Providers](#providers)", "who answers; without it `openrouter` if there is an `api_key`, else a short text that says how to add a model"),
            other("default_model", "", "", "the model's name, as the provider writes it"),
            other("api_key", "", "", "the provider's key; wins over the provider's variable"),
            other("api_url", "", "URL", "base URL in place of the provider's own"),
            number("default_temperature", None, 0.0, 2.0, "sent only if it is set"),
            whole("max_tokens", 16_384, 1, 10_000_000, "the longest answer, in tokens; sent to Anthropic's API only, which requires it"),
            other("ca_file", "", "file", "PEM roots for the model's server, in place of the built-in ones"),
            other("provider_command", "", "list of texts", "the program of `default_provider = \"command\"` and its arguments"),
            other("model_parameters", "", "table", "merged into each request's body as it is, such as `reasoning_effort = \"low\"`"),
            other("model_headers", "", "table", "further headers of each request to the model's server"),
        ],
    },
    Section {
        header: "reliability",
        note: "when the model fails",
        settings: &[
            whole("provider_retries", 2, 0, 10, "how often a failure that may pass is tried again"),
            other("fallback_providers", "`[]`", "list of names", "who is asked next, in this order; `\"groq/llama-3.3-70b\"` names a model too"),
            other("model_fallbacks", "", "table", "the models of the same server that are tried next: `\"gpt-4o\" = [\"gpt-4o-mini\"]`"),
        ],
    },
    Section {
        header: "fallback.NAME",
        note: "for the provider of that name in `fallback_providers`",
        settings: &[
            other("api_key", "its variable", "", "its key"),
            other("api_url", "its own", "URL", "its base URL; a name of your own with it is a server with OpenAI's API"),
            other("model", "`default_model`", "", "its model"),
            other("model_parameters", "", "table", "as above, for it alone"),
            other("model_headers", "", "table", "as above, for it alone"),
        ],
    },
    Section {
        header: "multimodal",
        note: "",
        settings: &[
            whole("max_images", 4, 0, 16, "images that the model is told, per question; 0 is none"),
            whole("max_image_size_mb", 5, 0, 50, "a larger image is left out"),
        ],
    },
    Section {
        header: "channels_config",
        note: "",
        settings: &[
            whole("message_timeout_secs", 300, 1, 86_400, "the longest an answer may take, in seconds"),
        ],
    },
    Section {
        header: "channels_config.mattermost",
        note: "",
        settings: &[
            other("url", "required", "URL", "the server, with its sub-path if it has one"),
            other("bot_token", "required", "", "the bot's access token"),
            other("bot_token_file", "", "file", "a file that holds the token, if there is no `bot_token`; it may begin with `$CREDENTIALS_DIRECTORY/`"),
            other("channel_id", "every channel", "id", "answer in this channel only"),
            other("allowed_users", "`[]`", "ids", "who is answered; `[]` is nobody, `[\"*\"]` everybody"),
            flag("thread_replies", true, "`true`: answer in the message's thread; `false`: always in the channel itself, even to a message in a thread"),
            flag("mention_only", false, "answer only when the bot is mentioned by its @name, but always in direct messages"),
            number("poll_interval_secs", Some(1.0), 0.05, 3600.0, "the pause between two looks, in seconds"),
            flag("follow_threads", false, "with `mention_only`: go on without a mention in threads where the bot already wrote"),
            whole("answers_at_once", 4, 1, 32, "answers made at the same time; 1 is one after the other"),
            other("stream_mode", "`\"off\"`", "`\"off\"`, `\"partial\"`", "`\"partial\"`: an answer is shown while it grows"),
            whole("draft_update_interval_ms", 1000, 250, 60_000, "the shortest time between two changes of a growing answer, in milliseconds"),
            whole("history_posts", 20, 0, 200, "the most earlier posts that the model is told"),
            whole("history_chars", 16_000, 100, 10_000_000, "the most characters of question and history together; the question stays whole"),
            whole("channel_context", 0, 0, 200, "posts of the channel that the model is told with a question at its root"),
            flag("read_programs", true, "the model is told what bots and webhooks posted in the thread"),
            whole("file_chars", 20_000, 0, 1_000_000, "characters of attached text files that the model is told, per message"),
            other("read_files", "", "table", "a program per file type that makes text of a file, see below"),
            whole("catch_up_secs", 86_400, 0, 31_536_000, "after an absence, messages older than this are not answered"),
            whole("daily_limit", 0, 0, 1_000_000, "answers per person and day; 0 is no limit"),
            whole("daily_limit_all", 0, 0, 1_000_000, "answers per day to all people together; 0 is no limit"),
            flag("chat_commands", true, "`help`, `new`, `stop` and `model` in the chat are commands"),
            other("models", "`[]`", "list of names", "the models that `model NAME` in the chat may choose"),
            other("system_prompt", "built in", "", "who the model is; its name, the channel and today's date are added"),
            other("footer", "`[]`", "`\"model\"`, `\"time\"`, `\"tokens\"`", "what stands below an answer, in small print"),
            flag("allow_unsafe_links", false, "`true`: links in answers can be clicked and are previewed ([Safety](#safety))"),
            other("ca_file", "", "file", "PEM roots for the Mattermost server, in place of the built-in ones"),
            other("state_dir", "the config file's folder", "folder", "where the state file and its lock are"),
            other("channels", "", "table", "what differs in some channels, see below"),
        ],
    },
    Section {
        header: "channels_config.mattermost.channels.ID",
        note: "for the channel of that id",
        settings: &[
            other("system_prompt", "as above", "", ""),
            other("model", "`default_model`", "", "the model in this channel"),
            other("model_parameters", "", "table", "laid over those of the top"),
            other("mention_only", "as above", "", ""),
            other("thread_replies", "as above", "", ""),
            other("allowed_users", "as above", "ids", ""),
            other("stream_mode", "as above", "", ""),
        ],
    },
];

/// The environment variables, and what they mean in the README's Markdown.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        "`MATTERMOST_URL`, `MATTERMOST_BOT_TOKEN`",
        "win over `url` and `bot_token` in the file",
    ),
    (
        "`OPENAI_API_KEY` and the like",
        "the provider's key if the file has no `api_key`; see [Providers](#providers)",
    ),
    ("`OPENPRX_CONFIG_DIR`", "the folder of `config.toml`"),
    (
        "`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`",
        "an `http://` or `https://` proxy for everything but this machine: `HTTPS_PROXY` for \
         `https://`, `HTTP_PROXY` for `http://`, `ALL_PROXY` for what has none; also in lower case",
    ),
    (
        "`NO_PROXY`",
        "what is reached without the proxy: hosts, domains, addresses, networks (`10.0.0.0/8`), \
         each also with a port, or `*`",
    ),
    ("`SSL_CERT_FILE`", "PEM roots, if there is no `ca_file`"),
    ("`RUST_LOG`", "what is logged, in place of `-v` and `-q`"),
    (
        "`CREDENTIALS_DIRECTORY`",
        "set by systemd, for `bot_token_file`",
    ),
];

/// The section that a table with this header is.
pub(super) fn section(header: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.header == header)
}

/// The header of the table at `key` in the table with this header: with `ID` or `NAME` in place of a
/// key that is not known.
pub(super) fn below(header: &str, key: &str) -> String {
    let join = |key: &str| match header {
        "" => key.to_owned(),
        header => format!("{header}.{key}"),
    };
    let is_known = |header: &String| {
        let within = format!("{header}.");
        SECTIONS
            .iter()
            .any(|section| section.header == *header || section.header.starts_with(&within))
    };
    [join(key), join("ID"), join("NAME")]
        .into_iter()
        .find(is_known)
        .unwrap_or_else(|| join(key))
}

/// The names of the tables right below the table with this header.
pub(super) fn tables(header: &str) -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().filter_map(move |section| {
        let rest = match header {
            "" => section.header,
            header => section.header.strip_prefix(header)?.strip_prefix('.')?,
        };
        rest.split('.').next().filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_below_a_table_are_found_with_any_name_of_theirs() {
        for (header, key, below_it) in [
            ("", "channels_config", "channels_config"),
            (
                "channels_config",
                "mattermost",
                "channels_config.mattermost",
            ),
            (
                "channels_config.mattermost.channels",
                "x.y",
                "channels_config.mattermost.channels.ID",
            ),
            ("fallback", "custom:http://h.example", "fallback.NAME"),
            ("", "model_headers", "model_headers"),
        ] {
            assert_eq!(below(header, key), below_it);
        }
        assert!(tables("channels_config").eq(["mattermost", "mattermost"]));
    }

    #[test]
    fn a_setting_has_one_row_in_its_table() {
        for section in SECTIONS {
            for setting in section.settings {
                let rows = section
                    .settings
                    .iter()
                    .filter(|other| other.name == setting.name);
                assert_eq!(rows.count(), 1, "{} {}", section.header, setting.name);
            }
        }
    }
}
