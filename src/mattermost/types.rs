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
    pub fn before(self, duration: std::time::Duration) -> ServerTime {
        ServerTime(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

/// A post. `type` is empty for a person's ordinary one and `me` for `/me`; anything else is not
/// something a person wrote.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Post {
    pub id: PostId,
    #[serde(default, deserialize_with = "nullable")]
    pub create_at: ServerTime,
    #[serde(default, deserialize_with = "nullable")]
    pub update_at: ServerTime,
    /// Zero unless its text was changed.
    #[serde(default, deserialize_with = "nullable")]
    pub edit_at: ServerTime,
    /// Zero unless the post was deleted.
    #[serde(default, deserialize_with = "nullable")]
    pub delete_at: ServerTime,
    #[serde(default, deserialize_with = "nullable")]
    pub user_id: UserId,
    #[serde(default, deserialize_with = "nullable")]
    pub channel_id: ChannelId,
    /// The thread's first post; empty for a top-level post.
    #[serde(default, deserialize_with = "nullable")]
    pub root_id: PostId,
    #[serde(default, deserialize_with = "nullable")]
    pub message: String,
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub props: Props,
    #[serde(default, deserialize_with = "nullable")]
    pub metadata: Metadata,
}

/// The properties of a post that say where it came from. Anybody can set any of them on his own
/// posts, to any JSON value.
#[derive(Clone, Debug, Default)]
pub struct Props {
    /// `from_bot`, `from_webhook`, `from_plugin` or `from_oauth_app`, if one of them is set.
    pub from: Option<&'static str>,
    /// What this program puts on its own posts.
    pub prx: Option<PrxProps>,
    /// Whether there is a `prx` at all, readable or not.
    pub has_prx: bool,
    /// Whom a `system_add_to_channel` post is about.
    pub added_user_id: Option<UserId>,
}

/// `props.prx` of an answer: the part `part` (from 0) of `of` of the answer to `in_reply_to`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PrxProps {
    pub in_reply_to: PostId,
    #[serde(default)]
    pub part: u32,
    #[serde(default = "one")]
    pub of: u32,
    /// Set on a message that says why there is no answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apology: bool,
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
                        props.prx = PrxProps::deserialize(value).ok();
                    } else if key == "addedUserId" {
                        let value = map.next_value_seed(Shallow { depth: 0 })?;
                        props.added_user_id = value.as_str().map(UserId::from);
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

/// Reads any JSON value; arrays, and objects inside more than `depth` others, as null. A `Value` of a
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
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
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
    #[serde(deserialize_with = "nullable")]
    pub files: Vec<FileInfo>,
}

/// A file attached to a post.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileInfo {
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// In bytes.
    #[serde(deserialize_with = "whole")]
    pub size: u64,
    #[serde(deserialize_with = "nullable")]
    pub mime_type: String,
}

/// A channel. `kind` is `O` (open), `P` (private), `D` (direct) or `G` (group).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Channel {
    pub id: ChannelId,
    #[serde(default, deserialize_with = "nullable")]
    pub team_id: TeamId,
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub display_name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub create_at: ServerTime,
    /// Zero unless the channel was archived.
    #[serde(default, deserialize_with = "nullable")]
    pub delete_at: ServerTime,
    #[serde(default, deserialize_with = "nullable")]
    pub last_post_at: ServerTime,
    #[serde(default, deserialize_with = "whole")]
    pub total_msg_count: u64,
}

impl Channel {
    pub fn is_direct(&self) -> bool {
        self.kind == "D"
    }
}

/// A person or a bot.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    pub id: UserId,
    #[serde(default, deserialize_with = "nullable")]
    pub username: String,
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
pub struct Team {
    pub id: TeamId,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub display_name: String,
}

/// A list of posts as the server sends it: ids in order, newest first, and the posts by id, among
/// them roots that are not in the order.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PostList {
    #[serde(deserialize_with = "nullable")]
    pub order: Vec<PostId>,
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

/// The values of a map of posts, in no order: each carries its own id.
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
                posts.push(post);
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
        for key in ["prx", "from_bot", "addedUserId", "other"] {
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
}
