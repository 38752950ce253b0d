//! What the server knows: people, teams, channels, posts; and how it changes, late commits included.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;

use serde_json::{Map, Value, json};

use super::Version;
use super::fault::{Act, Plan};
use super::files::mime_type_of;
use crate::support::clock::Time;
use crate::support::random::Random;

/// What happens at a later time.
pub type Action = Box<dyn FnOnce(&mut World) + Send>;

/// An account and its first token. Stands for its id wherever a `&str` is asked for.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: String,
    pub token: String,
}

impl Deref for Account {
    type Target = str;

    fn deref(&self) -> &str {
        &self.id
    }
}

/// A person or a bot.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub username: String,
    pub first_name: String,
    pub is_bot: bool,
    pub bot_description: String,
    pub roles: String,
    /// The connected server that the person comes from.
    pub remote_id: String,
    pub create_at: u64,
    pub update_at: u64,
    pub delete_at: u64,
}

#[derive(Clone, Debug)]
pub struct Team {
    pub id: String,
    pub name: String,
    pub display_name: String,
    pub invite_id: String,
    pub create_at: u64,
    pub members: BTreeSet<String>,
}

/// The four kinds of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open,
    Private,
    Direct,
    Group,
}

impl Kind {
    pub fn letter(self) -> &'static str {
        match self {
            Kind::Open => "O",
            Kind::Private => "P",
            Kind::Direct => "D",
            Kind::Group => "G",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: String,
    /// Empty for direct and group channels.
    pub team_id: String,
    pub kind: Kind,
    pub name: String,
    pub display_name: String,
    pub creator_id: String,
    pub create_at: u64,
    pub update_at: u64,
    pub delete_at: u64,
    pub last_post_at: u64,
    pub last_root_post_at: u64,
    pub total_msg_count: u64,
    pub total_msg_count_root: u64,
    /// The newest edit since the newest post. Lists of channels count it into `last_post_at`; the
    /// channel by itself comes from a cache that edits leave alone.
    pub edited_at: u64,
    /// Its members may read and react, and not post or type.
    pub read_only: bool,
    /// Connected with another server.
    pub shared: bool,
    /// Who is in it, and since when.
    pub members: BTreeMap<String, u64>,
    /// Its committed posts by `create_at`, deleted ones and the copies that edits leave included.
    pub(super) timeline: Vec<usize>,
    /// The same by `update_at`.
    pub(super) updated: BTreeSet<(u64, usize)>,
    /// The newest `update_at` as the server's cache has it. Kept by reads, not by writes.
    pub(super) cached_update_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Post {
    pub id: String,
    pub create_at: u64,
    pub update_at: u64,
    pub edit_at: u64,
    pub delete_at: u64,
    pub user_id: String,
    pub channel_id: String,
    pub root_id: String,
    /// The post that this is an earlier state of; such copies are always deleted ones.
    pub original_id: String,
    pub message: String,
    pub kind: String,
    pub props: Map<String, Value>,
    pub file_ids: Vec<String>,
    pub is_pinned: bool,
    /// The connected server that the post comes from.
    pub remote_id: String,
    pub reactions: Vec<Reaction>,
    /// What readers go by: without it the post shows no reactions, though there may be some.
    pub has_reactions: bool,
    /// The server's own and webhooks' posts lack a field that others have.
    pub(super) by_api: bool,
    pub(super) committed: bool,
    /// A root's committed replies in the order of their commits.
    pub(super) replies: Vec<usize>,
    /// What was sent of it last, with which `reply_count`, until it changes.
    pub(super) json: RefCell<Option<(usize, String)>>,
}

#[derive(Clone, Debug)]
pub struct Reaction {
    pub user_id: String,
    pub emoji_name: String,
    pub create_at: u64,
    pub update_at: u64,
}

#[derive(Clone, Debug)]
pub struct File {
    pub id: String,
    pub user_id: String,
    pub post_id: String,
    pub channel_id: String,
    pub create_at: u64,
    pub name: String,
    pub mime_type: String,
    pub bytes: Vec<u8>,
    pub delete_at: u64,
    /// Somebody got its bytes: 11.6 goes on giving them when the post is deleted.
    pub was_read: bool,
}

impl Reaction {
    fn is(&self, user: &str, emoji_name: &str) -> bool {
        self.user_id == user && self.emoji_name == emoji_name
    }
}

/// A "typing" event.
#[derive(Clone, Debug)]
pub struct Typing {
    pub at_ms: u64,
    pub user_id: String,
    pub channel_id: String,
    pub parent_id: String,
}

/// A request that was answered, or refused, or swallowed by a fault (`status` 0).
#[derive(Clone, Debug)]
pub struct Logged {
    pub at_ms: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub status: u16,
    /// A username; empty without a good token.
    pub user: String,
    pub body: String,
    /// Whether it asked with `If-None-Match`.
    pub conditional: bool,
    /// The bytes of the answer's body.
    pub answer_bytes: usize,
}

/// How somebody came into a channel.
#[derive(Clone, Copy, Debug)]
pub enum Joining<'a> {
    /// `system_add_to_channel` by this person.
    AddedBy(&'a str),
    /// `system_join_channel`.
    Joined,
    /// `system_join_team`, as in the default channels.
    WithTeam,
    /// No post says so.
    Silently,
}

/// Requests a second and burst, as the server's settings call them.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    pub per_sec: u64,
    pub max_burst: u64,
    /// A refusal does not say how long to wait, as a proxy's.
    pub silent: bool,
}

/// How a proxy in front weakens ETags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weaken {
    No,
    /// `W/x`
    Prefix,
    /// `W/"x"`
    Quoted,
}

