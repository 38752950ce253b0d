//! Post → verdict: is it for the bot, and if not, why not. No network, no clock, no files.

use std::fmt;

use crate::config::{Allowed, ChannelSettings, MattermostSettings};
use crate::mattermost::{Post, User, mention};
use crate::words::{self, Word};

/// What is to happen with a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is for the bot.
    Answer,
    /// Answer if the bot already wrote in the post's thread (`follow_threads`).
    IfFollowed,
    /// It is a command (`chat_commands`), not a question.
    Word(Word),
    /// It gets no answer.
    Ignore(Reason),
}

/// Why a post gets no answer, in the order in which the reasons are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It was deleted.
    Deleted,
    /// The bot wrote it.
    Own,
    /// Its `type` says that no person wrote it.
    NotAMessage,
    /// The property that says which program wrote it.
    Automated(&'static str),
    /// Its author is not in `allowed_users`.
    NotAllowed,
    /// It does not mention the bot, and had to.
    NotAddressed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Deleted => f.write_str("it was deleted"),
            Reason::Own => f.write_str("the bot wrote it"),
            Reason::NotAMessage => f.write_str("it is a system or plugin message"),
            Reason::Automated(property) => write!(f, "a program wrote it (props.{property})"),
            Reason::NotAllowed => f.write_str("its author is not in allowed_users"),
            Reason::NotAddressed => f.write_str("it does not mention the bot (mention_only)"),
        }
    }
}

/// Decides on one post. `direct`: its channel is a direct one, where no mention is needed.
pub(crate) fn verdict(
    post: &Post,
    direct: bool,
    bot: &User,
    settings: &MattermostSettings,
) -> Verdict {
    let channel = settings.channel(&post.channel_id);
    match decide(post, direct, bot, channel, settings.follow_threads) {
        Verdict::Answer if settings.chat_commands => {
            let word = words::word(post, direct, bot);
            word.map_or(Verdict::Answer, Verdict::Word)
        }
        verdict => verdict,
    }
}

/// The word that an earlier post was, for what was said before a question.
pub(crate) fn earlier_word(
    post: &Post,
    direct: bool,
    bot: &User,
    settings: &MattermostSettings,
) -> Option<Word> {
    let allowed = &settings.channel(&post.channel_id).allowed_users;
    if !settings.chat_commands || refuse(post, bot, allowed).is_some() {
        return None;
    }
    words::word(post, direct, bot)
}

fn decide(
    post: &Post,
    direct: bool,
    bot: &User,
    channel: &ChannelSettings,
    follow_threads: bool,
) -> Verdict {
    if let Some(reason) = refuse(post, bot, &channel.allowed_users) {
        return Verdict::Ignore(reason);
    }
    if !channel.mention_only || direct || mention::mentions(&post.message, &bot.username) {
        return Verdict::Answer;
    }
    let for_another = mention::opens_with_other(&post.message, &bot.username);
    if follow_threads && !post.root_id.is_empty() && !for_another {
        return Verdict::IfFollowed;
    }
    Verdict::Ignore(Reason::NotAddressed)
}

