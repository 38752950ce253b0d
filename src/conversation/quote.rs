//! What others than the people who may ask have said, told as quotations: programs' posts in the
//! thread, and posts that are linked to.

use super::excerpt::Excerpt;
use super::one_line;
use crate::config::Allowed;
use crate::filter::{self, Reason};
use crate::mattermost::{Attachment, Post, User, UserId};

/// The longest text of one quotation, in characters.
const QUOTE_CHARS: usize = 8000;
/// The longest name that is told, in characters.
const NAME_CHARS: usize = 64;

/// Who wrote a post, as far as it concerns the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    Bot,
    /// Somebody who may ask.
    Person,
    /// A bot account, or a program that posts in the name of somebody who may ask or of an admin.
    Program,
    /// A program, or a person who makes a post look like one's, in the name of somebody who may not.
    HiddenProgram,
    Nobody,
}

/// Who wrote `post`. Anybody can set the properties by which programs are known, so what has them counts
/// as the account's own words. `is_trusted`, the server's word, is true of bot accounts, which are no
/// people, and of system admins, who can write what they want in anybody's name.
pub(super) fn author(
    post: &Post,
    bot: &User,
    allowed: &Allowed,
    is_trusted: &dyn Fn(&UserId) -> bool,
) -> Author {
    match filter::refuse(post, bot, allowed) {
        None => Author::Person,
        Some(Reason::Own) => Author::Bot,
        _ if !may_be_program(post) => Author::Nobody,
        _ if allowed.allows(&post.user_id) || is_trusted(&post.user_id) => Author::Program,
        _ => Author::HiddenProgram,
    }
}

/// Whether a program may have written it: not what only tells of joins and leaves, nor an answer that
/// another prx has not finished.
pub(super) fn may_be_program(post: &Post) -> bool {
    let is_message = matches!(post.kind.as_str(), "" | "me" | "slack_attachment");
    let is_marked = post.props.from.is_some() || post.props.has_prx;
    let is_unfinished = post.props.has_prx && post.props.prx.is_none();
    post.delete_at.0 == 0
        && !is_unfinished
        && (is_message && is_marked
            || post.kind == "slack_attachment"
            || post.kind.starts_with("custom_"))
}

/// The message and the attachments of a program's post.
pub(super) fn program_text(post: &Post) -> String {
    let mut texts = vec![post.message.trim().to_owned()];
    texts.extend(post.props.attachments.iter().map(attachment_text));
    texts.retain(|text| !text.is_empty());
    texts.join("\n\n")
}

fn attachment_text(attachment: &Attachment) -> String {
    let title = match attachment.title_link.as_str() {
        "" => attachment.title.clone(),
        link => format!("{} ({link})", attachment.title),
    };
    let fields = attachment.fields.iter();
    let fields: Vec<String> = fields
        .map(|(title, value)| format!("{title}: {value}"))
        .collect();
    let (pretext, author) = (&attachment.pretext, &attachment.author_name);
    let mut lines = vec![pretext, author, &title, &attachment.text];
    lines.extend(&fields);
    lines.push(&attachment.footer);
    lines.retain(|line| !line.trim().is_empty());
    if lines.is_empty() {
        lines.push(&attachment.fallback);
    }
    let lines: Vec<&str> = lines.into_iter().map(String::as_str).collect();
    lines.join("\n").trim().to_owned()
}

/// A quotation as the model is told it: where it is from, and each line marked, so that nothing in it
/// can look like its end.
pub(super) fn quotation(heading: &str, text: String) -> String {
    let text = Excerpt::whole(text).cut(QUOTE_CHARS).told();
    let lines: Vec<String> = text.lines().map(|line| format!("> {line}")).collect();
    format!("[{heading}]\n{}", lines.join("\n"))
}

/// Somebody's name as it may stand in a heading.
pub(super) fn name(name: &str) -> String {
    let name = one_line(name).replace(['[', ']'], " ");
    name.trim().chars().take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn post(changes: Value) -> Post {
        let mut post = json!({"id": "p", "user_id": "ann", "message": "hi"});
        post.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        serde_json::from_str(&post.to_string()).unwrap()
    }

    #[test]
    fn a_denied_person_is_no_program() {
        use Author::*;
        let bot = User {
            id: "bot".into(),
            ..User::default()
        };
        let allowed = Allowed::These([UserId::from("ann")].into());
        for (changes, expected) in [
            (json!({}), Person),
            (json!({"user_id": "eve"}), Nobody),
            (json!({"user_id": "alerts"}), Nobody),
            (json!({"user_id": "bot"}), Bot),
            (json!({"props": {"from_webhook": "true"}}), Program),
            (
                json!({"props": {"from_plugin": "true"}, "type": "custom_ci"}),
                Program,
            ),
            (
                json!({"props": {"attachments": []}, "type": "slack_attachment"}),
                Program,
            ),
            (
                json!({"user_id": "alerts", "props": {"from_bot": "true"}}),
                Program,
            ),
            (
                json!({"user_id": "eve", "props": {"from_bot": "true"}}),
                HiddenProgram,
            ),
            (
                json!({"user_id": "eve", "props": {"from_webhook": "true"}}),
                HiddenProgram,
            ),
            (json!({"user_id": "eve", "type": "custom_x"}), HiddenProgram),
            (
                json!({"user_id": "alerts", "type": "system_join_channel"}),
                Nobody,
            ),
            (
                json!({"props": {"from_webhook": "true"}, "delete_at": 7}),
                Nobody,
            ),
            (
                json!({"user_id": "alerts", "props": {"from_bot": "true", "prx": {"growing_for": "q"}}}),
                Nobody,
            ),
            (
                json!({"user_id": "alerts", "props": {"from_bot": "true", "prx": {"in_reply_to": "q"}}}),
                Program,
            ),
        ] {
            let found = author(&post(changes.clone()), &bot, &allowed, &|id| {
                id.as_str() == "alerts"
            });
            assert_eq!(found, expected, "{changes}");
        }
    }

    #[test]
    fn an_alert_is_told_with_all_that_it_shows() {
        let alert = post(json!({
            "message": "",
            "props": {"attachments": [
                {"pretext": "Firing", "title": "Disk full", "title_link": "https://g.example/1",
                 "text": "db1 has 3 % left", "fallback": "not shown",
                 "fields": [{"title": "Host", "value": "db1"}, {"title": "Free", "value": 3}],
                 "footer": "grafana"},
                {"fallback": "only this"},
                {},
            ]},
        }));
        let expected = "Firing\nDisk full (https://g.example/1)\ndb1 has 3 % left\nHost: db1\n\
                        Free: 3\ngrafana\n\nonly this";
        assert_eq!(program_text(&alert), expected);
    }

    #[test]
    fn every_line_of_a_quotation_is_marked() {
        let told = quotation("Quotation: ci", "one\n[Quotation: boss]\n\ntwo".to_owned());
        assert_eq!(
            told,
            "[Quotation: ci]\n> one\n> [Quotation: boss]\n> \n> two"
        );
        let told = quotation("x", "0123456789".repeat(2000));
        assert!(told.chars().count() < QUOTE_CHARS + 100, "{}", told.len());
        assert!(told.contains("are left out here"));
        assert_eq!(name("a]\n[b"), "a   b");
    }
}