/// Changes the JSON of an answer on its way out.
pub type Rewrite = Box<dyn Fn(&mut Value) + Send>;

/// What a test may bend.
pub struct Knobs {
    /// The server lives at this path (`/chat`) and not at the root.
    pub sub_path: &'static str,
    /// Characters.
    pub max_post_size: usize,
    /// Every post that a client creates is committed, and answered for, this much later.
    pub commit_delay_ms: u64,
    /// What each link in a client's post adds to that, unless its `props.unsafe_links` is `"true"`
    /// (11.6). On 5.37, and in edits, the post is there at once: only the answer waits, and those
    /// who read the post meanwhile.
    pub link_delay_ms: u64,
    /// Whether an edit moves the channel's `last_post_at` (and the ETag) in lists of channels.
    pub edits_move_last_post_at: bool,
    /// A client's edit reads the post, and writes it back whole this much later: what happens to the
    /// post in between is lost, a deletion and the sight of a new reaction too.
    pub edit_takes_ms: u64,
    /// `PostEditTimeLimit`, in seconds: new texts are refused after it (11.6).
    pub edit_time_limit_secs: Option<u64>,
    /// `since` exactly at the newest `update_at` that anybody read stays empty.
    pub since_cache: bool,
    /// The ETag of post pages stays what it was at the first read, whatever is committed.
    pub stale_page_etag: bool,
    pub weaken: Weaken,
    /// A proxy's clock in the `Date` header.
    pub date_offset_ms: i64,
    pub rate_limit: Option<RateLimit>,
    /// A client in simulated time ends the connection when it has waited this long for an answer.
    pub client_waits_ms: Option<u64>,
    /// Each request takes this much (simulated) time.
    pub request_takes_ms: u64,
    /// Each request for a file is answered this much later.
    pub file_takes_ms: u64,
    /// And a file's bytes take their time, at this rate, before they come.
    pub file_bytes_per_sec: Option<u64>,
    /// Whether the server's machine has tables of mime types: without them `.md`, `.rs`, `.py` and
    /// the like have none.
    pub mime_tables: bool,
    pub log_requests: bool,
    /// Members of channels may read and not post.
    pub no_posting: bool,
    /// Persons, not bots, are refused all but their own account (403) until they use MFA.
    pub mfa_required: bool,
    /// Permissions that the members' role lacks: `edit_post`, `delete_post`, `add_reaction`,
    /// `remove_reaction`.
    pub role_lacks: Vec<&'static str>,
    /// Of every answer.
    pub rewrite: Option<Rewrite>,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            sub_path: "",
            max_post_size: 16383,
            commit_delay_ms: 0,
            link_delay_ms: 0,
            edits_move_last_post_at: true,
            edit_takes_ms: 0,
            edit_time_limit_secs: None,
            since_cache: true,
            stale_page_etag: false,
            weaken: Weaken::No,
            date_offset_ms: 0,
            rate_limit: None,
            client_waits_ms: None,
            request_takes_ms: 0,
            file_takes_ms: 0,
            file_bytes_per_sec: None,
            mime_tables: true,
            no_posting: false,
            mfa_required: false,
            role_lacks: Vec::new(),
            log_requests: true,
            rewrite: None,
        }
    }
}

/// All that the server knows.
pub struct World {
    pub version: Version,
    pub knobs: Knobs,
    /// How far the server's clock is off; may jump either way.
    pub clock_offset_ms: i64,
    pub(super) time: Time,
    /// The moment of the action that is running, which may lie before this request.
    acting_at: Option<u64>,
    scheduled: BTreeMap<(u64, u64), Action>,
    sequence: u64,
    pub(super) random: Random,
    pub(super) users: BTreeMap<String, User>,
    pub(super) usernames: HashMap<String, String>,
    pub(super) tokens: HashMap<String, String>,
    pub(super) teams: BTreeMap<String, Team>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) posts: Vec<Post>,
    pub(super) post_index: HashMap<String, usize>,
    /// Committed posts by the post that their `props.prx` says, or once said, they answer.
    answers: HashMap<String, Vec<usize>>,
    pub(super) files: HashMap<String, File>,
    /// Custom emoji.
    pub(super) emoji: BTreeSet<String>,
    pub(super) pending: HashMap<String, Pending>,
    pub(super) plans: Vec<Plan>,
    /// Posts whose links are being fetched, and when that ends, in milliseconds since the beginning.
    pub(super) fetching: Vec<(usize, u64)>,
    /// When the rate limit's bucket is empty again, in milliseconds since the beginning.
    pub(super) bucket_empty_at: u64,
    /// Who asks now: a quoted post is shown to those who may read it.
    pub(super) viewer: String,
    pub typing: Vec<Typing>,
    pub log: Vec<Logged>,
    /// Counted whether they are logged or not.
    pub request_count: u64,
}

