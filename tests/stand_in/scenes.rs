//! What was done when the recordings were made, scene by scene.

use serde_json::{Value, json};

use super::first;
use super::replay::Replay;
use crate::support::mattermost::picture::{gif, jpeg, jpeg_turned, png, webp};
use crate::support::mattermost::{Account, Joining, Kind};

/// All that was recorded, each scene on a server of its own.
pub fn play_all(replay: &mut Replay) {
    first::session(replay);
    for scene in [
        people,
        edits,
        refused_edits,
        deletions,
        single_posts,
        reactions,
        files,
        files_of_deleted_posts,
        rights_to_files,
        generated_by,
    ] {
        replay.begin_anew();
        scene(replay);
    }
}

/// The people of the later recordings, and a channel with all of them.
struct Cast {
    bot: Account,
    alice: Account,
    admin: Account,
    bob: Account,
    team: String,
    channel: String,
    /// The channel's first post: the one who made it joins it.
    first: String,
}

impl Cast {
    fn new(replay: &Replay) -> Cast {
        let mut world = replay.server.world();
        world.knobs.since_cache = false;
        let team = world.add_team("lab");
        let admin = world.add_user("admin");
        let bot = world.add_bot("recbot");
        let [alice, bob] = ["alice", "bob"].map(|name| world.add_user(name));
        for person in [&admin, &bot, &alice, &bob] {
            world.join_team(&team, person);
        }
        drop(world);
        let mut cast = Cast {
            bot,
            alice,
            admin,
            bob,
            team,
            channel: String::new(),
            first: String::new(),
        };
        cast.channel = cast.channel(replay, "scratch", Kind::Open);
        cast.first = replay.server.world().posts_in(&cast.channel)[0].id.clone();
        for person in [&cast.bot, &cast.alice, &cast.bob] {
            replay.step(|world| {
                world.add_member(&cast.channel, person, Joining::AddedBy(&cast.admin))
            });
        }
        cast
    }

    /// One more channel, with the admin in it.
    fn channel(&self, replay: &Replay, name: &str, kind: Kind) -> String {
        replay.step(|world| {
            let channel = world.add_channel(&self.team, name, kind);
            world.join(&channel, &self.admin);
            channel
        })
    }

    /// The same with the bot and Alice.
    fn channel_with_all(&self, replay: &Replay, name: &str, kind: Kind) -> String {
        let channel = self.channel(replay, name, kind);
        for person in [&self.bot, &self.alice] {
            replay.step(|world| world.add_member(&channel, person, Joining::AddedBy(&self.admin)));
        }
        channel
    }

    fn post(&self, replay: &Replay, channel: &str, text: &str) -> String {
        replay.step(|world| world.post(&self.bot, channel, text))
    }

    /// An upload by Alice, which is the file that the recording is about.
    fn uploads(
        &self,
        replay: &mut Replay,
        channel: &str,
        recording: &str,
        name: &str,
        bytes: &[u8],
    ) -> String {
        let file = replay.step(|world| world.upload(&self.alice, channel, name, bytes));
        replay.about(recording, &file);
        file
    }

    fn posts_file(&self, replay: &Replay, channel: &str, file: &str) -> String {
        replay.step(|world| {
            let draft = world.draft(&self.alice, channel, "");
            draft.with_file(file).post()
        })
    }

    fn asks(&self, replay: &Replay, channel: &str, text: &str) -> String {
        replay.step(|world| world.post(&self.alice, channel, text))
    }
}

