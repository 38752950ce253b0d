//! The table of settings: the reader's defaults and ranges, the check for unknown keys, the manual
//! page and the README's tables are made from it.

use std::ops::RangeInclusive;

use Kind::{Flag, Number, Other, Whole};

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
#[derive(Clone, Debug)]
pub enum Kind {
    /// A whole number: what holds without it, and the range.
    Whole(u64, RangeInclusive<u64>),
    /// A number with a fraction or without: what holds without it, if anything, and the range.
    Number(Option<f64>, RangeInclusive<f64>),
    /// `true` or `false`: what holds without it.
    Flag(bool),
    /// Anything else: the default and the range, in the README's Markdown.
    Other(&'static str, &'static str),
}

impl Setting {
    /// The default, in the README's Markdown.
    pub fn default(&self) -> String {
        match &self.kind {
            Kind::Whole(default, _) => format!("`{default}`"),
            Kind::Number(None, _) => String::new(),
            Kind::Number(Some(default), _) => format!("`{default}`"),
            Kind::Flag(default) => format!("`{default}`"),
            Kind::Other(default, _) => default.to_string(),
        }
    }

    /// The range, in the README's Markdown.
    pub fn range(&self) -> String {
        match &self.kind {
            Kind::Whole(_, range) => format!("{} to {}", range.start(), range.end()),
            Kind::Number(_, range) => format!("{} to {}", range.start(), range.end()),
            Kind::Flag(_) => String::new(),
            Kind::Other(_, range) => range.to_string(),
        }
    }
}

