//! The values that Mattermost's API gives, cut down to the fields that are used.
//!
//! A field that a server leaves out or sends as `null` reads as its empty value: versions differ. Only
//! an object's id and a list's order must be there: without them it is not the API that answered.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
        whole(deserializer).map(ServerTime)
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
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Post {
    /// 26 letters and digits.
    pub id: PostId,
    /// When it was made.
    #[serde(default, deserialize_with = "nullable")]
    pub create_at: ServerTime,
    /// When anything about it last changed: text, reactions, a reply to it.
    #[serde(default, deserialize_with = "nullable")]
    pub update_at: ServerTime,
    /// Zero unless its text was changed.
    #[serde(default, deserialize_with = "nullable")]
    pub edit_at: ServerTime,
    /// Zero unless the post was deleted.
    #[serde(default, deserialize_with = "nullable")]
    pub delete_at: ServerTime,
    /// The account.
    #[serde(default, deserialize_with = "nullable")]
    pub user_id: UserId,
    /// Where it stands.
    #[serde(default, deserialize_with = "nullable")]
    pub channel_id: ChannelId,
    /// The thread's first post; empty for a top-level post.
    #[serde(default, deserialize_with = "nullable")]
    pub root_id: PostId,
    /// The text, in Markdown.
    #[serde(default, deserialize_with = "nullable")]
    pub message: String,
    /// As the API has it in `type`.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// Its properties.
    #[serde(default, deserialize_with = "nullable")]
    pub props: Props,
    /// The ids of its files.
    #[serde(default, deserialize_with = "nullable")]
    pub file_ids: Vec<String>,
    /// What the server adds when it shows the post.
    #[serde(default, deserialize_with = "nullable")]
    pub metadata: Metadata,
    /// Set on a row that is the former text of an edited post.
    #[serde(default, deserialize_with = "nullable")]
    pub original_id: PostId,
    /// The connected server that it came from; empty: this one.
    #[serde(default, deserialize_with = "nullable")]
    pub remote_id: String,
    /// How many replies its thread has. Only single posts and pages have it.
    #[serde(default, deserialize_with = "whole")]
    pub reply_count: u64,
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PrxProps {
    /// The question.
    pub in_reply_to: PostId,
    /// Which part of the answer it is, from 0.
    #[serde(default)]
    pub part: u32,
    /// How many parts there are.
    #[serde(default = "one")]
    pub of: u32,
    /// Set on a message that is no model's: it says why there is no answer, or what a command asked
    /// for. It is never told to a model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apology: bool,
    /// What was asked, by whom, as `copies::asked` has it; empty in answers of version 0.1.
    #[serde(
        deserialize_with = "nullable",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub asked: String,
}

fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for Props {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropsVisitor;
        impl<'de> Visitor<'de> for PropsVisitor {
            type Value = Props;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a post's props")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Props, M::Error> {
                const FROM: [&str; 4] =
                    ["from_bot", "from_webhook", "from_plugin", "from_oauth_app"];
                let mut props = Props::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    if let Some(from) = FROM.into_iter().find(|from| *from == key) {
                        let value = map.next_value_seed(Shallow { depth: 0 })?;
                        if value == "true" || value == true {
                            props.from = Some(from);
                        }
                    } else if key == "prx" {
                        let value = map.next_value_seed(Shallow { depth: 1 })?;
                        props.has_prx = true;
                        let growing = value.get("growing_for").and_then(Value::as_str);
                        props.growing_for = growing.map(PostId::from);
                        if value.is_object() {
                            props.prx = PrxProps::deserialize(value).ok();
                        }
                    } else if key == "addedUserId" {
                        let value = map.next_value_seed(Shallow { depth: 0 })?;
                        props.added_user_id = value.as_str().map(UserId::from);
                    } else if key == "override_username" || key == "webhook_display_name" {
                        let is_shown = key == "override_username";
                        let value = map.next_value_seed(Shallow { depth: 0 })?;
                        let name = value.as_str().filter(|name| !name.trim().is_empty());
                        if name.is_some() && (is_shown || props.program_name.is_none()) {
                            props.program_name = name.map(str::to_owned);
                        }
                    } else if key == "attachments" {
                        let value = map.next_value_seed(Shallow { depth: 4 })?;
                        let list = value.as_array().map(Vec::as_slice);
                        let list = list.unwrap_or_default().iter();
                        props.attachments = list.map(Attachment::from_value).collect();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(props)
            }
        }
        deserializer.deserialize_map(PropsVisitor)
    }
}

/// Reads any JSON value; arrays and objects below more than `depth` others as null. A `Value` of a
/// property that is nested 128 deep is an error, and one such post would make its list unreadable.
struct Shallow {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Shallow {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Value, S::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Shallow { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key()? {
            fields.insert(key, map.next_value_seed(Shallow { depth })?);
        }
        Ok(Value::Object(fields))
    }
}

/// What the server adds to a post when it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// What is attached.
    #[serde(deserialize_with = "nullable")]
    pub files: Vec<FileInfo>,
    /// The posts that this one links to, as far as the server lets the reader see them.
    #[serde(rename = "embeds", deserialize_with = "linked_posts")]
    pub linked: Vec<Post>,
}

