//! A method per endpoint of the REST API v4. It decides nothing.

mod call;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub(crate) use super::body::{Mark, NewPost, NewProps, Patch, PatchProps};
pub use super::error::ApiError;
pub(crate) use super::error::{Denial, unless_closed};
use super::types::*;
use crate::http::{self, Agent};
use crate::secret::Secret;
use crate::sorted::Map;
use crate::times::Times;
pub(super) use call::parse;

/// "Typing" is worth no long wait: the loop waits for it.
const TYPING_TIMEOUT: Duration = Duration::from_secs(2);
/// A piece of a file: the loop waits for it, and what is missing is named to the model.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);
/// A body of several posts is at most this many bytes.
const POSTS_LIMIT: u64 = 2 << 20;
/// Any other body, a single post's too: anybody can put megabytes of properties on one. Lists of
/// channels have 600 bytes for each. All are parsed as they arrive.
const BODY_LIMIT: u64 = 16 << 20;

/// A team's channels, unless they are as they were when the ETag was given.
pub(crate) enum ChannelList {
    /// The list is the one of that ETag.
    Unchanged,
    /// The list is another one.
    Changed {
        /// All of it.
        channels: Vec<Channel>,
        /// To be sent with the next look.
        etag: Option<String>,
    },
}

/// Some bytes of a file.
pub(crate) struct FilePiece {
    /// As many as were asked for, or up to the end.
    pub bytes: Vec<u8>,
    /// The whole file's size, if the server said it.
    pub total: Option<u64>,
}

/// One server, as one bot.
pub struct Client {
    agent: Agent,
    base: String,
    authorization: String,
    times: Times,
    date_ms: Cell<Option<u64>>,
    served: Cell<u32>,
    version: RefCell<String>,
}

impl Client {
    /// `url`: the server's, without a trailing slash.
    pub fn new(agent: Agent, url: &str, token: &Secret, times: Times) -> Client {
        Client {
            agent,
            base: format!("{url}/api/v4/"),
            authorization: format!("Bearer {}", token.reveal()),
            times,
            date_ms: Cell::new(None),
            served: Cell::new(0),
            version: RefCell::new(String::new()),
        }
    }

    /// The `Date` of the last response, in milliseconds since 1970. A proxy may have set it: it
    /// decides nothing but whether a missed post is too old.
    pub(crate) fn date_ms(&self) -> Option<u64> {
        self.date_ms.get()
    }

    /// How many requests the server has done as asked.
    pub(crate) fn served(&self) -> u32 {
        self.served.get()
    }

    /// The server's version as the last response told it, such as `11.6.0`; empty if none did.
    pub(crate) fn version(&self) -> String {
        self.version.borrow().clone()
    }

    /// `GET users/me`: the bot itself.
    pub fn me(&self) -> Result<User, ApiError> {
        let response = self.send("GET", "users/me", None, &[], self.times.call)?;
        if let Some(header) = response.header("X-Version-Id") {
            *self.version.borrow_mut() = version(header);
        }
        parse(response, BODY_LIMIT)
    }

    /// `GET users/me/teams`.
    pub(crate) fn teams(&self) -> Result<Vec<Team>, ApiError> {
        self.get("users/me/teams")
    }

    /// `GET users/me/teams/{team}/channels`: the team's channels that the bot is in, and every direct
    /// and group channel. With the ETag of an earlier answer an unchanged list has no body.
    pub(crate) fn team_channels(
        &self,
        team: &TeamId,
        etag: Option<&str>,
    ) -> Result<ChannelList, ApiError> {
        let path = format!("users/me/teams/{}/channels", encode(team.as_str()));
        let condition = etag.map(|etag| ("If-None-Match", etag));
        let response = self.send("GET", &path, None, condition.as_slice(), self.times.call)?;
        // Unasked for, it is a proxy's doing.
        if response.status == 304 && etag.is_some() {
            return Ok(ChannelList::Unchanged);
        }
        // A proxy that compresses weakens an ETag, `x`, to `W/x` or `W/"x"`, which never matches.
        let etag = response
            .header("ETag")
            .map(|etag| match etag.strip_prefix("W/") {
                Some(weak) => weak.trim_matches('"').to_owned(),
                None => etag.to_owned(),
            });
        Ok(ChannelList::Changed {
            channels: parse(response, BODY_LIMIT)?,
            etag,
        })
    }

