//! The first recordings, made in one session: people, channels, posts, in their order.

use serde_json::Value;

use super::replay::Replay;
use crate::support::mattermost::{Account, Joining, Kind, RateLimit, Version};

struct Cast {
    bot: Account,
    alice: Account,
    admin: Account,
    bob: Account,
    town: String,
    direct: String,
}

pub fn session(replay: &mut Replay) {
    // The recordings happen to come from fresh caches.
    replay.server.world().knobs.since_cache = false;
    let cast = prepare(replay);
    people_and_channels(replay, &cast);
    let question = new_posts(replay, &cast);
    changes(replay, &cast, &question);
    if replay.version == Version::V11_6 {
        deletions_and_other_authors(replay, &cast);
        removal(replay, &cast);
        rate_limit(replay, &cast);
    }
}

/// All that was there before the first exchange.
fn prepare(replay: &mut Replay) -> Cast {
    let [bot, alice, admin, bob] = people(replay);
    let (direct, group) = {
        let mut world = replay.server.world();
        let direct = world.direct_channel(&alice, &bot);
        (direct, world.group_channel(&[&alice, &bob, &bot]))
    };
    let recorded = replay.recorded("channel-direct");
    replay.bind(&recorded["id"], &direct);
    for _ in 0..recorded["total_msg_count"].as_u64().expect("a count") {
        replay.server.world().post(&alice, &direct, "earlier");
    }
    let recorded = replay.recorded("channel-group");
    replay.bind(&recorded["id"], &group);
    let name = recorded["name"].as_str().expect("a name");
    replay.server.world().channel_mut(&group).name = name.into();
    let mut list = replay.recorded("channels-me-team");
    let list = list.as_array_mut().expect("a list");
    list.sort_by_key(|channel| {
        let moved = channel["update_at"].as_u64();
        moved.max(channel["last_post_at"].as_u64())
    });
    for recorded in list {
        add_recorded_channel(replay, recorded, &bot, &admin);
    }
    unlisted_channels(replay, &bot, &admin);
    let town = replay.recorded("channel")["id"].take();
    let town = replay.ids[town.as_str().expect("an id")].clone();
    for person in [&alice, &bob] {
        let mut world = replay.server.world();
        world.add_member(&town, person, Joining::Silently);
    }
    Cast {
        bot,
        alice,
        admin,
        bob,
        town,
        direct,
    }
}

/// The people, whose recorded ids are bound.
fn people(replay: &mut Replay) -> [Account; 4] {
    let mut world = replay.server.world();
    let team = world.add_team("lab");
    let admin = world.add_user("admin");
    let bot = world.add_bot("prxbot");
    let alice = world.add_user("alice");
    let bob = world.add_user("bob");
    world.user_mut(&bot).first_name = "PRX".into();
    world.user_mut(&bot).bot_description = "assistant".into();
    for person in [&admin, &bot, &alice, &bob] {
        world.join_team(&team, person);
    }
    drop(world);
    for (name, account) in [("users-me", &bot), ("users-me-person", &alice)] {
        let id = replay.recorded(name)["id"].take();
        replay.bind(&id, &account.id);
    }
    let id = replay.recorded("users-by-ids")[1]["id"].take();
    replay.bind(&id, &bob.id);
    let id = replay.recorded("channel")["creator_id"].take();
    replay.bind(&id, &admin.id);
    let id = replay.recorded("teams-me")[0]["id"].take();
    replay.bind(&id, &team);
    [bot, alice, admin, bob]
}

/// One of the channels that the bot was in, as its last event left it.
fn add_recorded_channel(replay: &mut Replay, recorded: &Value, bot: &Account, admin: &Account) {
    let text = |field: &str| recorded[field].as_str().expect("text").to_owned();
    let known = replay.ids.get(&text("id")).cloned();
    replay.clock.advance(5);
    let mut world = replay.server.world();
    let team = world.team_named("lab").expect("the team");
    let id = match (known, text("type").as_str()) {
        (Some(known), _) => known,
        (None, "D") => {
            let name = text("name");
            let halves = name.split("__");
            let mut others = halves.filter(|id| replay.ids.get(*id) != Some(&bot.id));
            let other = others.next().expect("another").to_owned();
            let stranger = || world.add_user("stranger").id;
            let here = replay.ids.entry(other).or_insert_with(stranger).clone();
            let id = world.direct_channel(&here, bot);
            world.channel_mut(&id).creator_id = replay.ids[&text("creator_id")].clone();
            id
        }
        (None, _) if text("creator_id").is_empty() => world.channel_named(&team, &text("name")),
        (None, kind) => {
            let kind = if kind == "P" {
                Kind::Private
            } else {
                Kind::Open
            };
            let id = world.add_channel(&team, &text("name"), kind);
            let channel = world.channel_mut(&id);
            channel.display_name = text("display_name");
            channel.creator_id = admin.id.clone();
            world.add_member(&id, bot, Joining::AddedBy(admin));
            id
        }
    };
    let number = |field: &str| recorded[field].as_u64().unwrap_or_default();
    let now = world.now();
    let channel = world.channel_mut(&id);
    channel.total_msg_count = number("total_msg_count");
    channel.total_msg_count_root = number("total_msg_count_root");
    let moment = |field: &str| if number(field) > 0 { now } else { 0 };
    (channel.create_at, channel.update_at) = (now, now);
    channel.last_post_at = moment("last_post_at");
    channel.last_root_post_at = channel.last_post_at;
    drop(world);
    replay.bind(&recorded["id"], &id);
}