const fn row(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
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
            row("default_provider", Other("", "[Providers](#providers)"), "who answers; without it `openrouter` if there is an `api_key`, else a short text that says how to add a model"),
            row("default_model", Other("", ""), "the model's name, as the provider writes it"),
            row("api_key", Other("", ""), "the provider's key; wins over the provider's variable"),
            row("api_url", Other("", "URL"), "base URL in place of the provider's own"),
            row("default_temperature", Number(None, 0.0..=2.0), "sent only if it is set"),
            row("max_tokens", Whole(16_384, 1..=10_000_000), "the longest answer, in tokens; sent to Anthropic's API only, which requires it"),
            row("ca_file", Other("", "file"), "PEM roots for the model's server, in place of the built-in ones"),
            row("provider_command", Other("", "list of texts"), "the program of `default_provider = \"command\"` and its arguments"),
            row("model_parameters", Other("", "table"), "merged into each request's body as it is, such as `reasoning_effort = \"low\"`"),
            row("model_headers", Other("", "table"), "further headers of each request to the model's server"),
        ],
    },
    Section {
        header: "reliability",
        note: "when the model fails",
        settings: &[
            row("provider_retries", Whole(2, 0..=10), "how often a failure that may pass is tried again"),
            row("fallback_providers", Other("`[]`", "list of names"), "who is asked next, in this order; `\"groq/llama-3.3-70b\"` names a model too"),
            row("model_fallbacks", Other("", "table"), "the models of the same server that are tried next: `\"gpt-4o\" = [\"gpt-4o-mini\"]`"),
        ],
    },
    Section {
        header: "fallback.NAME",
        note: "for the provider of that name in `fallback_providers`",
        settings: &[
            row("api_key", Other("its variable", ""), "its key"),
            row("api_url", Other("its own", "URL"), "its base URL; a name of your own with it is a server with OpenAI's API"),
            row("model", Other("`default_model`", ""), "its model"),
            row("model_parameters", Other("", "table"), "as above, for it alone"),
            row("model_headers", Other("", "table"), "as above, for it alone"),
        ],
    },
    Section {
        header: "multimodal",
        note: "",
        settings: &[
            row("max_images", Whole(4, 0..=16), "images that the model is told, per question; 0 is none"),
            row("max_image_size_mb", Whole(5, 0..=50), "a larger image is left out"),
        ],
    },
    Section {
        header: "channels_config",
        note: "",
        settings: &[
            row("message_timeout_secs", Whole(300, 1..=86_400), "the longest an answer may take, in seconds"),
        ],
    },
    Section {
        header: "channels_config.mattermost",
        note: "",
        settings: &[
            row("url", Other("required", "URL"), "the server, with its sub-path if it has one"),
            row("bot_token", Other("required", ""), "the bot's access token"),
            row("bot_token_file", Other("", "file"), "a file that holds the token, if there is no `bot_token`; it may begin with `$CREDENTIALS_DIRECTORY/`"),
            row("channel_id", Other("every channel", "id"), "answer in this channel only"),
            row("allowed_users", Other("`[]`", "ids"), "who is answered; `[]` is nobody, `[\"*\"]` everybody"),
            row("thread_replies", Flag(true), "`true`: answer in the message's thread; `false`: always in the channel itself, even to a message in a thread"),
            row("mention_only", Flag(false), "answer only when the bot is mentioned by its @name, but always in direct messages"),
            row("poll_interval_secs", Number(Some(1.0), 0.05..=3600.0), "the pause between two looks, in seconds"),
            row("follow_threads", Flag(false), "with `mention_only`: go on without a mention in threads where the bot already wrote"),
            row("answers_at_once", Whole(4, 1..=32), "answers made at the same time; 1 is one after the other"),
            row("stream_mode", Other("`\"off\"`", "`\"off\"`, `\"partial\"`"), "`\"partial\"`: an answer is shown while it grows"),
            row("draft_update_interval_ms", Whole(1000, 250..=60_000), "the shortest time between two changes of a growing answer, in milliseconds"),
            row("history_posts", Whole(20, 0..=200), "the most earlier posts that the model is told"),
            row("history_chars", Whole(16_000, 100..=10_000_000), "the most characters of question and history together; the question stays whole"),
            row("channel_context", Whole(0, 0..=200), "posts of the channel that the model is told with a question at its root"),
            row("read_programs", Flag(true), "the model is told what bots and webhooks posted in the thread"),
            row("file_chars", Whole(20_000, 0..=1_000_000), "characters of attached text files that the model is told, per message"),
            row("read_files", Other("", "table"), "a program per file type that makes text of a file: `\".pdf\" = [\"pdftotext\", \"-\", \"-\"]`"),
            row("catch_up_secs", Whole(86_400, 0..=31_536_000), "after an absence, messages older than this are not answered"),
            row("daily_limit", Whole(0, 0..=1_000_000), "answers per person and day; 0 is no limit"),
            row("daily_limit_all", Whole(0, 0..=1_000_000), "answers per day to all people together; 0 is no limit"),
            row("chat_commands", Flag(true), "`help`, `new`, `stop` and `model` in the chat are commands"),
            row("models", Other("`[]`", "list of names"), "the models that `model NAME` in the chat may choose"),
            row("system_prompt", Other("built in", ""), "who the model is; its name, the channel and today's date are added"),
            row("footer", Other("`[]`", "`\"model\"`, `\"time\"`, `\"tokens\"`"), "what stands below an answer, in small print"),
            row("allow_unsafe_links", Flag(false), "`true`: links in answers can be clicked and are previewed ([Safety](#safety))"),
            row("ca_file", Other("", "file"), "PEM roots for the Mattermost server, in place of the built-in ones"),
            row("state_dir", Other("the config file's folder", "folder"), "where the state file and its lock are"),
            row("channels", Other("", "table"), "what differs in some channels, see below"),
        ],
    },
    Section {
        header: "channels_config.mattermost.channels.ID",
        note: "for the channel of that id",
        settings: &[
            row("system_prompt", Other("as above", ""), ""),
            row("model", Other("`default_model`", ""), "the model in this channel"),
            row("model_parameters", Other("", "table"), "laid over those of the top"),
            row("mention_only", Other("as above", ""), ""),
            row("thread_replies", Other("as above", ""), ""),
            row("allowed_users", Other("as above", "ids"), ""),
            row("stream_mode", Other("as above", ""), ""),
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