/// What the server remembers of a `pending_post_id`.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Since the beginning.
    pub first_tried_ms: u64,
    /// `None` while it is being created.
    pub post: Option<usize>,
}

impl World {
    pub(super) fn new(version: Version, time: Time) -> World {
        World {
            version,
            knobs: Knobs::default(),
            clock_offset_ms: 0,
            time,
            acting_at: None,
            scheduled: BTreeMap::new(),
            sequence: 0,
            random: Random(0x9e37_79b9_7f4a_7c15),
            users: BTreeMap::new(),
            usernames: HashMap::new(),
            tokens: HashMap::new(),
            teams: BTreeMap::new(),
            channels: BTreeMap::new(),
            posts: Vec::new(),
            post_index: HashMap::new(),
            answers: HashMap::new(),
            files: HashMap::new(),
            emoji: BTreeSet::new(),
            pending: HashMap::new(),
            plans: Vec::new(),
            fetching: Vec::new(),
            bucket_empty_at: 0,
            viewer: String::new(),
            typing: Vec::new(),
            log: Vec::new(),
            request_count: 0,
        }
    }

    // Time.

    /// Milliseconds since the beginning, untouched by the clock's offset.
    pub fn elapsed_ms(&self) -> u64 {
        self.acting_at.unwrap_or_else(|| self.time.elapsed_ms())
    }