    /// `GET users/me/channels`: for a bot in no team. Servers before 6.0 refuse with 404.
    pub(crate) fn my_channels(&self) -> Result<Vec<Channel>, ApiError> {
        self.get("users/me/channels")
    }

    /// `GET channels/{channel}`. An open channel can be read without being a member.
    pub(crate) fn channel(&self, channel: &ChannelId) -> Result<Channel, ApiError> {
        self.get(&format!("channels/{}", encode(channel.as_str())))
    }

    /// `GET teams/{team}/channels/name/{name}`: a channel that the bot can see, by the name in its link.
    pub(crate) fn channel_named(&self, team: &TeamId, name: &str) -> Result<Channel, ApiError> {
        let (team, name) = (encode(team.as_str()), encode(name));
        self.get(&format!("teams/{team}/channels/name/{name}"))
    }

    /// `GET channels/{channel}/members/me`: whether the bot is in the channel.
    pub(crate) fn is_member(&self, channel: &ChannelId) -> Result<bool, ApiError> {
        Ok(self.roles_in(channel)?.is_some())
    }

    /// `GET channels/{channel}/members/me`: the bot's roles in the channel, space-separated; nothing
    /// if it is not in it.
    pub(crate) fn roles_in(&self, channel: &ChannelId) -> Result<Option<String>, ApiError> {
        let path = format!("channels/{}/members/me", encode(channel.as_str()));
        let member: Option<Value> = unless_closed(self.get(&path))?;
        Ok(member.map(|member| member["roles"].as_str().unwrap_or_default().into()))
    }

    /// `GET channels/{channel}/members`: the first 200 people and bots in a channel that the bot is in.
    pub(crate) fn members(&self, channel: &ChannelId) -> Result<Vec<UserId>, ApiError> {
        let path = format!("channels/{}/members?per_page=200", encode(channel.as_str()));
        let members: Vec<Value> = self.get(&path)?;
        let users = members
            .iter()
            .filter_map(|member| member["user_id"].as_str());
        Ok(users.map(UserId::from).collect())
    }

    /// `GET channels/{channel}/posts?since=`: posts with a later `update_at`. With 1000 ids or more
    /// in `order` the server left some out, nobody knows which.
    pub(crate) fn posts_since(
        &self,
        channel: &ChannelId,
        since: ServerTime,
    ) -> Result<PostList, ApiError> {
        self.posts(channel, &format!("since={}", since.0), POSTS_LIMIT)
    }

    /// `GET channels/{channel}/posts?after=`: page `page` of `count` (200 at most) of the posts that were
    /// created in a later millisecond than `post`, page 0 being the oldest, without the threads that
    /// they belong to. Unknown `post`: none.
    pub(crate) fn posts_after(
        &self,
        channel: &ChannelId,
        post: &PostId,
        page: usize,
        count: usize,
    ) -> Result<PostList, ApiError> {
        let place = format!("after={}&", encode(post.as_str()));
        self.page(channel, &place, page, count)
    }

    /// `GET channels/{channel}/posts?before=`: the newest `count` of the posts created before `post`.
    pub(crate) fn posts_before(
        &self,
        channel: &ChannelId,
        post: &PostId,
        count: usize,
    ) -> Result<PostList, ApiError> {
        let place = format!("before={}&", encode(post.as_str()));
        self.page(channel, &place, 0, count)
    }

    /// `GET channels/{channel}/posts?page=`: page `page` of `count`, page 0 being the newest. Pages
    /// shift when someone posts.
    pub(crate) fn posts_page(
        &self,
        channel: &ChannelId,
        page: usize,
        count: usize,
    ) -> Result<PostList, ApiError> {
        self.page(channel, "", page, count)
    }

    /// A page of one post cannot be made smaller: its body may be as large as any other.
    fn page(
        &self,
        channel: &ChannelId,
        place: &str,
        page: usize,
        count: usize,
    ) -> Result<PostList, ApiError> {
        let query = format!("{place}page={page}&per_page={count}&skipFetchThreads=true");
        let limit = if count > 1 { POSTS_LIMIT } else { BODY_LIMIT };
        self.posts(channel, &query, limit)
    }

