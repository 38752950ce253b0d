//! The server's values as JSON, field for field as each version sends them.

use std::cell::Ref;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Version;
use super::files::{extension_of, mini_preview};
use super::picture::{Format, base64};
use super::world::{Channel, File, Post, Reaction, Team, User, World};

impl World {
    pub(super) fn user_json(&self, user: &User, own: bool) -> Value {
        let mut value = json!({
            "id": user.id, "create_at": user.create_at, "update_at": user.update_at,
            "delete_at": user.delete_at, "username": user.username, "auth_service": "",
            "email": format!("{}@{}", user.username, if user.is_bot { "localhost" } else { "example.com" }),
            "nickname": "", "first_name": user.first_name, "last_name": "", "position": "",
            "roles": user.roles, "locale": "en", "disable_welcome_email": false,
            "timezone": { "automaticTimezone": "", "manualTimezone": "", "useAutomaticTimezone": "true" },
        });
        let mut set = |name: &str, field: Value| value[name] = field;
        if !own || self.version == Version::V5_37 {
            set("auth_data", "".into());
        }
        if self.version == Version::V11_6 && !user.is_bot {
            set("remote_id", user.remote_id.as_str().into());
        }
        if user.is_bot {
            set("is_bot", true.into());
            set("bot_description", user.bot_description.as_str().into());
        }
        if own {
            set("last_password_update", user.create_at.into());
            let mut notify = json!({
                "channel": "true", "comments": "never", "desktop": "mention",
                "desktop_sound": "true", "email": "true", "first_name": "false",
                "mention_keys": "", "push": "mention", "push_status": "away",
            });
            if self.version == Version::V11_6 {
                notify["push_status"] = "online".into();
                for name in ["desktop_threads", "email_threads", "push_threads"] {
                    notify[name] = "all".into();
                }
            }
            set("notify_props", notify);
        }
        value
    }

    pub(super) fn team_json(&self, team: &Team) -> Value {
        let mut value = json!({
            "id": team.id, "create_at": team.create_at, "update_at": team.create_at, "delete_at": 0,
            "display_name": team.display_name, "name": team.name, "description": "", "email": "",
            "type": "O", "company_name": "", "allowed_domains": "", "invite_id": team.invite_id,
            "allow_open_invite": false, "scheme_id": null, "group_constrained": null,
            "policy_id": null,
        });
        if self.version == Version::V11_6 {
            value["cloud_limits_archived"] = false.into();
        }
        value
    }

    /// The channel as lists of channels have it.
    pub(super) fn listed_channel_json(&self, channel: &Channel) -> Value {
        let mut value = self.channel_json(channel);
        value["last_post_at"] = channel.last_post_at.max(channel.edited_at).into();
        value
    }

    pub(super) fn channel_json(&self, channel: &Channel) -> Value {
        use super::world::Kind;
        let shared = match (channel.kind, self.version) {
            _ if channel.shared => Value::Bool(true),
            (Kind::Direct, _) | (Kind::Group, Version::V11_6) => Value::Bool(false),
            _ => Value::Null,
        };
        let mut value = json!({
            "id": channel.id, "create_at": channel.create_at, "update_at": channel.update_at,
            "delete_at": channel.delete_at, "team_id": channel.team_id,
            "type": channel.kind.letter(), "display_name": channel.display_name,
            "name": channel.name, "header": "", "purpose": "",
            "last_post_at": channel.last_post_at, "total_msg_count": channel.total_msg_count,
            "extra_update_at": 0, "creator_id": channel.creator_id, "scheme_id": null,
            "props": null, "group_constrained": null, "shared": shared,
            "total_msg_count_root": channel.total_msg_count_root, "policy_id": null,
        });
        if self.version == Version::V11_6 {
            value["autotranslation"] = false.into();
            value["last_root_post_at"] = channel.last_root_post_at.into();
            value["banner_info"] = Value::Null;
            value["policy_enforced"] = false.into();
            value["policy_is_active"] = false.into();
            value["default_category_name"] = "".into();
        }
        value
    }