/// People, by id and by name.
fn people(replay: &mut Replay) {
    let cast = Cast::new(replay);
    replay.about("user-by-id", &cast.alice);
    let gone = replay.step(|world| {
        let gone = world.add_user("gone");
        world.deactivate(&gone);
        gone
    });
    let ids = replay.recording("users-by-ids-deactivated");
    let ids = ids.expect("a recording")["request"]["body"].take();
    replay.bind(&ids[0], &gone);
    let name = replay.recorded("users-by-ids-deactivated")[0]["username"].take();
    let name = name.as_str().expect("a name");
    replay.step(|world| world.rename_user(&gone, name));
    let plain = replay.recorded("users-by-usernames-plain");
    replay.bind(&plain[1]["id"], &cast.bob);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "user-by-id", "user-by-id-unknown", "user-by-username", "user-by-username-at",
        "user-by-username-upper", "user-by-username-unknown", "users-by-ids-empty",
        "users-by-ids-deactivated", "users-by-usernames-at", "users-by-usernames-blank",
        "users-by-usernames-email", "users-by-usernames-none", "users-by-usernames-upper",
        "users-by-usernames-plain",
    ]);
}

/// Edits of one's own posts.
fn edits(replay: &mut Replay) {
    let cast = Cast::new(replay);
    #[rustfmt::skip] // A table.
    let names = [
        "message", "message-props", "props", "props-empty", "props-from-bot", "same", "nothing",
        "empty", "blank", "pinned", "attachment",
    ];
    for name in names.map(|name| format!("post-patch-{name}")) {
        let post = replay.step(|world| {
            let draft = world.draft(&cast.bot, &cast.channel, "first words");
            let prx = json!({ "in_reply_to": "x", "part": 1, "of": 1 });
            draft
                .props(json!({ "prx": prx, "unsafe_links": "true" }))
                .post()
        });
        replay.about(&name, &post);
        replay.check(&cast.bot.token, &[&name]);
        if name == "post-patch-message" {
            let anchor = replay.recorded("posts-after-patched")["prev_post_id"].take();
            replay.bind(&anchor, &cast.first);
            #[rustfmt::skip] // A table.
            replay.check(&cast.bot.token, &[
                "post-patched", "posts-since-patched", "post-former-text", "posts-page-patched",
                "posts-after-patched",
            ]);
        }
    }
    let post = cast.post(replay, &cast.channel, "no mention");
    replay.about("post-patch-mention", &post);
    replay.check(&cast.bot.token, &["post-patch-mention"]);
    let question = cast.asks(replay, &cast.channel, "no mention");
    replay.about("post-patch-person-mention", &question);
    replay.check(&cast.alice.token, &["post-patch-person-mention"]);

    let root = cast.post(replay, &cast.channel, "a root");
    for (author, text) in [(&cast.alice, "one"), (&cast.bot, "two")] {
        let reply = replay.step(|world| {
            let draft = world.draft(author, &cast.channel, text);
            draft.root(&root).post()
        });
        replay.about("post-patch-reply", &reply);
    }
    replay.about("post-patch-root", &root);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "post-patch-root", "post-patch-reply", "posts-since-patched-reply", "thread-patched",
        "thread-patched-newest",
    ]);
}

fn refused_edits(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let token = &cast.bot.token;
    let post = cast.post(replay, &cast.channel, "to be deleted");
    replay.step(|world| world.delete(&post));
    replay.about("post-patch-deleted", &post);
    let post = cast.post(replay, &cast.channel, "not replaced");
    replay.about("post-patch-bad-json", &post);
    let root = cast.asks(replay, &cast.channel, "a root");
    let reply = replay.step(|world| {
        let draft = world.draft(&cast.bot, &cast.channel, "a reply");
        draft.root(&root).post()
    });
    replay.step(|world| world.delete(&root));
    replay.about("post-patch-root-deleted", &reply);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "post-patch-deleted", "post-patch-bad-json", "post-patch-root-deleted",
        "post-reply-of-deleted-root",
    ]);
    for (kind, which) in [(Kind::Open, "open"), (Kind::Private, "private")] {
        let channel = cast.channel_with_all(replay, which, kind);
        let post = cast.post(replay, &channel, "soon removed");
        replay.step(|world| world.remove_member(&channel, &cast.bot, &cast.admin));
        for name in ["post-patch", "post-get", "post-delete"] {
            let name = format!("{name}-removed-{which}");
            replay.about(&name, &post);
            replay.check(token, &[&name]);
        }
    }
    let archived = cast.channel_with_all(replay, "archived", Kind::Open);
    let post = cast.post(replay, &archived, "soon archived");
    replay.step(|world| world.archive(&archived, &cast.admin));
    replay.about("post-patch-archived", &post);
    replay.check(token, &["post-patch-archived", "post-patch-unknown"]);

    let post = replay.step(|world| {
        let draft = world.draft(&cast.bot, &cast.channel, "first");
        draft.prop("prx", 1).post()
    });
    replay.about("post-patch-time-limit", &post);
    replay.server.world().knobs.edit_time_limit_secs = Some(1);
    replay.clock.advance(2000);
    replay.check(
        token,
        &["post-patch-time-limit", "post-patch-time-limit-props"],
    );
    replay.server.world().knobs.edit_time_limit_secs = None;

    let post = cast.post(replay, &cast.channel, "x");
    replay.about("post-patch-no-permission", &post);
    replay.server.world().knobs.role_lacks = vec!["edit_post", "delete_post"];
    replay.check(
        token,
        &["post-patch-no-permission", "post-delete-no-permission"],
    );
}