/// A private channel without the bot, and an archived one with it.
fn unlisted_channels(replay: &mut Replay, bot: &Account, admin: &Account) {
    let recorded = replay.recorded("channel-archived");
    let mut world = replay.server.world();
    let team = world.team_named("lab").expect("the team");
    let secret = world.add_channel(&team, "secret", Kind::Private);
    let gone = world.add_channel(&team, "gone", Kind::Open);
    let channel = world.channel_mut(&gone);
    channel.name = recorded["name"].as_str().expect("a name").into();
    channel.display_name = "Archived".into();
    channel.creator_id = admin.id.clone();
    world.add_member(&gone, bot, Joining::AddedBy(admin));
    world.archive(&gone, admin);
    drop(world);
    replay.about("channel-not-member", &secret);
    replay.about("channel-archived", &gone);
}

fn people_and_channels(replay: &mut Replay, cast: &Cast) {
    replay.check("no-such-token", &["users-me-bad-token"]);
    replay.check("", &["users-me-no-token", "ping"]);
    replay.check(&cast.alice.token, &["users-me-person"]);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "client-config", "not-found", "users-me", "teams-me", "users-by-ids", "users-by-usernames",
        "channel", "channel-bad-id", "channel-unknown", "channel-not-member", "channel-archived",
        "channel-direct", "channel-group", "channel-member-me",
        "channels-me", "channels-me-team", "channels-me-team-etag",
    ]);
}

/// Gives the id of a person's question.
fn new_posts(replay: &mut Replay, cast: &Cast) -> String {
    replay.check(&cast.alice.token, &["post-create-person"]);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "post-create-bot", "post-create-reply", "post-create-reply-to-reply",
        "post-create-unknown-root", "post-create-root-elsewhere", "post-create-not-member",
        "post-create-bad-channel", "post-create-archived", "post-create-empty", "post-create-blank",
        "post-create-max", "post-create-too-long", "post-create-pending-first",
        "post-create-pending-again", "post-create-markup", "posts-since",
    ]);
    let question = replay.recorded("post-create-person")["id"].take();
    replay.ids[question.as_str().expect("an id")].clone()
}

/// What changes show, and in which order.
fn changes(replay: &mut Replay, cast: &Cast, question: &str) {
    let (token, town) = (&cast.bot.token, &cast.town);
    let late = replay.step(|world| {
        let draft = world.draft(&cast.alice, town, "a late reply");
        draft.root(question).post()
    });
    replay.newest_is("posts-since-late-reply", &late);
    replay.check(token, &["posts-since-late-reply"]);
    replay.step(|world| world.edit(&late, "a late reply, edited"));
    replay.check(token, &["posts-since-edited"]);
    let deleted = replay.step(|world| world.post(&cast.alice, town, "to be deleted"));
    replay.step(|world| world.delete(&deleted));
    replay.newest_is("posts-since-deleted", &deleted);
    replay.check(token, &["posts-since-deleted"]);
    replay.step(|world| world.react(&cast.alice, question, "eyes"));
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "posts-since-reaction", "posts-since-quiet", "posts-bad-since", "posts-not-member",
        "posts-after", "posts-after-unknown", "posts-page",
        "thread", "thread-by-reply", "thread-unknown",
        "typing", "typing-root", "typing-not-member", "typing-other-user",
    ]);
    replay.step(|world| world.remove_member(town, &cast.bob, &cast.admin));
    replay.step(|world| world.add_member(town, &cast.bob, Joining::AddedBy(&cast.admin)));
    replay.check(token, &["posts-system"]);
    let word = replay.step(|world| world.post(&cast.alice, &cast.direct, "a direct message"));
    replay.newest_is("posts-direct", &word);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "posts-direct", "post-patch", "post-patch-other", "reaction-add", "post",
    ]);
}

fn deletions_and_other_authors(replay: &mut Replay, cast: &Cast) {
    let (token, town) = (&cast.bot.token, &cast.town);
    let deleted = replay.step(|world| world.post(&cast.alice, town, "to be deleted"));
    replay.step(|world| world.delete(&deleted));
    replay.about("thread-deleted-root", &deleted);
    replay.check(token, &["thread-deleted-root", "post-create-deleted-root"]);
    replay.step(|world| {
        let draft = world.draft(&cast.admin, town, "from a webhook @prxbot");
        let draft = draft.not_by_api().prop("from_webhook", "true");
        draft.prop("webhook_display_name", "ci").post()
    });
    replay.check(token, &["posts-webhook"]);
    replay.check(&cast.alice.token, &["command-me"]);
    replay.check(token, &["posts-me"]);
    replay.step(|world| {
        let bytes = b"three lines\nof plain\ntext\n";
        let draft = world.draft(&cast.alice, town, "");
        draft.attach("notes.txt", bytes).post()
    });
    replay.check(token, &["posts-attachment", "file"]);
}

fn removal(replay: &mut Replay, cast: &Cast) {
    let (token, town) = (&cast.bot.token, &cast.town);
    replay.step(|world| world.remove_member(town, &cast.bot, &cast.admin));
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "posts-since-removed", "channel-member-me-removed", "post-create-removed", "typing-removed",
    ]);
    replay.step(|world| world.add_member(town, &cast.bot, Joining::AddedBy(&cast.admin)));
    replay.check(token, &["posts-added"]);
}

fn rate_limit(replay: &mut Replay, cast: &Cast) {
    let limit = RateLimit {
        per_sec: 2,
        max_burst: 5,
        silent: false,
    };
    replay.server.world().knobs.rate_limit = Some(limit);
    for _ in 0..6 {
        replay.client.get(&cast.bot.token, "users/me");
    }
    replay.check(&cast.bot.token, &["rate-limited"]);
}
