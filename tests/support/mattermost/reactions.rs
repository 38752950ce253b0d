//! Reactions: who may add and remove them, and which there are.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Version;
use super::api::{Call, Result, Served, done, forbidden, no_such_post, ok, refusal};
use super::world::Channel;

/// Different emoji on a post (11.6).
const EMOJI_MAX: usize = 50;
/// Some of the emoji that 11.6 comes with.
const EMOJI: [&str; 25] = [
    "+1",
    "-1",
    "arrows_counterclockwise",
    "clock12",
    "eyes",
    "grey_question",
    "hand",
    "heart",
    "hourglass",
    "hourglass_flowing_sand",
    "octagonal_sign",
    "ok",
    "ok_hand",
    "robot",
    "robot_face",
    "smile",
    "speech_balloon",
    "stop_sign",
    "tada",
    "thinking",
    "thumbsup",
    "warning",
    "white_check_mark",
    "wave",
    "x",
];
impl Call<'_> {
    /// A post, deleted or not, whose channel passes the check; 403 otherwise, also for unknown ones.
    fn post_where(&self, id: &str, may: impl Fn(&Channel) -> bool) -> Result<usize> {
        self.check_id("post_id", id)?;
        let index = self.world.post_index.get(id).copied().filter(|&index| {
            let post = &self.world.posts[index];
            post.committed && may(&self.world.channels[&post.channel_id])
        });
        index.ok_or_else(forbidden)
    }

    /// A post that one may react to: the checks that adding and removing have in common.
    fn reactable(&self, id: &str, permission: &str, archived: (&str, &str)) -> Result<usize> {
        let may = |channel: &Channel| channel.members.contains_key(self.user);
        let index = self.post_where(id, may)?;
        if !self.role_has(permission) {
            return Err(forbidden());
        }
        let post = &self.world.posts[index];
        if post.delete_at > 0 {
            return Err(no_such_post());
        }
        match self.world.channels[&post.channel_id].delete_at {
            0 => Ok(index),
            _ => Err(refusal(403, archived.0, archived.1)),
        }
    }

    pub(super) fn react(&mut self) -> Result<Served> {
        let body = self.body("reaction")?;
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let (user, post, name) = (text("user_id"), text("post_id"), text("emoji_name"));
        if self.check_id("user_id", user).is_err() || name.is_empty() || name.len() > 64 {
            let id = "api.reaction.save_reaction.invalid.app_error";
            return Err(refusal(400, id, "Reaction is not valid."));
        }
        if user != self.user {
            let id = "api.reaction.save_reaction.user_id.app_error";
            let message = "You cannot save reaction for the other user.";
            return Err(refusal(403, id, message));
        }
        let archived = (
            "api.reaction.save.archived_channel.app_error",
            "You cannot react in an archived channel.",
        );
        let index = self.reactable(post, "add_reaction", archived)?;
        self.check_emoji(index, name)?;
        self.world.react(user, post, name);
        let post = &self.world.posts[index];
        let mut reactions = post.reactions.iter();
        let mut made = reactions
            .find(|reaction| reaction.user_id == user && reaction.emoji_name == name)
            .expect("the one just made")
            .clone();
        made.create_at = made.update_at;
        ok(self.world.reaction_json(post, &made))
    }

    /// 5.37 takes every name that is well formed, 11.6 those of its emoji, and 50 different ones.
    fn check_emoji(&self, index: usize, name: &str) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte);
        if self.world.version == Version::V5_37 {
            return match name.bytes().all(plain) {
                true => Ok(()),
                false => Err(refusal(
                    400,
                    "model.reaction.is_valid.emoji_name.app_error",
                    "Invalid emoji name.",
                )),
            };
        }
        if !EMOJI.contains(&name) && !self.world.emoji.contains(name) {
            let id = "app.emoji.get_by_name.no_result";
            return Err(refusal(404, id, "We couldn’t find the emoji."));
        }
        let reactions = self.world.posts[index].reactions.iter();
        let names: BTreeSet<&str> = reactions.map(|known| known.emoji_name.as_str()).collect();
        if names.len() >= EMOJI_MAX && !names.contains(name) {
            let id = "app.reaction.save.save.too_many_reactions";
            let message = "Reaction limit has been reached for this post.";
            return Err(refusal(400, id, message));
        }
        Ok(())
    }

    pub(super) fn unreact(&mut self, user: &str, post: &str, name: &str) -> Result<Served> {
        let may = |channel: &Channel| channel.members.contains_key(self.user);
        self.post_where(post, may)?;
        if user != "me" && user != self.user {
            return Err(forbidden());
        }
        let archived = (
            "api.reaction.delete.archived_channel.app_error",
            "You cannot remove a reaction in an archived channel.",
        );
        self.reactable(post, "remove_reaction", archived)?;
        let name = name.replace("%2B", "+");
        self.world.unreact(self.user, post, &name);
        Ok(done())
    }

    pub(super) fn reactions(&self, post: &str) -> Result<Served> {
        let index = self.post_where(post, |channel| self.may_read(channel))?;
        let post = &self.world.posts[index];
        match (post.reactions.is_empty(), self.world.version) {
            (true, Version::V11_6) => ok(Value::Null),
            _ => ok(self.world.reactions_json(post)),
        }
    }

    /// One post that may not be read, or is unknown, refuses all.
    pub(super) fn reactions_of_many(&self) -> Result<Served> {
        let mut reactions = Map::new();
        for id in self.names("post_ids")? {
            let index = self.post_where(&id, |channel| self.may_read(channel));
            let post = &self.world.posts[index.map_err(|_| forbidden())?];
            reactions.insert(id, self.world.reactions_json(post));
        }
        ok(Value::Object(reactions))
    }
}