fn deletions(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let own = cast.post(replay, &cast.channel, "an answer");
    replay.about("post-delete-own", &own);
    let others = cast.asks(replay, &cast.channel, "a question");
    replay.about("post-delete-other", &others);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "post-delete-own", "post-delete-own-again", "post-delete-other",
    ]);
}

fn single_posts(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let open = cast.channel(replay, "open", Kind::Open);
    let secret = cast.channel(replay, "secret", Kind::Private);
    for channel in [&open, &secret] {
        replay.step(|world| world.add_member(channel, &cast.alice, Joining::Silently));
    }
    let deleted = cast.asks(replay, &cast.channel, "to be deleted");
    let private = cast.asks(replay, &secret, "private");
    let open = cast.asks(replay, &open, "open");
    let one = cast.asks(replay, &cast.channel, "one");
    let two = cast.asks(replay, &cast.channel, "two");
    replay.step(|world| world.delete(&deleted));
    let ids = replay.recording("posts-by-ids").expect("a recording")["request"]["body"].take();
    for (index, ours) in [&one, &two, &deleted, &private, &open].iter().enumerate() {
        replay.bind(&ids[index], ours);
    }
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "posts-by-ids", "posts-by-ids-bad", "posts-by-ids-empty", "post-deleted",
        "post-deleted-include", "post-not-member", "post-open-not-member", "post-etag",
        "post-unknown", "post-bad-id",
    ]);
    replay.check(&cast.alice.token, &["post-deleted-author"]);
    let reply = replay.step(|world| {
        let draft = world.draft(&cast.alice, &cast.channel, "reply");
        draft.root(&one).post()
    });
    let ids =
        replay.recording("posts-by-ids-reply").expect("a recording")["request"]["body"].take();
    replay.bind(&ids[0], &reply);
    replay.check(&cast.bot.token, &["posts-by-ids-reply"]);
}