    pub(super) fn member_json(&self, channel: &Channel, user: &str) -> Value {
        let mut value = json!({
            "channel_id": channel.id, "user_id": user, "roles": "channel_user",
            "last_viewed_at": 0, "msg_count": 0, "mention_count": 0, "mention_count_root": 0,
            "msg_count_root": 0, "last_update_at": channel.members.get(user),
            "scheme_guest": false, "scheme_user": true, "scheme_admin": false,
            "explicit_roles": "",
            "notify_props": {
                "desktop": "default", "email": "default", "ignore_channel_mentions": "default",
                "mark_unread": "all", "push": "default",
            },
        });
        if self.version == Version::V11_6 {
            value["urgent_mention_count"] = 0.into();
            value["autotranslation_disabled"] = false.into();
            value["notify_props"]["channel_auto_follow_threads"] = "off".into();
        }
        value
    }

    pub(super) fn reaction_json(&self, post: &Post, reaction: &Reaction) -> Value {
        let mut value = json!({
            "user_id": reaction.user_id, "post_id": post.id, "emoji_name": reaction.emoji_name,
            "create_at": reaction.create_at, "update_at": reaction.update_at, "delete_at": 0,
            "remote_id": "",
        });
        if self.version == Version::V11_6 {
            value["channel_id"] = post.channel_id.as_str().into();
        }
        value
    }

    fn file_json(&self, file: &File) -> Value {
        let mut value = json!({
            "id": file.id, "user_id": file.user_id, "post_id": file.post_id, "channel_id": "",
            "create_at": file.create_at, "update_at": file.create_at, "delete_at": 0,
            "name": file.name, "extension": extension_of(&file.name), "size": file.bytes.len(),
            "mime_type": file.mime_type, "mini_preview": null, "remote_id": "",
        });
        if let Some(picture) = file.picture() {
            value["width"] = picture.width.into();
            value["height"] = picture.height.into();
            if picture.format != Format::Gif && file.has_preview() {
                value["has_preview_image"] = true.into();
            }
        }
        if file.has_preview() {
            value["mini_preview"] = base64(&mini_preview()).into();
        }
        if self.version == Version::V11_6 {
            value["channel_id"] = file.channel_id.as_str().into();
            value["archived"] = false.into();
        }
        value
    }

    pub(super) fn post_json(&self, index: usize, reply_count: usize) -> Value {
        serde_json::to_value(self.post_fields(index, reply_count)).expect("plain fields")
    }

