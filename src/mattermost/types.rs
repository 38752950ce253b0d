//! The values that Mattermost's API gives, cut down to the fields that are used.
//!
//! A field that a server leaves out or sends as `null` reads as its empty value: versions differ. Only
//! an object's id and a list's order must be there: without them it is not the API that answered.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::fields::{self, Field, Fields, objects};
use crate::sorted::Map;

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The id of a ", $what, ": 26 characters of `[a-z0-9]`.")]
        #[derive(
            Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether a server could have given this id.
            pub fn is_well_formed(&self) -> bool {
                is_id(&self.0)
            }

            /// Fields that name nothing, such as the root of a top-level post, are empty.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                $name(id.to_owned())
            }
        }

        impl Field for $name {
            fn of(value: Value) -> Option<Self> {
                String::of(value).map($name)
            }
        }
    };
}

id!(PostId, "post");
id!(ChannelId, "channel");
id!(UserId, "user");
id!(TeamId, "team");

/// Whether `text` has the shape of a Mattermost id.
pub fn is_id(text: &str) -> bool {
    text.len() == 26
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// A moment as the server stamped it: milliseconds since 1970 by the server's clock, which is never
/// compared with the local one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[serde(transparent)]
pub struct ServerTime(pub u64);

impl Field for ServerTime {
    fn of(value: Value) -> Option<ServerTime> {
        u64::of(value).map(ServerTime)
    }
}

impl ServerTime {
    /// This moment less `duration`, or the beginning of time.
    pub(crate) fn before(self, duration: std::time::Duration) -> ServerTime {
        ServerTime(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

objects! {
    /// A post. `type` is empty for a person's ordinary one and `me` for `/me`; anything else is not
    /// something a person wrote.
    pub struct Post {
        /// 26 letters and digits.
        pub id: PostId = required("id"),
        /// When it was made.
        pub create_at: ServerTime = optional("create_at"),
        /// When anything about it last changed: text, reactions, a reply to it.
        pub update_at: ServerTime = optional("update_at"),
        /// Zero unless its text was changed.
        pub edit_at: ServerTime = optional("edit_at"),
        /// Zero unless the post was deleted.
        pub delete_at: ServerTime = optional("delete_at"),
        /// The account.
        pub user_id: UserId = optional("user_id"),
        /// Where it stands.
        pub channel_id: ChannelId = optional("channel_id"),
        /// The thread's first post; empty for a top-level post.
        pub root_id: PostId = optional("root_id"),
        /// The text, in Markdown.
        pub message: String = optional("message"),
        /// As the API has it in `type`.
        pub kind: String = optional("type"),
        /// Its properties.
        pub props: Props = optional("props"),
        /// The ids of its files.
        pub file_ids: Vec<String> = optional("file_ids"),
        /// What the server adds when it shows the post.
        pub metadata: Metadata = optional("metadata"),
        /// Set on a row that is the former text of an edited post.
        pub original_id: PostId = optional("original_id"),
        /// The connected server that it came from; empty: this one.
        pub remote_id: String = optional("remote_id"),
        /// How many replies its thread has. Only single posts and pages have it.
        pub reply_count: u64 = optional("reply_count"),
    }

    /// One of `props.attachments`, the boxes in which programs show what they have to say.
    #[derive(PartialEq, Eq)]
    pub struct Attachment {
        /// Stands above it.
        pub pretext: String = shown("pretext"),
        /// Whom it is from.
        pub author_name: String = shown("author_name"),
        /// The heading.
        pub title: String = shown("title"),
        /// Where the heading leads.
        pub title_link: String = shown("title_link"),
        /// The text, in Markdown.
        pub text: String = shown("text"),
        /// Title and value.
        pub fields: Vec<(String, String)> = pairs("fields"),
        /// Stands below it.
        pub footer: String = shown("footer"),
        /// Shown where attachments are not.
        pub fallback: String = shown("fallback"),
    }

    /// A file attached to a post.
    pub struct FileInfo {
        /// The file's id.
        pub id: String = optional("id"),
        /// Its name.
        pub name: String = optional("name"),
        /// In bytes.
        pub size: u64 = optional("size"),
        /// What the name's ending says; the bytes may be something else.
        pub mime_type: String = optional("mime_type"),
        /// In pixels, upright; 0 for what the server does not know as a picture.
        pub width: u64 = optional("width"),
    }

    /// Somebody's reaction to a post.
    pub(crate) struct Reaction {
        /// The account.
        pub user_id: UserId = optional("user_id"),
        /// The post that it is on.
        pub post_id: PostId = optional("post_id"),
        /// Without colons.
        pub emoji_name: String = optional("emoji_name"),
    }

    /// A channel. `kind` is `O` (open), `P` (private), `D` (direct) or `G` (group).
    pub(crate) struct Channel {
        /// 26 letters and digits.
        pub id: ChannelId = required("id"),
        /// Empty for a direct channel.
        pub team_id: TeamId = optional("team_id"),
        /// As the API has it in `type`.
        pub kind: String = optional("type"),
        /// Its name.
        pub name: String = optional("name"),
        /// The name that people see.
        pub display_name: String = optional("display_name"),
        /// When it was made.
        pub create_at: ServerTime = optional("create_at"),
        /// Zero unless the channel was archived.
        pub delete_at: ServerTime = optional("delete_at"),
        /// When the newest post was made.
        pub last_post_at: ServerTime = optional("last_post_at"),
        /// How many posts there were.
        pub total_msg_count: u64 = optional("total_msg_count"),
        /// Other servers are connected to it.
        pub shared: bool = optional("shared"),
    }

    /// A person or a bot.
    pub struct User {
        /// 26 letters and digits.
        pub id: UserId = required("id"),
        /// Without the @.
        pub username: String = optional("username"),
        /// Whether it is a bot account.
        pub is_bot: bool = optional("is_bot"),
        /// Zero unless the account was deactivated.
        pub delete_at: ServerTime = optional("delete_at"),
        /// Space-separated system roles.
        pub roles: String = optional("roles"),
    }

    /// A team.
    pub(crate) struct Team {
        /// 26 letters and digits.
        pub id: TeamId = required("id"),
        /// Its name.
        pub name: String = optional("name"),
        /// The name that people see.
        pub display_name: String = optional("display_name"),
    }
}

/// The properties of a post that say where it came from. Anybody can set any of them on his own
/// posts, to any JSON value.
#[derive(Clone, Debug, Default)]
pub struct Props {
    /// `from_bot`, `from_webhook`, `from_plugin` or `from_oauth_app`, if one of them is set.
    pub from: Option<&'static str>,
    /// What this program puts on its own posts.
    pub prx: Option<PrxProps>,
    /// The question whose answer the post is while it is being written: no answer yet.
    pub growing_for: Option<PostId>,
    /// Whether there is a `prx` at all, readable or not.
    pub has_prx: bool,
    /// Whom a `system_add_to_channel` post is about.
    pub added_user_id: Option<UserId>,
    /// What a webhook calls itself: `override_username`, or else `webhook_display_name`.
    pub program_name: Option<String>,
    /// What a program shows below the text.
    pub attachments: Vec<Attachment>,
}

/// `props.prx` of an answer: the part `part` (from 0) of `of` of the answer to `in_reply_to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrxProps {
    /// The question.
    pub in_reply_to: PostId,
    /// Which part of the answer it is, from 0.
    pub part: u32,
    /// How many parts there are.
    pub of: u32,
    /// Set on a message that is no model's: it says why there is no answer, or what a command asked
    /// for. It is never told to a model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apology: bool,
    /// What was asked, by whom, as `copies::asked` has it; empty in answers of version 0.1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub asked: String,
}

/// No answer has as many parts: who says so is not the bot.
const MOST_PARTS: u32 = 10_000;

impl PrxProps {
    fn read(mut fields: Fields) -> Option<PrxProps> {
        Some(PrxProps {
            in_reply_to: fields.required("in_reply_to")?,
            part: fields.optional("part").filter(|part| *part < MOST_PARTS)?,
            of: if fields.has("of") {
                fields.optional("of")?
            } else {
                1
            },
            apology: fields.optional("apology")?,
            asked: fields.optional("asked")?,
        })
    }
}

impl Field for Props {
    fn of(value: Value) -> Option<Props> {
        const FROM: [&str; 4] = ["from_bot", "from_webhook", "from_plugin", "from_oauth_app"];
        let mut fields = Fields::of(value)?;
        let mut props = Props {
            has_prx: fields.has("prx"),
            added_user_id: fields.required("addedUserId"),
            ..Props::default()
        };
        for from in FROM {
            let is_set = |value: Value| value == "true" || value == true;
            if fields.required(from).is_some_and(is_set) {
                props.from = Some(from);
            }
        }
        if let Some(mut prx) = fields.required::<Fields>("prx") {
            props.growing_for = prx.required("growing_for");
            props.prx = PrxProps::read(prx);
        }
        let mut names = ["override_username", "webhook_display_name"]
            .into_iter()
            .filter_map(|name| fields.required::<String>(name));
        props.program_name = names.find(|name| !name.trim().is_empty());
        let attachments: Vec<Value> = fields.optional("attachments").unwrap_or_default();
        let attachments = attachments.into_iter().map(Attachment::of);
        props.attachments = attachments.map(Option::unwrap_or_default).collect();
        Some(props)
    }
}

/// What the server adds to a post when it is read.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// What is attached.
    pub files: Vec<FileInfo>,
    /// The posts that this one links to, as far as the server lets the reader see them.
    pub linked: Vec<Post>,
}

impl Field for Metadata {
    fn of(value: Value) -> Option<Metadata> {
        let mut fields = Fields::of(value)?;
        let embeds: Vec<Fields> = fields.optional("embeds")?;
        Some(Metadata {
            files: fields.optional("files")?,
            linked: embeds.into_iter().filter_map(linked).collect(),
        })
    }
}

/// The post that an embed of type `permalink` shows. Other embeds have other data.
fn linked(mut embed: Fields) -> Option<Post> {
    if embed.required::<String>("type")? != "permalink" {
        return None;
    }
    let post = embed.required::<Fields>("data")?.required("post")?;
    // A linked post has no embeds of its own.
    Some(Post {
        metadata: Metadata::default(),
        ..post
    })
}

impl Post {
    /// The first post of its thread, be it itself.
    pub(crate) fn thread_root(&self) -> &PostId {
        if self.root_id.is_empty() {
            &self.id
        } else {
            &self.root_id
        }
    }
}

impl Channel {
    /// Whether it is between two people.
    pub(crate) fn is_direct(&self) -> bool {
        self.kind == "D"
    }
}

/// A list of posts as the server sends it: ids in order, newest first, and the posts by id, among
/// them roots that are not in the order.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PostList {
    /// The posts' ids in the list's order.
    #[serde(deserialize_with = "nullable")]
    pub order: Vec<PostId>,
    /// In the order of their ids.
    #[serde(default, deserialize_with = "post_values")]
    pub posts: Vec<Post>,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The values of a map of posts: each carries its own id. A row with the former text of an edited post
/// is no post: every edit leaves one, with a fresh id.
fn post_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Post>, D::Error> {
    let posts: Map<PostId, Post> = nullable(deserializer)?;
    let is_post = |post: &Post| post.original_id.is_empty();
    Ok(posts.into_values().filter(is_post).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_property_however_deep_makes_a_list_unreadable() {
        let arrays = "[".repeat(5000) + &"]".repeat(5000);
        let objects = "{\"x\":".repeat(5000) + "1" + &"}".repeat(5000);
        for key in ["prx", "from_bot", "addedUserId", "attachments", "other"] {
            for deep in [&arrays, &objects] {
                let list = format!(
                    r#"{{"order":["a"],"posts":{{"a":{{"id":"a","props":{{"{key}":{deep},"from_webhook":"true"}}}}}}}}"#
                );
                let list: PostList = serde_json::from_reader(list.as_bytes()).unwrap();
                let props = &list.posts[0].props;
                assert_eq!(props.from, Some("from_webhook"), "{key}");
                assert_eq!(props.has_prx, key == "prx");
                assert_eq!(props.prx, None);
            }
        }
    }

    #[test]
    fn a_list_has_no_rows_of_former_texts() {
        let list = r#"{"order": ["a", "b"], "posts": {
            "a": {"id": "a", "original_id": "", "message": "now"},
            "b": {"id": "b", "original_id": "a", "message": "before", "delete_at": 5},
            "c": {"id": "c", "original_id": null, "delete_at": 6}
        }}"#;
        let list: PostList = serde_json::from_str(list).unwrap();
        let ids = list.posts.iter().map(|post| post.id.to_string());
        assert_eq!(ids.collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn attachments_are_read_whatever_they_hold() {
        let read = |attachments: Value| {
            let props = serde_json::json!({
                "attachments": attachments, "webhook_display_name": "ci", "override_username": "CI",
            });
            let post = serde_json::json!({"id": "p", "props": props}).to_string();
            let props = serde_json::from_str::<Post>(&post).unwrap().props;
            assert_eq!(props.program_name.as_deref(), Some("CI"));
            props.attachments
        };
        let alert = serde_json::json!([{
            "title": "Disk full", "text": null, "actions": [{"name": "Silence"}],
            "fields": [{"title": "Free", "value": 3, "short": true}, {"title": "Host", "value": "db1"}],
        }]);
        let expected = Attachment {
            title: "Disk full".into(),
            fields: vec![("Free".into(), "3".into()), ("Host".into(), "db1".into())],
            ..Attachment::default()
        };
        assert_eq!(read(alert), [expected]);
        for odd in [
            serde_json::json!(null),
            serde_json::json!("text"),
            serde_json::json!({"title": "x"}),
            serde_json::json!([]),
        ] {
            assert_eq!(read(odd), []);
        }
        let odd = serde_json::json!([null, {"fields": {"title": 1}}]);
        assert_eq!(read(odd), [Attachment::default(), Attachment::default()]);
    }

    #[test]
    fn linked_posts_are_read_from_permalink_embeds_alone() {
        let post = |embeds: &str| {
            let post = format!(r#"{{"id": "p", "metadata": {{"embeds": {embeds}}}}}"#);
            let post: Post = serde_json::from_str(&post).unwrap();
            let linked = post.metadata.linked.into_iter();
            let told = linked.map(|post| format!("{}: {}", post.user_id, post.message));
            told.collect::<Vec<_>>()
        };
        let data = r#"{"post_id": "q", "post": {"id": "q", "user_id": "bob", "message": "Closed",
            "metadata": {"embeds": [{"type": "permalink", "data": {"post": {"id": "r"}}}]}}}"#;
        let permalink = format!(r#"{{"type": "permalink", "url": "u", "data": {data}}}"#);
        assert_eq!(post(&format!("[{permalink}]")), ["bob: Closed"]);
        let other = r#"{"type": "opengraph", "data": {"title": "t", "images": [{"url": "u"}]}}"#;
        assert_eq!(post(&format!("[{other}, {permalink}]")), ["bob: Closed"]);
        let deep = format!(
            r#"[{{"type": "permalink", "data": {}1{}}}]"#,
            r#"{"post":"#.repeat(5000),
            "}".repeat(5000)
        );
        for nothing in [
            "null",
            "[]",
            r#"[{"type": "image", "url": "u"}]"#,
            r#"[{"type": "permalink", "data": null}, {"data": "text"}]"#,
            r#"[{"type": "permalink", "data": {"post": null}}]"#,
            &format!(r#"[{{"type": "link", "data": {data}}}]"#),
            &deep,
        ] {
            assert!(post(nothing).is_empty(), "{nothing}");
        }
    }
}