    /// The server's clock: what it stamps, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        self.stamp(self.elapsed_ms())
    }

    fn stamp(&self, elapsed_ms: u64) -> u64 {
        (self.time.epoch_ms() + elapsed_ms).saturating_add_signed(self.clock_offset_ms)
    }

    /// Does `action` once `ms` have passed, seen from now.
    pub fn at(&mut self, ms: u64, action: impl FnOnce(&mut World) + Send + 'static) {
        self.sequence += 1;
        let key = (self.elapsed_ms() + ms, self.sequence);
        self.scheduled.insert(key, Box::new(action));
    }

    /// Does, in order, all that was due by now.
    pub fn settle(&mut self) {
        let until = self.elapsed_ms();
        while let Some(entry) = self.scheduled.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((due, _), action) = entry.remove_entry();
            let outer = self.acting_at.replace(due);
            action(self);
            self.acting_at = outer;
        }
    }

    /// The next `count` requests of a method whose path (without `/api/v4/`) begins so suffer `act`.
    /// A segment `*` stands for any, a `$` at the end for the path's end: `posts$` is not
    /// `posts/ids`. Several plans may stand side by side.
    pub fn plan(&mut self, count: usize, method: &'static str, path: &'static str, act: Act) {
        self.plans.push(Plan {
            method,
            path,
            left: count,
            act,
        });
    }

    /// Chooses the arbitrary: ids, which 1000 posts, the order of what is unsorted.
    pub fn seed(&mut self, seed: u64) {
        self.random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    }

    /// What is only in a server's memory.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
        self.bucket_empty_at = 0;
        for channel in self.channels.values_mut() {
            channel.cached_update_at = None;
        }
    }

    // People.

    pub fn add_user(&mut self, username: &str) -> Account {
        self.add_account(username, false)
    }

    pub fn add_bot(&mut self, username: &str) -> Account {
        self.add_account(username, true)
    }

    fn add_account(&mut self, username: &str, is_bot: bool) -> Account {
        let now = self.now();
        let id = self.random.id();
        self.users.insert(
            id.clone(),
            User {
                id: id.clone(),
                username: username.into(),
                first_name: String::new(),
                is_bot,
                bot_description: String::new(),
                roles: "system_user".into(),
                remote_id: String::new(),
                create_at: now,
                update_at: now,
                delete_at: 0,
            },
        );
        self.usernames.insert(username.into(), id.clone());
        let token = self.add_token(&id);
        Account { id, token }
    }

    /// One more token for the same account.
    pub fn add_token(&mut self, user: &str) -> String {
        let token = self.random.id();
        self.tokens.insert(token.clone(), user.into());
        token
    }

    pub fn revoke_token(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    pub fn user(&self, id: &str) -> &User {
        &self.users[id]
    }

    pub fn user_mut(&mut self, id: &str) -> &mut User {
        self.users.get_mut(id).expect("a user")
    }

    pub fn deactivate(&mut self, user: &str) {
        let now = self.now();
        let user = self.user_mut(user);
        (user.delete_at, user.update_at) = (now, now);
    }

    pub fn reactivate(&mut self, user: &str) {
        let now = self.now();
        let user = self.user_mut(user);
        (user.delete_at, user.update_at) = (0, now);
    }

    pub fn rename_user(&mut self, user: &str, username: &str) {
        let now = self.now();
        let changed = self.user_mut(user);
        let old = std::mem::replace(&mut changed.username, username.into());
        changed.update_at = now;
        self.usernames.remove(&old);
        self.usernames.insert(username.into(), user.into());
    }

    // Teams and channels.

    /// A team with its two default channels.
    pub fn add_team(&mut self, name: &str) -> String {
        let (now, id, invite_id) = (self.now(), self.random.id(), self.random.id());
        self.teams.insert(
            id.clone(),
            Team {
                id: id.clone(),
                name: name.into(),
                display_name: capitalized(name),
                invite_id,
                create_at: now,
                members: BTreeSet::new(),
            },
        );
        for name in ["town-square", "off-topic"] {
            self.add_channel(&id, name, Kind::Open);
        }
        id
    }

    /// Into the team and its default channels, each of which says so.
    pub fn join_team(&mut self, team: &str, user: &str) {
        for name in ["town-square", "off-topic"] {
            let channel = self.channel_named(team, name);
            self.add_member(&channel, user, Joining::WithTeam);
        }
    }

    /// Out of the team and all of its channels.
    pub fn leave_team(&mut self, team: &str, user: &str) {
        let town_square = self.channel_named(team, "town-square");
        self.team_mut(team).members.remove(user);
        for channel in self.channels.values_mut() {
            if channel.team_id == team {
                channel.members.remove(user);
            }
        }
        let text = format!("{} left the team.", self.users[user].username);
        self.system_post(&town_square, user, "system_leave_team", &text, json!({}));
    }

    /// The id of a team.
    pub fn team_named(&self, name: &str) -> Option<String> {
        let team = self.teams.values().find(|team| team.name == name);
        team.map(|team| team.id.clone())
    }

    pub fn team_mut(&mut self, id: &str) -> &mut Team {
        self.teams.get_mut(id).expect("a team")
    }

    /// Nobody is in it yet.
    pub fn add_channel(&mut self, team: &str, name: &str, kind: Kind) -> String {
        let words: Vec<String> = name.split('-').map(capitalized).collect();
        let display_name = match name {
            "off-topic" => words.join("-"),
            _ => words.join(" "),
        };
        self.insert_channel(team, name, &display_name, kind, "")
    }

    /// The direct channel of two people: the one there is, or one opened by `a`.
    pub fn direct_channel(&mut self, a: &str, b: &str) -> String {
        let (first, second) = if a < b { (a, b) } else { (b, a) };
        let name = format!("{first}__{second}");
        let existing = self.channels.values().find(|channel| channel.name == name);
        if let Some(channel) = existing {
            return channel.id.clone();
        }
        let id = self.insert_channel("", &name, "", Kind::Direct, a);
        let now = self.now();
        self.channel_mut(&id).members = [(a.into(), now), (b.into(), now)].into();
        id
    }

    pub fn group_channel(&mut self, users: &[&str]) -> String {
        let names = users.iter().map(|id| self.users[*id].username.clone());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let hex = (0..40).map(|_| char::from_digit(self.random.below(16) as u32, 16));
        let name: String = hex.map(|digit| digit.expect("below 16")).collect();
        let id = self.insert_channel("", &name, &names.join(", "), Kind::Group, "");
        let now = self.now();
        let members = users.iter().map(|user| (user.to_string(), now));
        self.channel_mut(&id).members = members.collect();
        id
    }

    fn insert_channel(
        &mut self,
        team: &str,
        name: &str,
        display_name: &str,
        kind: Kind,
        creator: &str,
    ) -> String {
        let (now, id) = (self.now(), self.random.id());
        self.channels.insert(
            id.clone(),
            Channel {
                id: id.clone(),
                team_id: team.into(),
                kind,
                name: name.into(),
                display_name: display_name.into(),
                creator_id: creator.into(),
                create_at: now,
                update_at: now,
                delete_at: 0,
                last_post_at: 0,
                last_root_post_at: 0,
                total_msg_count: 0,
                total_msg_count_root: 0,
                edited_at: 0,
                read_only: false,
                shared: false,
                members: BTreeMap::new(),
                timeline: Vec::new(),
                updated: BTreeSet::new(),
                cached_update_at: None,
            },
        );
        id
    }

    pub fn channel(&self, id: &str) -> &Channel {
        &self.channels[id]
    }

    pub fn channel_mut(&mut self, id: &str) -> &mut Channel {
        self.channels.get_mut(id).expect("a channel")
    }

    /// The id of a team's channel.
    pub fn channel_named(&self, team: &str, name: &str) -> String {
        let mut channels = self.channels.values();
        let found = channels.find(|channel| channel.team_id == team && channel.name == name);
        found.expect("a channel of that name").id.clone()
    }

    pub fn archive(&mut self, channel: &str, by: &str) {
        let text = format!("{} archived the channel.", self.users[by].username);
        self.system_post(channel, by, "system_channel_deleted", &text, json!({}));
        let now = self.now();
        let channel = self.channel_mut(channel);
        (channel.delete_at, channel.update_at) = (now, now);
    }

    pub fn unarchive(&mut self, channel: &str, by: &str) {
        let now = self.now();
        let restored = self.channel_mut(channel);
        (restored.delete_at, restored.update_at) = (0, now);
        let text = format!("{} unarchived the channel.", self.users[by].username);
        self.system_post(channel, by, "system_channel_restored", &text, json!({}));
    }

    /// By himself.
    pub fn join(&mut self, channel: &str, user: &str) {
        self.add_member(channel, user, Joining::Joined);
    }

    pub fn add_member(&mut self, channel: &str, user: &str, how: Joining) {
        let now = self.now();
        let joined = self.channel_mut(channel);
        joined.members.insert(user.into(), now);
        let team = joined.team_id.clone();
        if let Some(team) = self.teams.get_mut(&team) {
            team.members.insert(user.into());
        }
        let name = self.users[user].username.clone();
        match how {
            Joining::Silently => {}
            Joining::Joined => {
                let text = format!("{name} joined the channel.");
                let props = json!({ "username": name });
                self.system_post(channel, user, "system_join_channel", &text, props);
            }
            Joining::WithTeam => {
                let text = format!("{name} joined the team.");
                let props = json!({ "username": name });
                self.system_post(channel, user, "system_join_team", &text, props);
            }
            Joining::AddedBy(by) => {
                let by_name = self.users[by].username.clone();
                let text = format!("{name} added to the channel by {by_name}.");
                let props = json!({
                    "addedUserId": user, "addedUsername": name, "userId": by, "username": by_name,
                });
                self.system_post(channel, by, "system_add_to_channel", &text, props);
            }
        }
    }

    pub fn remove_member(&mut self, channel: &str, user: &str, by: &str) {
        self.channel_mut(channel).members.remove(user);
        let name = self.users[user].username.clone();
        let text = format!("@{name} removed from the channel.");
        let props = json!({ "removedUserId": user, "removedUsername": name });
        self.system_post(channel, by, "system_remove_from_channel", &text, props);
    }

    fn system_post(&mut self, channel: &str, user: &str, kind: &str, text: &str, props: Value) {
        let draft = self.draft(user, channel, text).kind(kind).props(props);
        draft.not_by_api().post();
    }

    // Posts.

    /// An ordinary post, at once. Its id.
    pub fn post(&mut self, user: &str, channel: &str, text: &str) -> String {
        self.draft(user, channel, text).post()
    }

    /// A post of any kind: finish it with `post`.
    pub fn draft(&mut self, user: &str, channel: &str, text: &str) -> Draft<'_> {
        let post = Post {
            id: self.random.id(),
            create_at: 0,
            update_at: 0,
            edit_at: 0,
            delete_at: 0,
            user_id: user.into(),
            channel_id: channel.into(),
            root_id: String::new(),
            original_id: String::new(),
            message: text.into(),
            kind: String::new(),
            props: Map::new(),
            file_ids: Vec::new(),
            is_pinned: false,
            remote_id: self.users[user].remote_id.clone(),
            reactions: Vec::new(),
            has_reactions: false,
            by_api: true,
            committed: false,
            replies: Vec::new(),
            json: RefCell::default(),
        };
        Draft {
            world: self,
            post,
            created_ms_ago: 0,
            visible_after_ms: 0,
            slow_links_ms: 0,
        }
    }

    /// A post by a webhook that `user` made, with message attachments (alerts have all of their text
    /// there).
    pub fn webhook_post(
        &mut self,
        user: &str,
        channel: &str,
        text: &str,
        attachments: Value,
    ) -> String {
        let draft = self.draft(user, channel, text).kind("slack_attachment");
        let props = json!({
            "from_webhook": "true", "webhook_display_name": "alerts",
            "override_username": "alerts", "attachments": attachments,
        });
        draft.props(props).not_by_api().post()
    }

    /// The address of a post, as people copy it: in a text, 11.6 embeds the post that it leads to.
    pub fn permalink(&self, post: &str) -> String {
        let channel = &self.channels[&self.posts[self.index(post)].channel_id];
        let team = self.teams.get(&channel.team_id);
        let team = team.or_else(|| self.teams.values().next());
        let team = team.map_or("", |team| &team.name);
        format!("{SITE_URL}/{team}/pl/{post}")
    }

    /// The post that the text's first address of a post leads to.
    pub(super) fn quoted(&self, message: &str) -> Option<usize> {
        let (_, rest) = message.split_once(SITE_URL)?;
        let (_, id) = rest.split_once("/pl/")?;
        let quoted = *self.post_index.get(id.get(..26)?)?;
        let is_there = self.version == Version::V11_6 && self.posts[quoted].delete_at == 0;
        is_there.then_some(quoted)
    }

    /// Members read; an open channel is read by its whole team.
    pub(super) fn may_read(&self, user: &str, channel: &Channel) -> bool {
        let team = self.teams.get(&channel.team_id);
        let in_team = team.is_some_and(|team| team.members.contains(user));
        channel.members.contains_key(user) || (channel.kind == Kind::Open && in_team)
    }

    /// `count` posts, numbered from 0, the last one now and each `apart_ms` after the one before.
    pub fn post_many(
        &mut self,
        user: &str,
        channel: &str,
        count: u64,
        apart_ms: u64,
    ) -> Vec<String> {
        let numbered = (0..count).map(|number| {
            let draft = self.draft(user, channel, &format!("message {number}"));
            draft.created_ms_ago((count - 1 - number) * apart_ms).post()
        });
        numbered.collect()
    }

    /// The moment a post becomes visible and the counters move. An edit, a deletion or a reaction
    /// never passes here.
    pub(super) fn commit(&mut self, index: usize) {
        let post = &mut self.posts[index];
        post.committed = true;
        let (create_at, update_at) = (post.create_at, post.update_at);
        let (channel_id, root_id) = (post.channel_id.clone(), post.root_id.clone());
        let counts = !COMES_AND_GOES.contains(&post.kind.as_str());
        self.note_answer(index);
        if let Some(&root) = self.post_index.get(&root_id) {
            self.posts[root].replies.push(index);
            let moved = self.posts[root].update_at.max(create_at);
            self.touch(root, moved);
        }
        self.list(index);
        let channel = self.channels.get_mut(&channel_id).expect("a channel");
        channel.updated.insert((update_at, index));
        let edited_at = std::mem::take(&mut channel.edited_at);
        channel.last_post_at = channel.last_post_at.max(create_at).max(edited_at);
        channel.total_msg_count += u64::from(counts);
        if root_id.is_empty() {
            channel.last_root_post_at = channel.last_root_post_at.max(create_at);
            channel.total_msg_count_root += u64::from(counts);
        }
        if let Some(quoted) = self.quoted(&self.posts[index].message) {
            // The server edits the post at once, to note what it quotes.
            let (former, mut noted) = (self.posts[index].clone(), self.posts[index].clone());
            let id = self.posts[quoted].id.as_str();
            noted.props.insert("previewed_post".into(), id.into());
            self.write_back(index, former, noted);
        }
    }

    /// The links of a post take this long to fetch, from now.
    pub(super) fn fetch(&mut self, index: usize, ms: u64) {
        let now = self.elapsed_ms();
        self.fetching.retain(|&(_, until)| until > now);
        if ms > 0 {
            self.fetching.push((index, now + ms));
        }
    }

    /// Puts a post in its place in the channel's timeline.
    fn list(&mut self, index: usize) {
        let create_at = self.posts[index].create_at;
        let channel = self.channels.get_mut(&self.posts[index].channel_id);
        let timeline = &mut channel.expect("a channel").timeline;
        let older = |&other: &usize| self.posts[other].create_at <= create_at;
        // Nearly always the newest: a search from the end is one step.
        let place = timeline.iter().rposition(older).map_or(0, |last| last + 1);
        timeline.insert(place, index);
    }

    /// Moves a post's `update_at`: the end of every change.
    fn touch(&mut self, index: usize, update_at: u64) {
        let post = &mut self.posts[index];
        post.json.take();
        let old = std::mem::replace(&mut post.update_at, update_at);
        if post.committed {
            let channel = self.channels.get_mut(&post.channel_id);
            let updated = &mut channel.expect("a channel").updated;
            updated.remove(&(old, index));
            updated.insert((update_at, index));
        }
    }

    fn index(&self, post: &str) -> usize {
        *self.post_index.get(post).expect("a post")
    }

    pub fn edit(&mut self, post: &str, text: &str) {
        let text = text.to_owned();
        self.change(post, move |post| post.message = text);
    }

    /// An edit of nothing but the files that belong to a post.
    pub fn edit_files(&mut self, post: &str, files: &[String]) {
        let files = files.to_vec();
        self.change(post, move |post| post.file_ids = files);
    }

    /// An edit, read and written in one moment.
    fn change(&mut self, post: &str, change: impl FnOnce(&mut Post)) {
        let index = self.index(post);
        let (former, mut edited) = (self.posts[index].clone(), self.posts[index].clone());
        change(&mut edited);
        self.write_back(index, former, edited);
    }

    /// The end of an edit: `former` is the post as it was read, `edited` replaces it whole, whatever
    /// it has become meanwhile. The former state stays behind as a deleted row under another id.
    pub(super) fn write_back(&mut self, index: usize, mut former: Post, edited: Post) {
        let now = self.now();
        let (committed, channel_id) = (former.committed, former.channel_id.clone());
        if former.message != edited.message
            || former.file_ids != edited.file_ids
            || former.props.get("attachments") != edited.props.get("attachments")
        {
            self.posts[index].edit_at = now;
        }
        former.original_id = std::mem::replace(&mut former.id, self.random.id());
        (former.update_at, former.delete_at) = (now, now);
        former.replies.clear();
        former.reactions.clear();
        former.json.take();
        let former_index = self.posts.len();
        self.post_index.insert(former.id.clone(), former_index);
        self.posts.push(former);

        let post = &mut self.posts[index];
        post.message = edited.message;
        post.props = edited.props;
        post.file_ids = edited.file_ids;
        post.is_pinned = edited.is_pinned;
        post.has_reactions = edited.has_reactions;
        post.delete_at = edited.delete_at;
        self.note_answer(index);
        self.touch(index, now);
        if let Some(&root) = self.post_index.get(&self.posts[index].root_id) {
            self.touch(root, now);
        }
        if committed {
            self.list(former_index);
            let moves = self.knobs.edits_move_last_post_at;
            let channel = self.channel_mut(&channel_id);
            channel.updated.insert((now, former_index));
            if moves {
                channel.edited_at = channel.edited_at.max(now);
            }
        }
    }

    /// A file that is in no post yet. Its id.
    pub fn upload(&mut self, user: &str, channel: &str, name: &str, bytes: &[u8]) -> String {
        let id = self.random.id();
        let file = File {
            id: id.clone(),
            user_id: user.into(),
            post_id: String::new(),
            channel_id: channel.into(),
            create_at: self.now(),
            name: name.into(),
            mime_type: mime_type_of(name, self.knobs.mime_tables),
            bytes: bytes.into(),
            delete_at: 0,
            was_read: false,
        };
        self.files.insert(id.clone(), file);
        id
    }

    /// Makes free files of the post's author its own, and drops from `file_ids` what is not its own.
    pub(super) fn attach(&mut self, post: &mut Post) {
        let (post_id, user_id) = (&post.id, &post.user_id);
        post.file_ids.retain(|id| {
            let Some(file) = self.files.get_mut(id) else {
                return false;
            };
            if file.post_id.is_empty() && file.user_id == *user_id {
                file.post_id = post_id.clone();
            }
            file.post_id == *post_id
        });
    }

    /// Remembers which question the post says that it answers.
    fn note_answer(&mut self, index: usize) {
        if let Some(question) = answered(&self.posts[index].props) {
            let answers = self.answers.entry(question.into()).or_default();
            if !answers.contains(&index) {
                answers.push(index);
            }
        }
    }

    /// By its author; a root takes its thread along.
    pub fn delete(&mut self, post: &str) {
        let by = self.posts[self.index(post)].user_id.clone();
        self.delete_by(post, &by);
    }

    pub(super) fn delete_by(&mut self, post: &str, by: &str) {
        let (now, index) = (self.now(), self.index(post));
        let replies = self.posts[index].replies.clone();
        for index in std::iter::once(index).chain(replies) {
            self.posts[index].delete_at = now;
            let props = &mut self.posts[index].props;
            props.insert("deleteBy".into(), by.into());
            for file in &self.posts[index].file_ids {
                if let Some(file) = self.files.get_mut(file) {
                    file.delete_at = now;
                }
            }
            self.touch(index, now);
        }
    }

    /// Adds a reaction; one that is there already only moves the times.
    pub fn react(&mut self, user: &str, post: &str, emoji_name: &str) {
        let (now, index) = (self.now(), self.index(post));
        let reactions = &mut self.posts[index].reactions;
        match reactions
            .iter_mut()
            .find(|known| known.is(user, emoji_name))
        {
            Some(known) => known.update_at = now,
            None => reactions.push(Reaction {
                user_id: user.into(),
                emoji_name: emoji_name.into(),
                create_at: now,
                update_at: now,
            }),
        }
        self.posts[index].has_reactions = true;
        self.touch(index, now);
    }

    /// Takes a reaction away, if it is there; the post's `update_at` moves anyhow.
    pub fn unreact(&mut self, user: &str, post: &str, emoji_name: &str) {
        let (now, index) = (self.now(), self.index(post));
        let post = &mut self.posts[index];
        post.reactions
            .retain(|reaction| !reaction.is(user, emoji_name));
        post.has_reactions = !post.reactions.is_empty();
        self.touch(index, now);
    }

    /// One more emoji that 11.6 takes as a reaction.
    pub fn add_emoji(&mut self, name: &str) {
        self.emoji.insert(name.into());
    }

    // Questions.

    /// As the server has it, visible or not.
    pub fn post_by_id(&self, id: &str) -> Post {
        self.posts[self.index(id)].clone()
    }

    /// What is to be seen in a channel, oldest first.
    pub fn posts_in(&self, channel: &str) -> Vec<Post> {
        let timeline = self.channels[channel].timeline.iter();
        let posts = timeline.map(|&index| &self.posts[index]);
        posts.filter(|post| post.delete_at == 0).cloned().collect()
    }

    /// A thread's replies that are to be seen, oldest first.
    pub fn replies_to(&self, root: &str) -> Vec<Post> {
        let replies = self.posts[self.index(root)].replies.iter();
        let replies = replies.map(|&index| &self.posts[index]);
        let mut replies: Vec<Post> = replies
            .filter(|post| post.delete_at == 0)
            .cloned()
            .collect();
        replies.sort_by_key(|post| post.create_at);
        replies
    }

    /// The names of the emoji that `user` reacted to a post with, in their order.
    pub fn reactions_by(&self, user: &str, post: &str) -> Vec<String> {
        let reactions = self.posts[self.index(post)].reactions.iter();
        let own = reactions.filter(|reaction| reaction.user_id == user);
        own.map(|reaction| reaction.emoji_name.clone()).collect()
    }

    /// The texts that edits of a post left behind, oldest first.
    pub fn former_texts(&self, post: &str) -> Vec<String> {
        let rows = self.posts.iter().filter(|row| row.original_id == post);
        rows.map(|row| row.message.clone()).collect()
    }

    /// The posts by `bot` whose `props.prx` says that they answer `question`, in the order in which
    /// they began to say so, in whatever channel, deleted or not.
    pub fn own_answers(&self, bot: &str, question: &str) -> Vec<Post> {
        let answers = self.answers.get(question).into_iter().flatten();
        let answers = answers.map(|&index| &self.posts[index]);
        answers
            .filter(|post| post.user_id == bot && answered(&post.props) == Some(question))
            .cloned()
            .collect()
    }

    /// The log so far, which begins anew.
    pub fn clear_log(&mut self) -> Vec<Logged> {
        std::mem::take(&mut self.log)
    }
}