    fn posts(&self, channel: &ChannelId, query: &str, limit: u64) -> Result<PostList, ApiError> {
        let path = format!("channels/{}/posts?{query}", encode(channel.as_str()));
        self.get_within(&path, limit)
    }

    /// `GET posts/{post}`. A deleted post: 404.
    pub fn post(&self, post: &PostId) -> Result<Post, ApiError> {
        self.get(&format!("posts/{}", encode(post.as_str())))
    }

    /// `GET posts/{root}/thread`: the root and its newest `count` replies; an old server may send all.
    pub(crate) fn thread(&self, root: &PostId, count: usize) -> Result<PostList, ApiError> {
        self.thread_before(root, count, None)
    }

    /// As `thread`, with only the replies before `before`, in the order of time and then of id. An old
    /// server sends what `thread` gives.
    pub(crate) fn thread_before(
        &self,
        root: &PostId,
        count: usize,
        before: Option<&(ServerTime, PostId)>,
    ) -> Result<PostList, ApiError> {
        let root = encode(root.as_str());
        let mut path = format!("posts/{root}/thread?perPage={count}&direction=up");
        if let Some((at, id)) = before {
            path += &format!("&fromCreateAt={}&fromPost={}", at.0, encode(id.as_str()));
        }
        self.get_within(&path, POSTS_LIMIT)
    }

    /// `POST posts`: 201 with the post, or with the post that an earlier call with the same
    /// `pending_post_id` made, be it somebody else's.
    pub(crate) fn create_post(&self, post: &NewPost) -> Result<Post, ApiError> {
        self.tell("POST", "posts", post)
    }

    /// `PUT posts/{post}/patch`: edits one of the bot's own posts.
    pub(crate) fn patch_post(&self, post: &PostId, patch: &Patch) -> Result<Post, ApiError> {
        let path = format!("posts/{}/patch", encode(post.as_str()));
        self.tell("PUT", &path, patch)
    }

    /// `DELETE posts/{post}`: of the bot's own posts. One that is gone already: 403 or 404.
    pub(crate) fn delete_post(&self, post: &PostId) -> Result<(), ApiError> {
        let path = format!("posts/{}", encode(post.as_str()));
        let response = self.send("DELETE", &path, None, &[], self.times.call)?;
        parse::<IgnoredAny>(response, BODY_LIMIT).map(|_| ())
    }

    /// `POST posts/ids/reactions`: by post, who reacted with which emoji. Posts without any are left
    /// out. Servers before 6.0 do not have this call: 404.
    pub(crate) fn reactions(&self, posts: &[&PostId]) -> Result<Vec<Reaction>, ApiError> {
        let by_post: Map<PostId, Option<Vec<Reaction>>> =
            self.tell("POST", "posts/ids/reactions", &json!(posts))?;
        Ok(by_post.into_values().flatten().flatten().collect())
    }

    /// `GET posts/{post}/reactions`.
    pub(crate) fn reactions_of(&self, post: &PostId) -> Result<Vec<Reaction>, ApiError> {
        let path = format!("posts/{}/reactions", encode(post.as_str()));
        let reactions: Option<Vec<Reaction>> = self.get(&path)?;
        Ok(reactions.unwrap_or_default())
    }

    /// `POST users/me/typing`: clients show "typing" for 5 s. `parent`: a thread's root, or empty.
    pub(crate) fn typing(&self, channel: &ChannelId, parent: &PostId) -> Result<(), ApiError> {
        let body = json!({ "channel_id": channel, "parent_id": parent }).to_string();
        let (body, timeout) = (Some(body.as_bytes()), TYPING_TIMEOUT.min(self.times.call));
        let response = self.send("POST", "users/me/typing", body, &[], timeout)?;
        parse::<IgnoredAny>(response, BODY_LIMIT).map(|_| ())
    }