    /// A deleted post's text and metadata are gone for those who read it.
    fn post_fields(&self, index: usize, reply_count: usize) -> PostFields<'_> {
        let post = &self.posts[index];
        let (is_new, is_there) = (self.version == Version::V11_6, post.delete_at == 0);
        let has_remote_id = (is_new && post.by_api) || !post.remote_id.is_empty();
        PostFields {
            id: &post.id,
            create_at: post.create_at,
            update_at: post.update_at,
            edit_at: post.edit_at,
            delete_at: post.delete_at,
            is_pinned: post.is_pinned,
            user_id: &post.user_id,
            channel_id: &post.channel_id,
            root_id: &post.root_id,
            parent_id: (!is_new).then_some(&post.root_id),
            original_id: &post.original_id,
            message: if is_there { &post.message } else { "" },
            kind: &post.kind,
            props: &post.props,
            hashtags: "",
            file_ids: (is_new || !post.file_ids.is_empty()).then_some(&post.file_ids),
            pending_post_id: "",
            has_reactions: post.has_reactions.then_some(true),
            remote_id: has_remote_id.then_some(&post.remote_id),
            reply_count,
            last_reply_at: 0,
            participants: (),
            metadata: match is_there {
                true => self.metadata(post),
                false => Map::new(),
            },
        }
    }

    fn metadata(&self, post: &Post) -> Map<String, Value> {
        let mut metadata = Map::new();
        if post.has_reactions {
            metadata.insert("reactions".into(), self.reactions_json(post));
        }
        if !post.file_ids.is_empty() {
            let files = post.file_ids.iter().filter_map(|id| self.files.get(id));
            let files = files.map(|file| self.file_json(file)).collect();
            metadata.insert("files".into(), files);
        }
        let attachments = post.props.get("attachments").and_then(Value::as_array);
        if attachments.is_some_and(|attachments| !attachments.is_empty()) {
            metadata.insert("embeds".into(), json!([{ "type": "message_attachment" }]));
        } else if let Some(embed) = self.permalink_embed(post) {
            metadata.insert("embeds".into(), json!([embed]));
        }
        metadata
    }

    /// The quoted post, if the one who asks may read it.
    fn permalink_embed(&self, post: &Post) -> Option<Value> {
        let quoted = self.quoted(&post.message)?;
        let channel = &self.channels[&self.posts[quoted].channel_id];
        if !self.may_read(&self.viewer, channel) {
            return None;
        }
        let team = self.teams.get(&channel.team_id);
        let preview = &self.posts[quoted];
        let mut shown = self.post_json(quoted, 0);
        // Quotes within the quote are not shown.
        shown["metadata"] = json!({});
        Some(json!({ "type": "permalink", "data": {
            "post_id": preview.id, "post": shown,
            "team_name": team.map_or("", |team| team.name.as_str()),
            "channel_display_name": channel.display_name, "channel_type": channel.kind.letter(),
            "channel_id": channel.id,
        }}))
    }

    pub(super) fn reactions_json(&self, post: &Post) -> Value {
        let reactions = post.reactions.iter();
        let reactions = reactions.map(|reaction| self.reaction_json(post, reaction));
        reactions.collect()
    }

    /// How many replies the post's thread has.
    pub(super) fn reply_count(&self, index: usize) -> usize {
        let post = &self.posts[index];
        let root = self.post_index.get(&post.root_id).unwrap_or(&index);
        let replies = self.posts[*root].replies.iter();
        replies
            .filter(|&&reply| self.posts[reply].delete_at == 0)
            .count()
    }

    /// A list as JSON: `order` may name a post twice, `posts` holds it once. Put together from the
    /// posts' JSON, which is kept: nearly every list repeats what the one before it had.
    pub(super) fn list_json(&self, list: &List) -> String {
        let mut posts = String::new();
        let mut seen = HashSet::new();
        for &index in list.order.iter().chain(&list.others) {
            if seen.insert(index) {
                let replies = match list.with_reply_counts {
                    true => self.reply_count(index),
                    false => 0,
                };
                let comma = if posts.is_empty() { "" } else { "," };
                posts += &format!("{comma}\"{}\":", self.posts[index].id);
                posts += &self.kept_post_json(index, replies);
            }
        }
        let order = list.order.iter().map(|&index| &self.posts[index].id);
        let order = order.map(|id| format!("\"{id}\"")).collect::<Vec<_>>();
        let newer = match (self.version, list.has_next) {
            (Version::V5_37, _) => "",
            (_, None) => ",\"first_inaccessible_post_time\":0",
            (_, Some(false)) => ",\"first_inaccessible_post_time\":0,\"has_next\":false",
            (_, Some(true)) => ",\"first_inaccessible_post_time\":0,\"has_next\":true",
        };
        let (order, next, previous) = (order.join(","), json!(list.next), json!(list.previous));
        format!(
            "{{\"order\":[{order}],\"posts\":{{{posts}}},\
             \"next_post_id\":{next},\"prev_post_id\":{previous}{newer}}}"
        )
    }

    fn kept_post_json(&self, index: usize, reply_count: usize) -> Ref<'_, str> {
        let kept = &self.posts[index].json;
        let is_kept = matches!(&*kept.borrow(), Some((count, _)) if *count == reply_count);
        if !is_kept || self.quoted(&self.posts[index].message).is_some() {
            let fields = self.post_fields(index, reply_count);
            let json = serde_json::to_string(&fields).expect("plain fields");
            *kept.borrow_mut() = Some((reply_count, json));
        }
        Ref::map(kept.borrow(), |kept| {
            kept.as_ref().map_or("", |(_, json)| json.as_str())
        })
    }
}

/// A post as it is sent: as text at once, since lists of a thousand are many.
#[derive(Serialize)]
struct PostFields<'a> {
    id: &'a str,
    create_at: u64,
    update_at: u64,
    edit_at: u64,
    delete_at: u64,
    is_pinned: bool,
    user_id: &'a str,
    channel_id: &'a str,
    root_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<&'a String>,
    original_id: &'a str,
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    props: &'a Map<String, Value>,
    hashtags: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_ids: Option<&'a Vec<String>>,
    pending_post_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_reactions: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_id: Option<&'a String>,
    reply_count: usize,
    last_reply_at: u64,
    participants: (),
    metadata: Map<String, Value>,
}

/// Posts to be listed.
#[derive(Default)]
pub(super) struct List {
    /// Newest first.
    pub order: Vec<usize>,
    /// Sent along, and not in the order.
    pub others: Vec<usize>,
    pub with_reply_counts: bool,
    pub next: String,
    pub previous: String,
    /// Of a thread only.
    pub has_next: Option<bool>,
}