fn reactions(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let token = &cast.bot.token;
    let again = replay.recording("reaction-add-again").expect("a recording");
    replay.bind(&again["request"]["body"]["user_id"], &cast.bot);
    let post = cast.asks(replay, &cast.channel, "react to me");
    replay.about("post-with-reaction", &post);
    replay.step(|world| world.react(&cast.bot, &post, "eyes"));
    let before = replay.recorded("posts-page-reaction")["prev_post_id"].take();
    let posts = replay.server.world().posts_in(&cast.channel);
    replay.bind(&before, &posts[posts.len() - 2].id);
    replay.about("posts-page-reaction", &cast.channel);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "post-with-reaction", "posts-page-reaction", "thread-with-reaction", "reaction-add-again",
        "reactions",
    ]);
    for name in ["eyes", "+1"] {
        replay.step(|world| world.react(&cast.alice, &post, name));
    }
    let other = replay
        .recording("reaction-add-other-user")
        .expect("a recording");
    replay.bind(&other["request"]["body"]["user_id"], &cast.alice);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "reactions-several", "reaction-add-unknown", "reaction-add-upper", "reaction-add-colons",
        "reaction-add-unicode", "reaction-add-bad-name", "reaction-add-empty", "reaction-add-me",
        "reaction-add-other-user", "reaction-add-unknown-post",
    ]);
    replay.since_is_now("posts-since-reaction-removed");
    let deleted = cast.asks(replay, &cast.channel, "to be deleted");
    replay.step(|world| world.react(&cast.bot, &deleted, "eyes"));
    replay.step(|world| world.delete(&deleted));
    replay.about("reaction-add-deleted", &deleted);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "reaction-add-deleted", "reaction-remove-deleted", "reactions-deleted", "reaction-remove",
        "posts-since-reaction-removed", "reaction-remove-missing", "reaction-remove-unknown-emoji",
        "reaction-remove-by-id", "reaction-remove-plus", "reaction-remove-plus-escaped",
        "reaction-remove-other-user", "reaction-remove-unknown-post",
    ]);
    let own = cast.post(replay, &cast.channel, "an answer");
    replay.step(|world| world.react(&cast.bot, &own, "eyes"));
    let ids = replay.recording("reactions-bulk").expect("a recording")["request"]["body"].take();
    replay.bind(&ids[1], &own);
    let none = cast.asks(replay, &cast.channel, "no reaction");
    replay.about("reactions-none", &none);
    let joined = cast.first.clone();
    replay.about("reaction-add-system-post", &joined);
    let direct = replay.step(|world| world.direct_channel(&cast.alice, &cast.bot));
    let question = cast.asks(replay, &direct, "a direct question");
    replay.about("reaction-add-direct", &question);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "reactions-bulk", "reactions-none", "reaction-add-system-post", "reaction-add-direct",
    ]);
    refused_reactions(replay, &cast);
}

fn refused_reactions(replay: &mut Replay, cast: &Cast) {
    let token = &cast.bot.token;
    for (name, kind) in [
        ("reaction-add-not-member", Kind::Private),
        ("reaction-add-open-not-member", Kind::Open),
    ] {
        let channel = cast.channel(replay, name, kind);
        replay.step(|world| world.add_member(&channel, &cast.alice, Joining::Silently));
        let post = cast.asks(replay, &channel, "elsewhere");
        replay.about(name, &post);
        replay.check(token, &[name]);
    }
    replay.check(token, &["reactions-not-member"]);
    let left = cast.channel_with_all(replay, "left", Kind::Open);
    let post = cast.asks(replay, &left, "left");
    replay.step(|world| world.remove_member(&left, &cast.bot, &cast.admin));
    replay.about("reaction-add-removed", &post);
    replay.check(token, &["reaction-add-removed", "reaction-remove-removed"]);
    let archived = cast.channel_with_all(replay, "archived", Kind::Open);
    let post = cast.asks(replay, &archived, "archived");
    replay.step(|world| world.archive(&archived, &cast.admin));
    replay.about("reaction-add-archived", &post);
    replay.check(
        token,
        &["reaction-add-archived", "reaction-remove-archived"],
    );
    let post = cast.asks(replay, &cast.channel, "many");
    for number in 0..50 {
        replay.step(|world| world.react(&cast.bob, &post, &format!("emoji_{number}")));
    }
    replay.server.world().add_emoji("point_down");
    replay.about("reaction-add-too-many", &post);
    replay.check(token, &["reaction-add-too-many"]);
    let post = cast.asks(replay, &cast.channel, "not allowed");
    if let Some(refused) = replay.recording("reaction-add-no-permission") {
        // On another server.
        replay.bind(&refused["request"]["body"]["user_id"], &cast.bot);
    }
    replay.about("reaction-add-no-permission", &post);
    replay.server.world().knobs.role_lacks = vec!["add_reaction"];
    replay.check(token, &["reaction-add-no-permission"]);
}