/// Where its users find the server, as its settings say.
const SITE_URL: &str = "http://chat.example";

/// The posts that `total_msg_count` leaves out.
const COMES_AND_GOES: [&str; 10] = [
    "system_join_leave",
    "system_add_remove",
    "system_join_channel",
    "system_leave_channel",
    "system_join_team",
    "system_leave_team",
    "system_add_to_channel",
    "system_remove_from_channel",
    "system_add_to_team",
    "system_remove_from_team",
];

/// Props as they are kept: message attachments get all of their fields.
pub(super) fn whole_props(mut props: Map<String, Value>) -> Map<String, Value> {
    let attachments = props.get_mut("attachments").and_then(Value::as_array_mut);
    for attachment in attachments.into_iter().flatten() {
        let mut whole = json!({
            "id": 0, "fallback": "", "color": "", "pretext": "", "author_name": "",
            "author_link": "", "author_icon": "", "title": "", "title_link": "", "text": "",
            "fields": null, "image_url": "", "thumb_url": "", "footer": "", "footer_icon": "",
            "ts": null,
        });
        if let (Some(whole), Some(given)) = (whole.as_object_mut(), attachment.as_object()) {
            whole.extend(given.clone());
        }
        *attachment = whole;
    }
    props
}

fn answered(props: &Map<String, Value>) -> Option<&str> {
    props.get("prx")?.get("in_reply_to")?.as_str()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// A post that is not there yet.
pub struct Draft<'w> {
    pub(super) world: &'w mut World,
    pub(super) post: Post,
    created_ms_ago: u64,
    visible_after_ms: u64,
    slow_links_ms: u64,
}