    /// `POST reactions`: adds one of the bot's to a post. Again: no second one.
    pub(crate) fn react(&self, bot: &UserId, post: &PostId, emoji: &str) -> Result<(), ApiError> {
        let reaction = json!({ "user_id": bot, "post_id": post, "emoji_name": emoji });
        self.tell::<IgnoredAny>("POST", "reactions", &reaction)
            .map(|_| ())
    }

    /// `POST posts/ids`: those of the posts that the bot may read, deleted ones among them. Servers
    /// before 6.0 do not have this call: 404.
    pub(crate) fn posts_by_ids(&self, ids: &[&PostId]) -> Result<Vec<Post>, ApiError> {
        self.tell("POST", "posts/ids", &json!(ids))
    }

    /// `POST users/ids`: unknown ids are left out, and for none nothing is asked.
    pub(crate) fn users(&self, ids: &[&UserId]) -> Result<Vec<User>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.tell("POST", "users/ids", &json!(ids))
    }

    /// `POST users/usernames`: unknown names are left out.
    pub(crate) fn users_named(&self, names: &[&str]) -> Result<Vec<User>, ApiError> {
        self.tell("POST", "users/usernames", &json!(names))
    }

    /// `POST roles/names`: what these roles together permit, such as `create_post`.
    pub(crate) fn permissions(&self, roles: &[&str]) -> Result<Vec<String>, ApiError> {
        let roles: Vec<Value> = self.tell("POST", "roles/names", &json!(roles))?;
        let permitted = roles
            .iter()
            .filter_map(|role| role["permissions"].as_array());
        let names = permitted.flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
    }

    /// `GET config/client?format=old`: `MaxPostSize`, the longest message in characters.
    pub(crate) fn max_post_size(&self) -> Result<Option<usize>, ApiError> {
        let config: Value = self.get("config/client?format=old")?;
        let size = config["MaxPostSize"].as_str();
        Ok(size.and_then(|size| size.parse().ok()))
    }

    /// `GET files/{file}` by `Range`: the bytes from `from` on, `limit` at most. Beyond the file's end
    /// the server refuses (416). Of a preview, the server's smaller copy of a picture, which is in
    /// another format than its `Content-Type` says: `GET files/{file}/preview`; 400: there is none.
    pub(crate) fn file_piece(
        &self,
        file: &str,
        is_preview: bool,
        from: u64,
        limit: usize,
    ) -> Result<FilePiece, ApiError> {
        let preview = if is_preview { "/preview" } else { "" };
        let path = format!("files/{}{preview}", encode(file));
        let last = from.saturating_add(limit as u64).saturating_sub(1);
        let range = format!("bytes={from}-{last}");
        let timeout = FILE_TIMEOUT.min(self.times.call);
        let response = self.send("GET", &path, None, &[("Range", &range)], timeout)?;
        // A proxy may take the range away and send all of it.
        let skipped = if response.status == 206 { 0 } else { from };
        // `1456356` of `bytes 0-99/1456356`.
        let range = response.header("Content-Range");
        let total = range.and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let mut reader = response
            .reader(skipped + limit as u64 + 1)
            .take(skipped + limit as u64);
        let mut bytes = Vec::with_capacity(limit);
        io::copy(&mut reader.by_ref().take(skipped), &mut io::sink())
            .and_then(|_| reader.read_to_end(&mut bytes))
            .map_err(|error| ApiError::from(http::failure(error)))?;
        Ok(FilePiece { bytes, total })
    }
}

/// `11.6.0` of an `X-Version-Id: 11.6.0.<build>.<hash>.<licensed>`.
pub(crate) fn version(header: &str) -> String {
    let numbers: Vec<&str> = header.split('.').take(3).collect();
    numbers.join(".")
}

/// Makes any text a path segment or a query value.
fn encode(text: &str) -> String {
    use fmt::Write;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                out.push(byte.into());
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
}

/// Asks with ever smaller pages while the answer is over the bound.
pub(crate) fn paged(
    size: &mut usize,
    ask: impl Fn(usize) -> Result<PostList, ApiError>,
) -> Result<PostList, ApiError> {
    loop {
        match ask(*size) {
            Err(ApiError::TooLarge) if *size > 1 => *size /= 2,
            result => return result,
        }
    }
}