/// Every kind of file: what its post says of it, its bytes, and what is made of it for a look.
fn files(replay: &mut Replay) {
    let cast = Cast::new(replay);
    #[rustfmt::skip] // A table.
    let pictures = [
        ("photo-png", png(1600, 1200)), ("large-png", png(3000, 2000)),
        ("tall-png", png(300, 4000)), ("small-png", png(40, 30)),
        ("photo-jpg", jpeg(1600, 1200)), ("rotated-jpg", jpeg_turned(3000, 2000)),
        ("anim-gif", gif(320, 240)), ("photo-webp", webp(800, 600)),
        ("really-jpeg-png", jpeg(200, 150)), ("picture", png(40, 30)),
        ("upper-case-png", png(40, 30)),
        // Not a format that the server looks into.
        ("photo-avif", b"\0\0\0\x20ftypavif".to_vec()),
    ];
    for (kind, bytes) in pictures {
        let recorded = replay.recorded(&format!("post-file-{kind}"));
        let size = recorded["metadata"]["files"][0]["size"].as_u64();
        let bytes = sized(bytes, size.expect("a size") as usize);
        post_file(replay, &cast, kind, &bytes);
    }
    for kind in [
        "drawing-svg",
        "fake-png",
        "notes-txt",
        "readme-md",
        "conf-toml",
        "conf-yaml",
        "main-rs",
        "run-sh",
        "makefile",
        "tool-py",
        "server-log",
        "app-js",
        "page-html",
        "data-json",
        "table-csv",
        "query-sql",
        "page-pdf",
    ] {
        let bytes = match replay.recorded(&format!("file-{kind}")) {
            Value::String(text) => text.into_bytes(),
            _ => b"{\"a\":1}\n".to_vec(),
        };
        post_file(replay, &cast, kind, &bytes);
    }
    let picture = replay.step(|world| {
        let draft = world.draft(&cast.alice, &cast.channel, "look");
        let bytes = sized(jpeg(640, 480), 46_754);
        draft.attach("picture.jpg", &bytes).post()
    });
    replay.newest_is("posts-since-image", &picture);
    replay.check(&cast.bot.token, &["post-with-image", "posts-since-image"]);
}

fn post_file(replay: &mut Replay, cast: &Cast, kind: &str, bytes: &[u8]) {
    let name = format!("post-file-{kind}");
    let recorded = replay.recorded(&name);
    let text = recorded["message"].as_str().expect("text").to_owned();
    let file_name = recorded["metadata"]["files"][0]["name"].clone();
    let post = replay.step(|world| {
        let draft = world.draft(&cast.alice, &cast.channel, &text);
        draft
            .attach(file_name.as_str().expect("a name"), bytes)
            .post()
    });
    replay.about(&name, &post);
    let of_it = |what: &str| format!("file-{kind}{what}");
    let names = [
        name,
        of_it(""),
        of_it("-preview"),
        of_it("-thumbnail"),
        of_it("-gzip"),
        of_it("-browser"),
    ];
    replay.check(&cast.bot.token, &names.each_ref().map(String::as_str));
    if kind == "photo-png" {
        #[rustfmt::skip] // A table.
        replay.check(&cast.bot.token, &[
            "file-if-modified-since", "file-download", "file-range", "file-range-end",
            "file-range-beyond", "file-preview-range",
        ]);
        replay.check("", &["file-no-token"]);
    }
    if kind == "notes-txt" {
        replay.check(&cast.bot.token, &["file-range-gzip"]);
    }
}

/// How long a file can be read.
fn files_of_deleted_posts(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let token = &cast.bot.token;
    let (small, other) = (sized(png(40, 30), 779), sized(png(40, 30), 789));
    let name = "file-unattached";
    let file = cast.uploads(replay, &cast.channel, name, "small.png", &small);
    replay.check(token, &[name]);
    let deleted = cast.posts_file(replay, &cast.channel, &file);
    replay.newest_is("posts-since-deleted-file", &deleted);
    replay.about("posts-since-deleted-file", &cast.channel);
    replay.step(|world| world.delete(&deleted));
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "file-deleted-post", "file-deleted-post-preview", "posts-since-deleted-file",
    ]);
    for (name, file_name, bytes, asked_after_ms) in [
        (
            "file-deleted-post-never-read",
            "small.png",
            other.as_slice(),
            0,
        ),
        ("file-deleted-post-text", "notes.txt", b"notes", 12_000),
    ] {
        let file = cast.uploads(replay, &cast.channel, name, file_name, bytes);
        let post = cast.posts_file(replay, &cast.channel, &file);
        replay.step(|world| world.delete(&post));
        replay.clock.advance(asked_after_ms);
        replay.check(token, &[name]);
    }
}

