//! The values that Mattermost's API gives, cut down to the fields that are used.
//!
//! A field that a server leaves out or sends as `null` reads as its empty value: versions differ. Only
//! an object's id and a list's order must be there: without them it is not the API that answered.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{self, Fields, Odd};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ServerTime(pub u64);

impl<'de> Deserialize<'de> for ServerTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(ServerTime)
    }
}

impl ServerTime {
    /// This moment less `duration`, or the beginning of time.
    pub(crate) fn before(self, duration: std::time::Duration) -> ServerTime {
        ServerTime(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

/// A post. `type` is empty for a person's ordinary one and `me` for `/me`; anything else is not
/// something a person wrote.
#[derive(Clone, Debug, Default)]
pub struct Post {
    /// 26 letters and digits.
    pub id: PostId,
    /// When it was made.
    pub create_at: ServerTime,
    /// When anything about it last changed: text, reactions, a reply to it.
    pub update_at: ServerTime,
    /// Zero unless its text was changed.
    pub edit_at: ServerTime,
    /// Zero unless the post was deleted.
    pub delete_at: ServerTime,
    /// The account.
    pub user_id: UserId,
    /// Where it stands.
    pub channel_id: ChannelId,
    /// The thread's first post; empty for a top-level post.
    pub root_id: PostId,
    /// The text, in Markdown.
    pub message: String,
    /// As the API has it in `type`.
    pub kind: String,
    /// Its properties.
    pub props: Props,
    /// The ids of its files.
    pub file_ids: Vec<String>,
    /// What the server adds when it shows the post.
    pub metadata: Metadata,
    /// Set on a row that is the former text of an edited post.
    pub original_id: PostId,
    /// The connected server that it came from; empty: this one.
    pub remote_id: String,
    /// How many replies its thread has. Only single posts and pages have it.
    pub reply_count: u64,
}

impl Post {
    fn read(mut fields: Fields) -> Result<Post, Odd> {
        Ok(Post {
            id: PostId(fields.required("id")?),
            create_at: fields.time("create_at")?,
            update_at: fields.time("update_at")?,
            edit_at: fields.time("edit_at")?,
            delete_at: fields.time("delete_at")?,
            user_id: UserId(fields.text("user_id")?),
            channel_id: ChannelId(fields.text("channel_id")?),
            root_id: PostId(fields.text("root_id")?),
            message: fields.text("message")?,
            kind: fields.text("type")?,
            props: Props::read(fields.object("props")?),
            file_ids: fields.texts("file_ids")?,
            metadata: Metadata::read(fields.object("metadata")?)?,
            original_id: PostId(fields.text("original_id")?),
            remote_id: fields.text("remote_id")?,
            reply_count: fields.whole("reply_count")?,
        })
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

/// One of `props.attachments`, the boxes in which programs show what they have to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Stands above it.
    pub pretext: String,
    /// Whom it is from.
    pub author_name: String,
    /// The heading.
    pub title: String,
    /// Where the heading leads.
    pub title_link: String,
    /// The text, in Markdown.
    pub text: String,
    /// Title and value.
    pub fields: Vec<(String, String)>,
    /// Stands below it.
    pub footer: String,
    /// Shown where attachments are not.
    pub fallback: String,
}

impl Attachment {
    fn from_value(value: &Value) -> Attachment {
        let text = |value: &Value, name: &str| match &value[name] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => String::new(),
        };
        let fields = value["fields"].as_array().map(Vec::as_slice);
        let fields = fields.unwrap_or_default().iter();
        Attachment {
            pretext: text(value, "pretext"),
            author_name: text(value, "author_name"),
            title: text(value, "title"),
            title_link: text(value, "title_link"),
            text: text(value, "text"),
            fields: fields
                .map(|field| (text(field, "title"), text(field, "value")))
                .collect(),
            footer: text(value, "footer"),
            fallback: text(value, "fallback"),
        }
    }
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

impl PrxProps {
    fn read(mut fields: Fields) -> Result<PrxProps, Odd> {
        Ok(PrxProps {
            in_reply_to: PostId(fields.required("in_reply_to")?),
            part: fields.count("part")?,
            of: match fields.has("of") {
                true => fields.count("of")?,
                false => 1,
            },
            apology: fields.flag("apology")?,
            asked: fields.text("asked")?,
        })
    }
}

impl Props {
    fn read(mut fields: Fields) -> Props {
        const FROM: [&str; 4] = ["from_bot", "from_webhook", "from_plugin", "from_oauth_app"];
        let mut props = Props::default();
        for from in FROM {
            let value = fields.take(from);
            if value == "true" || value == true {
                props.from = Some(from);
            }
        }
        props.has_prx = fields.has("prx");
        if let Ok(mut prx) = fields.object("prx") {
            props.growing_for = prx.required("growing_for").ok().map(PostId);
            props.prx = PrxProps::read(prx).ok();
        }
        props.added_user_id = fields.required("addedUserId").ok().map(UserId);
        let names = ["override_username", "webhook_display_name"];
        let mut names = names
            .into_iter()
            .filter_map(|name| fields.required(name).ok());
        props.program_name = names.find(|name| !name.trim().is_empty());
        let attachments = fields.list("attachments").unwrap_or_default();
        props.attachments = attachments.iter().map(Attachment::from_value).collect();
        props
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

impl Metadata {
    fn read(mut fields: Fields) -> Result<Metadata, Odd> {
        Ok(Metadata {
            files: fields
                .objects("files")?
                .into_iter()
                .map(FileInfo::read)
                .collect::<Result<_, _>>()?,
            linked: linked(fields.objects("embeds")?)?,
        })
    }
}

/// A file attached to a post.
#[derive(Clone, Debug, Default)]
pub struct FileInfo {
    /// The file's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// What the name's ending says; the bytes may be something else.
    pub mime_type: String,
    /// In pixels, upright; 0 for what the server does not know as a picture.
    pub width: u64,
}

impl FileInfo {
    fn read(mut fields: Fields) -> Result<FileInfo, Odd> {
        Ok(FileInfo {
            id: fields.text("id")?,
            name: fields.text("name")?,
            size: fields.whole("size")?,
            mime_type: fields.text("mime_type")?,
            width: fields.whole("width")?,
        })
    }
}

/// The posts in a post's `embeds`, those of type `permalink`. Other embeds have other data.
fn linked(embeds: Vec<Fields>) -> Result<Vec<Post>, Odd> {
    let mut posts = Vec::new();
    for mut embed in embeds {
        if embed.text("type")? == "permalink"
            && let Ok(mut data) = embed.object("data")
            && let Ok(mut post) = data.object("post")
        {
            // A linked post has no embeds of its own.
            post.take("metadata");
            posts.extend(Post::read(post));
        }
    }
    Ok(posts)
}

/// Somebody's reaction to a post.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaction {
    /// The account.
    pub user_id: UserId,
    /// The post that it is on.
    pub post_id: PostId,
    /// Without colons.
    pub emoji_name: String,
}

impl Reaction {
    fn read(mut fields: Fields) -> Result<Reaction, Odd> {
        Ok(Reaction {
            user_id: UserId(fields.text("user_id")?),
            post_id: PostId(fields.text("post_id")?),
            emoji_name: fields.text("emoji_name")?,
        })
    }
}

/// A channel. `kind` is `O` (open), `P` (private), `D` (direct) or `G` (group).
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    /// 26 letters and digits.
    pub id: ChannelId,
    /// Empty for a direct channel.
    pub team_id: TeamId,
    /// As the API has it in `type`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The name that people see.
    pub display_name: String,
    /// When it was made.
    pub create_at: ServerTime,
    /// Zero unless the channel was archived.
    pub delete_at: ServerTime,
    /// When the newest post was made.
    pub last_post_at: ServerTime,
    /// How many posts there were.
    pub total_msg_count: u64,
    /// Other servers are connected to it.
    pub shared: bool,
}

impl Channel {
    fn read(mut fields: Fields) -> Result<Channel, Odd> {
        Ok(Channel {
            id: ChannelId(fields.required("id")?),
            team_id: TeamId(fields.text("team_id")?),
            kind: fields.text("type")?,
            name: fields.text("name")?,
            display_name: fields.text("display_name")?,
            create_at: fields.time("create_at")?,
            delete_at: fields.time("delete_at")?,
            last_post_at: fields.time("last_post_at")?,
            total_msg_count: fields.whole("total_msg_count")?,
            shared: fields.flag("shared")?,
        })
    }
}

impl Channel {
    /// Whether it is between two people.
    pub(crate) fn is_direct(&self) -> bool {
        self.kind == "D"
    }
}

/// A person or a bot.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// 26 letters and digits.
    pub id: UserId,
    /// Without the @.
    pub username: String,
    /// Whether it is a bot account.
    pub is_bot: bool,
    /// Zero unless the account was deactivated.
    pub delete_at: ServerTime,
    /// Space-separated system roles.
    pub roles: String,
}

impl User {
    fn read(mut fields: Fields) -> Result<User, Odd> {
        Ok(User {
            id: UserId(fields.required("id")?),
            username: fields.text("username")?,
            is_bot: fields.flag("is_bot")?,
            delete_at: fields.time("delete_at")?,
            roles: fields.text("roles")?,
        })
    }
}

/// A team.
#[derive(Clone, Debug, Default)]
pub(crate) struct Team {
    /// 26 letters and digits.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// The name that people see.
    pub display_name: String,
}

impl Team {
    fn read(mut fields: Fields) -> Result<Team, Odd> {
        Ok(Team {
            id: TeamId(fields.required("id")?),
            name: fields.text("name")?,
            display_name: fields.text("display_name")?,
        })
    }
}

macro_rules! deserialize_by_fields {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                fields::read(deserializer, $name::read)
            }
        }
    )*};
}

deserialize_by_fields!(Channel, Post, Reaction, Team, User);

/// A list of posts as the server sends it: ids in order, newest first, and the posts by id, among
/// them roots that are not in the order.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PostList {
    /// The posts' ids in the list's order.
    #[serde(deserialize_with = "nullable")]
    pub order: Vec<PostId>,
    /// In that order.
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

/// The values of a map of posts, in no order: each carries its own id. A row with the former text of an
/// edited post is no post: every edit leaves one, with a fresh id.
fn post_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Post>, D::Error> {
    struct Posts;
    impl<'de> Visitor<'de> for Posts {
        type Value = Vec<Post>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of posts")
        }

        fn visit_unit<E>(self) -> Result<Vec<Post>, E> {
            Ok(Vec::new())
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<Post>, M::Error> {
            let mut posts = Vec::new();
            while let Some((_, post)) = map.next_entry::<IgnoredAny, Post>()? {
                if post.original_id.is_empty() {
                    posts.push(post);
                }
            }
            Ok(posts)
        }
    }
    deserializer.deserialize_any(Posts)
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