/// A file attached to a post.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileInfo {
    /// The file's id.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// In bytes.
    #[serde(deserialize_with = "whole")]
    pub size: u64,
    /// What the name's ending says; the bytes may be something else.
    #[serde(deserialize_with = "nullable")]
    pub mime_type: String,
    /// In pixels, upright; 0 for what the server does not know as a picture.
    #[serde(deserialize_with = "whole")]
    pub width: u64,
}

/// The posts in a post's `embeds`, those of type `permalink`. They have no embeds of their own.
fn linked_posts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Post>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Embed {
        #[serde(rename = "type", deserialize_with = "nullable")]
        kind: String,
        #[serde(deserialize_with = "linked_post")]
        data: Option<LinkedPost>,
    }
    let embeds = Option::<Vec<Embed>>::deserialize(deserializer)?.unwrap_or_default();
    let permalinks = embeds.into_iter().filter(|embed| embed.kind == "permalink");
    let posts = permalinks.filter_map(|embed| embed.data);
    Ok(posts.map(LinkedPost::into_post).collect())
}

/// The `post` in an embed's data, if the data is an object that has one. Other embeds have other data.
fn linked_post<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LinkedPost>, D::Error> {
    let data = Shallow { depth: 8 }.deserialize(deserializer)?;
    Ok(LinkedPost::deserialize(&data["post"]).ok())
}

/// A post but for its embeds.
#[derive(Deserialize)]
struct LinkedPost {
    id: PostId,
    #[serde(default, deserialize_with = "nullable")]
    create_at: ServerTime,
    #[serde(default, deserialize_with = "nullable")]
    delete_at: ServerTime,
    #[serde(default, deserialize_with = "nullable")]
    user_id: UserId,
    #[serde(default, deserialize_with = "nullable")]
    message: String,
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    props: Props,
}

impl LinkedPost {
    fn into_post(self) -> Post {
        Post {
            id: self.id,
            create_at: self.create_at,
            delete_at: self.delete_at,
            user_id: self.user_id,
            message: self.message,
            kind: self.kind,
            props: self.props,
            ..Post::default()
        }
    }
}

/// Somebody's reaction to a post.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reaction {
    /// The account.
    #[serde(deserialize_with = "nullable")]
    pub user_id: UserId,
    /// The post that it is on.
    #[serde(deserialize_with = "nullable")]
    pub post_id: PostId,
    /// Without colons.
    #[serde(deserialize_with = "nullable")]
    pub emoji_name: String,
}

/// A channel. `kind` is `O` (open), `P` (private), `D` (direct) or `G` (group).
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Channel {
    /// 26 letters and digits.
    pub id: ChannelId,
    /// Empty for a direct channel.
    #[serde(default, deserialize_with = "nullable")]
    pub team_id: TeamId,
    /// As the API has it in `type`.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// Its name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// The name that people see.
    #[serde(default, deserialize_with = "nullable")]
    pub display_name: String,
    /// When it was made.
    #[serde(default, deserialize_with = "nullable")]
    pub create_at: ServerTime,
    /// Zero unless the channel was archived.
    #[serde(default, deserialize_with = "nullable")]
    pub delete_at: ServerTime,
    /// When the newest post was made.
    #[serde(default, deserialize_with = "nullable")]
    pub last_post_at: ServerTime,
    /// How many posts there were.
    #[serde(default, deserialize_with = "whole")]
    pub total_msg_count: u64,
    /// Other servers are connected to it.
    #[serde(default, deserialize_with = "nullable")]
    pub shared: bool,
}

impl Channel {
    /// Whether it is between two people.
    pub(crate) fn is_direct(&self) -> bool {
        self.kind == "D"
    }
}

/// A person or a bot.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// 26 letters and digits.
    pub id: UserId,
    /// Without the @.
    #[serde(default, deserialize_with = "nullable")]
    pub username: String,
    /// Whether it is a bot account.
    #[serde(default, deserialize_with = "nullable")]
    pub is_bot: bool,
    /// Zero unless the account was deactivated.
    #[serde(default, deserialize_with = "nullable")]
    pub delete_at: ServerTime,
    /// Space-separated system roles.
    #[serde(default, deserialize_with = "nullable")]
    pub roles: String,
}

/// A team.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Team {
    /// 26 letters and digits.
    pub id: TeamId,
    /// Its name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// The name that people see.
    #[serde(default, deserialize_with = "nullable")]
    pub display_name: String,
}

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

/// A number, also one that no server should give: a fraction without its rest, what is negative or
/// null as 0. One odd number does not make a whole list unreadable.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(number.map_or(0, |number| {
        let fraction = || number.as_f64().unwrap_or_default() as u64;
        number.as_u64().unwrap_or_else(fraction)
    }))
}

pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
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
            let props: Props = serde_json::from_str(&props.to_string()).unwrap();
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