impl Draft<'_> {
    /// Into the thread of `root`.
    pub fn root(mut self, root: &str) -> Self {
        self.post.root_id = root.into();
        self
    }

    /// The post's `type`.
    pub fn kind(mut self, kind: &str) -> Self {
        self.post.kind = kind.into();
        self
    }

    /// An object, laid over the props so far.
    pub fn props(mut self, props: Value) -> Self {
        self.post
            .props
            .extend(props.as_object().cloned().unwrap_or_default());
        self
    }

    pub fn prop(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.post.props.insert(name.into(), value.into());
        self
    }

    /// With a file. Its mime type is what the server would take from the name.
    pub fn attach(mut self, name: &str, bytes: &[u8]) -> Self {
        let (user, channel) = (&self.post.user_id, &self.post.channel_id);
        let id = self.world.upload(user, channel, name, bytes);
        let file = self.world.files.get_mut(&id).expect("the one just made");
        file.post_id = self.post.id.clone();
        self.post.file_ids.push(id);
        self
    }

    /// With an upload of its author.
    pub fn with_file(mut self, id: &str) -> Self {
        self.post.file_ids.push(id.into());
        self.world.attach(&mut self.post);
        self
    }

    /// With a file of this mime type, whatever its name.
    pub fn file(mut self, name: &str, mime_type: &str, bytes: &[u8]) -> Self {
        self = self.attach(name, bytes);
        let id = self.post.file_ids.last().expect("the one just attached");
        let file = self.world.files.get_mut(id).expect("a file");
        file.mime_type = mime_type.into();
        self
    }

    /// As the server, a webhook or a slash command makes posts.
    pub fn not_by_api(mut self) -> Self {
        self.post.by_api = false;
        self
    }

    /// Its `create_at` lies this far back, though it is visible only at once or later.
    pub fn created_ms_ago(mut self, ms: u64) -> Self {
        self.created_ms_ago = ms;
        self
    }

    /// It is stamped now (or `created_ms_ago`), and committed this much later.
    pub fn visible_after_ms(mut self, ms: u64) -> Self {
        self.visible_after_ms = ms;
        self
    }

    /// Its links take the server this long to fetch: until then 11.6 does not commit it, and on
    /// 5.37 those who read it wait.
    pub fn slow_links_ms(mut self, ms: u64) -> Self {
        self.slow_links_ms = ms;
        self
    }

    /// Its id.
    pub fn post(self) -> String {
        let id = self.post.id.clone();
        self.insert();
        id
    }

    pub(super) fn insert(mut self) -> usize {
        let world = self.world;
        self.post.create_at = world.now().saturating_sub(self.created_ms_ago);
        self.post.update_at = self.post.create_at;
        self.post.props = whole_props(self.post.props);
        if world.users[&self.post.user_id].is_bot && self.post.by_api {
            self.post.props.insert("from_bot".into(), "true".into());
        }
        let index = world.posts.len();
        world.post_index.insert(self.post.id.clone(), index);
        world.posts.push(self.post);
        let mut visible_after_ms = self.visible_after_ms;
        match world.version {
            Version::V11_6 => visible_after_ms += self.slow_links_ms,
            Version::V5_37 => world.fetch(index, self.slow_links_ms),
        }
        match visible_after_ms {
            0 => world.commit(index),
            ms => world.at(ms, move |world| world.commit(index)),
        }
        index
    }
}