/// Who may read a file.
fn rights_to_files(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let token = &cast.bot.token;
    let small = sized(png(40, 30), 779);
    for (name, kind) in [("open", Kind::Open), ("private", Kind::Private)] {
        let channel = cast.channel(replay, name, kind);
        replay.step(|world| world.add_member(&channel, &cast.alice, Joining::Silently));
        let name = format!("file-not-member-{name}");
        let file = cast.uploads(replay, &channel, &name, "small.png", &small);
        cast.posts_file(replay, &channel, &file);
        replay.check(token, &[&name, &format!("{name}-preview")]);
    }
    let left = cast.channel_with_all(replay, "left", Kind::Open);
    let file = cast.uploads(replay, &left, "file-removed", "small.png", &small);
    cast.posts_file(replay, &left, &file);
    replay.step(|world| world.remove_member(&left, &cast.bot, &cast.admin));
    let archived = cast.channel_with_all(replay, "archived", Kind::Open);
    let file = cast.uploads(replay, &archived, "file-archived", "small.png", &small);
    cast.posts_file(replay, &archived, &file);
    replay.step(|world| world.archive(&archived, &cast.admin));
    let text = "a long answer\n".repeat(10);
    let upload = |name: &str, bytes: &[u8]| {
        replay.step(|world| world.upload(&cast.bot, &cast.channel, name, bytes))
    };
    let own = upload("answer.txt", text.as_bytes());
    let later = upload("edit.txt", b"x");
    replay.about("file-own-unattached", &own);
    #[rustfmt::skip] // A table.
    replay.check(token, &[
        "file-removed", "file-archived", "file-own-unattached", "file-unknown", "file-bad-id",
    ]);
    let answer = cast.post(replay, &cast.channel, "a file comes later");
    replay.about("post-patch-file", &answer);
    let patch = replay.recording("post-patch-file").expect("a recording");
    replay.bind(&patch["request"]["body"]["file_ids"][0], &later);
    let direct = replay.step(|world| world.direct_channel(&cast.alice, &cast.bot));
    let answer = replay.step(|world| {
        let draft = world.draft(&cast.bot, &direct, "x");
        draft.attach("answer.txt", b"x").post()
    });
    replay.about("post-patch-direct", &answer);
    replay.check(token, &["post-patch-file", "post-patch-direct"]);
}

/// As large as the real one.
fn sized(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    bytes.resize(size, 0);
    bytes
}

/// `props.ai_generated_by`.
fn generated_by(replay: &mut Replay) {
    let cast = Cast::new(replay);
    let own =
        replay.recording("post-create-ai-own").expect("a recording")["request"]["body"].take();
    replay.bind(&own["channel_id"], &cast.channel);
    replay.bind(&own["props"]["ai_generated_by"], &cast.bot);
    let person = replay
        .recording("post-create-ai-person")
        .expect("a recording");
    let person = &person["request"]["body"]["props"]["ai_generated_by"];
    replay.bind(person, &cast.alice);
    #[rustfmt::skip] // A table.
    replay.check(&cast.bot.token, &[
        "post-create-ai-own", "post-create-ai-person", "post-create-ai-unknown",
        "post-create-ai-made-up", "post-create-ai-bad", "post-create-ai-number",
        "post-create-ai-empty",
    ]);
    replay.check(
        &cast.alice.token,
        &[
            "post-create-ai-by-person-own",
            "post-create-ai-by-person-bot",
        ],
    );
    let answer = cast.post(replay, &cast.channel, "x");
    replay.about("post-patch-ai", &answer);
    replay.check(&cast.bot.token, &["post-patch-ai", "post-patch-ai-person"]);
}