/// Why a post must not reach the model, not even as context; nothing if it may.
pub(crate) fn refuse(post: &Post, bot: &User, allowed: &Allowed) -> Option<Reason> {
    if post.delete_at.0 > 0 {
        Some(Reason::Deleted)
    } else if post.user_id == bot.id {
        Some(Reason::Own)
    } else if !matches!(post.kind.as_str(), "" | "me") {
        Some(Reason::NotAMessage)
    } else if let Some(property) = post.props.from {
        Some(Reason::Automated(property))
    } else if post.props.has_prx {
        Some(Reason::Automated("prx"))
    } else if !allowed.allows(&post.user_id) {
        Some(Reason::NotAllowed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mattermost::{ServerTime, UserId};
    use serde_json::{Value, json};

    fn bot() -> User {
        User {
            id: "bot".into(),
            username: "prxbot".into(),
            ..User::default()
        }
    }

    fn settings(mention_only: bool, allowed: &[&str]) -> ChannelSettings {
        let users = allowed.iter().map(|id| UserId::from(*id)).collect();
        ChannelSettings {
            allowed_users: if allowed == ["*"] {
                Allowed::Everybody
            } else {
                Allowed::These(users)
            },
            thread_replies: true,
            mention_only,
            ..ChannelSettings::default()
        }
    }

    fn post(changes: Value) -> Post {
        let mut post =
            json!({"id": "p", "user_id": "ann", "channel_id": "c", "message": "hi", "type": ""});
        post.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        serde_json::from_value(post).unwrap()
    }

    #[test]
    fn the_first_reason_in_the_order_decides() {
        use Reason::*;
        let cases: &[(Value, Option<Reason>)] = &[
            (json!({}), None),
            (json!({"type": "me", "message": "*waves*"}), None),
            (json!({"props": {"from_bot": "false"}}), None),
            (
                json!({"props": null, "metadata": null, "root_id": null}),
                None,
            ),
            (
                json!({"create_at": -1, "update_at": 1.5e300, "delete_at": -0.5}),
                None,
            ),
            (json!({"delete_at": 5, "user_id": "bot"}), Some(Deleted)),
            (json!({"user_id": "bot", "type": "system_x"}), Some(Own)),
            (
                json!({"type": "system_join_channel", "props": {"from_bot": "true"}}),
                Some(NotAMessage),
            ),
            (json!({"type": "custom_poll"}), Some(NotAMessage)),
            (
                json!({"props": {"from_bot": "true"}, "user_id": "eve"}),
                Some(Automated("from_bot")),
            ),
            (
                json!({"props": {"from_webhook": "true"}}),
                Some(Automated("from_webhook")),
            ),
            (
                json!({"props": {"from_plugin": true}}),
                Some(Automated("from_plugin")),
            ),
            (
                json!({"props": {"from_oauth_app": "true"}}),
                Some(Automated("from_oauth_app")),
            ),
            (
                json!({"props": {"prx": {"in_reply_to": "x"}}}),
                Some(Automated("prx")),
            ),
            (json!({"props": {"prx": 7}}), Some(Automated("prx"))),
            (json!({"user_id": "eve"}), Some(NotAllowed)),
        ];
        for (changes, expected) in cases {
            let found = decide(
                &post(changes.clone()),
                false,
                &bot(),
                &settings(false, &["ann"]),
                false,
            );
            let expected = expected.map_or(Verdict::Answer, Verdict::Ignore);
            assert_eq!(found, expected, "{changes}");
        }
    }

    #[test]
    fn an_empty_list_allows_nobody_and_a_star_everybody() {
        let eve = post(json!({"user_id": "eve"}));
        let refused =
            |allowed: &[&str]| refuse(&eve, &bot(), &settings(false, allowed).allowed_users);
        assert_eq!(refused(&[]), Some(Reason::NotAllowed));
        assert_eq!(refused(&["*"]), None);
    }

    #[test]
    fn with_mention_only_the_bot_must_be_addressed() {
        use Verdict::*;
        let ignore = Ignore(Reason::NotAddressed);
        let cases: &[(&str, &str, bool, bool, Verdict)] = &[
            // message, root, direct, follow_threads, verdict
            ("hello", "", false, false, ignore),
            ("hello @prxbot", "", false, false, Answer),
            ("hello", "", true, false, Answer),
            ("hello", "r", false, false, ignore),
            ("hello", "r", false, true, IfFollowed),
            ("hello", "", false, true, ignore),
            ("@bob hello", "r", false, true, ignore),
            ("@bob and @prxbot", "r", false, true, Answer),
        ];
        for &(message, root, direct, follow, expected) in cases {
            let post = post(json!({"message": message, "root_id": root}));
            let found = decide(&post, direct, &bot(), &settings(true, &["*"]), follow);
            assert_eq!(found, expected, "{message:?} root {root:?}");
        }
    }

    #[test]
    fn times_that_a_server_leaves_out_are_zero() {
        assert_eq!(post(json!({})).create_at, ServerTime(0));
    }
}
