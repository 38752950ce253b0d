//! What the model is told of what was said: gathered from a Mattermost, one request at a time.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prx::config::{self, MattermostSettings};
use prx::conversation::{Enclosure, Feeding, Gathering, Names, Place, Told};
use prx::desk::Piece;
use prx::http::Agent;
use prx::mattermost::client::Client;
use prx::mattermost::{PostId, ServerTime};
use prx::provider::Role;
use prx::times::Times;
use serde_json::{Value, json};

use crate::support::bot::{Bot, Stage};
use crate::support::mattermost::picture::{base64, gif, jpeg, jpeg_turned, png, webp};
use crate::support::mattermost::{Act, Fault, Joining, Kind, api_path};
use crate::support::model::Model;

/// The steps that one gathering may take.
const STEPS: usize = 300;

/// Longer than a step may take on the largest piece.
const PIECE: usize = 1 << 20;

/// The bot's settings, with `more` in the Mattermost section, and its client.
fn bot(stage: &Stage, top: &str, more: &str) -> (MattermostSettings, Client) {
    stage.configure(top, more);
    let config = config::load(Some(&stage.config_path()), &|_| None).expect("a good config");
    let settings = config.mattermost;
    let agent = Agent::new(None).expect("an agent");
    let times = Times {
        clock: Rc::new(stage.clock.clone()),
        ..Times::default()
    };
    let client = Client::new(agent, &settings.url, &settings.token, times);
    (settings, client)
}

fn gather_with(stage: &Stage, more: &str, question: &str) -> Told {
    let (settings, client) = bot(stage, "", more);
    gather_by(stage, &settings, &client, question)
}

fn gather_by(
    stage: &Stage,
    settings: &MattermostSettings,
    client: &Client,
    question: &str,
) -> Told {
    let post = client.post(&PostId::from(question)).expect("the question");
    let bot = client.me().expect("the bot");
    let mut gathering = Gathering::new(Place {
        post,
        bot,
        direct: false,
        channel_name: "talk".into(),
        alone: false,
        begins: ServerTime(0),
    });
    let mut names = Names::default();
    for _ in 0..STEPS {
        let before = stage.world().request_count;
        let told = gathering.step(client, settings, &mut names, &stage.clock);
        let made = stage.world().request_count - before;
        assert!(made <= 1, "{made} requests in a step");
        if let Some(told) = told.expect("a server that is well") {
            return told;
        }
    }
    panic!("no end after {STEPS} steps");
}

/// What a worker is given: media type or program and bytes of each file, or why it is missing.
fn feed(stage: &Stage, client: &Client, files: &[Enclosure]) -> Vec<Result<Shown, String>> {
    let mut feeding = Feeding::new(files.to_vec());
    let (mut given, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..STEPS {
        if feeding.is_done() {
            assert!(bytes.is_empty(), "bytes of no picture");
            return given;
        }
        let before = stage.world().request_count;
        let now = Duration::from_millis(stage.clock.elapsed_ms());
        feeding.step(client, now, &mut |piece| match piece {
            Piece::Bytes(more) => {
                assert!(more.len() <= PIECE);
                bytes.extend_from_slice(more);
            }
            Piece::Whole { media_type } => {
                given.push(Ok((media_type.to_owned(), std::mem::take(&mut bytes))));
            }
            Piece::Read(reader) => {
                given.push(Ok((reader.words.join(" "), std::mem::take(&mut bytes))));
            }
            Piece::Missing(why) => {
                bytes.clear();
                given.push(Err(why.to_owned()));
            }
        });
        assert!(stage.world().request_count <= before + 1, "in a step");
    }
    panic!("no end after {STEPS} steps");
}

/// The media type or the program, and the bytes.
type Shown = (String, Vec<u8>);

fn gather(stage: &Stage, question: &str) -> Told {
    gather_with(stage, "", question)
}

/// All but the system's message, a line each: `U` or `A` and the text.
fn lines(told: &Told) -> Vec<String> {
    assert_eq!(told.messages[0].role, Role::System);
    let line = |message: &prx::provider::Message| {
        let role = match message.role {
            Role::User => "U",
            Role::Assistant => "A",
            Role::System => "S",
        };
        format!("{role} {}", message.content)
    };
    told.messages[1..].iter().map(line).collect()
}

/// What `user` says, `root` being a thread's or empty.
fn says(stage: &Stage, user: &str, root: &str, text: &str) -> String {
    stage.clock.advance(1000);
    let mut world = stage.world();
    world.draft(user, &stage.channel, text).root(root).post()
}

fn utf16(text: &str) -> Vec<u8> {
    let marked = format!("\u{FEFF}{text}");
    marked.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_file_is_told_if_its_bytes_are_text_whatever_its_name_says() {
    let stage = Stage::simulated();
    for (name, bytes, told) in [
        ("out.txt", utf16("Köln\r\n1,50 €"), "Köln\n1,50 €"),
        ("prices.csv", b"K\xF6ln;1,50 \x80".to_vec(), "Köln;1,50 €"),
        (
            "app.log",
            [vec![0; 4096], b"started".to_vec()].concat(),
            "started",
        ),
        ("app.log.1", b"rotated".to_vec(), "rotated"),
        ("Dockerfile", b"FROM scratch".to_vec(), "FROM scratch"),
        ("main.tf", b"resource {}".to_vec(), "resource {}"),
        ("deploy.ps1", b"Get-Item".to_vec(), "Get-Item"),
        ("app.properties", b"a=b".to_vec(), "a=b"),
        ("unit.service", b"[Unit]".to_vec(), "[Unit]"),
        ("photo.png", b"not a photo".to_vec(), "not a photo"),
    ] {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "what is it?");
        let question = draft.file(name, "", &bytes).post();
        drop(world);
        let asked = lines(&gather(&stage, &question)).pop().expect("a question");
        let expected = format!("\n\n{name}:\n```\n{told}\n```");
        assert!(asked.ends_with(&expected), "{name}: {asked}");
    }
    let mut world = stage.world();
    let draft = world.draft(&stage.ann.id, &stage.channel, "and these?");
    let question = draft
        .file(
            "drawing.md",
            "text/markdown",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        )
        .file("paper.txt", "text/plain", b"%PDF-1.7\n")
        .file("core", "", b"\x01\x02\x03\xFE")
        .post();
    drop(world);
    let asked = lines(&gather(&stage, &question)).pop().expect("a question");
    for expected in [
        "[file: drawing.md, 16 bytes]",
        "[paper.txt: it is not a text file: it is a PDF]",
        "[core: it is not a text file]",
    ] {
        assert!(asked.contains(expected), "{expected}: {asked}");
    }
    assert!(!asked.contains("IHDR"), "{asked}");
}

#[test]
fn the_end_of_a_long_file_is_told_and_how_much_is_missing() {
    let stage = Stage::simulated();
    let line = "all is well, all is well, all is well\n";
    for (size, left_out) in [(37_000, "17 KB"), (3_000_000, "3 MB")] {
        let log = line.repeat(size / line.len()) + "FATAL: the disk is full\n";
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "what happened?");
        let question = draft
            .file("first.log", "", format!("BEGIN\n{log}").as_bytes())
            .file("second.log", "", b"the second file")
            .post();
        world.clear_log();
        drop(world);
        let asked = lines(&gather(&stage, &question)).pop().expect("a question");
        assert!(asked.contains("BEGIN\nall is well"), "{asked}");
        assert!(asked.contains("FATAL: the disk is full\n```"), "{asked}");
        assert!(
            asked.contains(&format!("[… {left_out} are left out here …]")),
            "{asked}"
        );
        assert!(asked.contains("the second file"), "{asked}");
        assert!(
            (19_000..21_000).contains(&asked.chars().count()),
            "{}",
            asked.len()
        );
    }
}

#[test]
fn a_file_above_in_the_thread_is_told_if_its_author_may_ask() {
    let stage = Stage::simulated();
    let report = |user: &str| {
        let mut world = stage.world();
        let draft = world.draft(user, &stage.channel, "");
        draft
            .file("report.csv", "text/csv", b"north;7\nsouth;3")
            .post()
    };
    for (author, is_told) in [(&stage.ann.id, true), (&stage.eve.id, false)] {
        let root = report(author);
        let question = says(&stage, &stage.ann.id, &root, "@prxbot which has more?");
        let told = lines(&gather(&stage, &question));
        let expected = "U [file: report.csv, 15 bytes]\n\nreport.csv:\n```\nnorth;7\nsouth;3\n```";
        let mut lines = vec![expected, "U which has more?"];
        if !is_told {
            lines.remove(0);
        }
        assert_eq!(told, lines);
    }
}

#[test]
fn what_cannot_be_read_of_a_file_is_named() {
    let stage = Stage::simulated();
    let question = || {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "read");
        draft
            .file("a.txt", "", b"aaa")
            .file("b.txt", "", b"bbb")
            .post()
    };
    let refused = question();
    stage.mattermost.once(
        "GET",
        "files/",
        Act::Instead(Fault::Error(404, "app.file_info.get.app_error")),
    );
    let asked = lines(&gather(&stage, &refused)).remove(0);
    assert!(asked.contains("[a.txt: it could not be read]"), "{asked}");
    assert!(asked.contains("b.txt:\n```\nbbb\n```"), "{asked}");

    // What failed is asked for once more.
    let reset = question();
    stage
        .mattermost
        .once("GET", "files/", Act::Instead(Fault::Error(500, "x")));
    let asked = lines(&gather(&stage, &reset)).remove(0);
    assert!(asked.contains("a.txt:\n```\naaa\n```"), "{asked}");

    let slow = question();
    let clock = stage.clock.clone();
    stage.mattermost.on_request(move |request, _| {
        if api_path(request).starts_with("files/") {
            clock.advance(21_000);
        }
        Act::Serve
    });
    let asked = lines(&gather(&stage, &slow)).remove(0);
    assert!(asked.contains("a.txt:\n```\naaa\n```"), "{asked}");
    assert!(
        asked.contains("[b.txt: it could not be read in time]"),
        "{asked}"
    );
}

#[test]
fn an_alert_in_the_thread_is_quoted() {
    let stage = Stage::simulated();
    let monitor = stage.world().add_bot("monitor");
    let admin = stage.world().add_user("root");
    stage.world().user_mut(&admin.id).roles = "system_admin system_user".into();
    let attachments = json!([{
        "title": "Disk full", "text": "db1 has 3 % left",
        "fields": [{"title": "Host", "value": "db1"}],
    }]);
    let by_webhook = |user: &str| {
        let mut world = stage.world();
        world.webhook_post(user, &stage.channel, "", attachments.clone())
    };
    let by_bot = |user: &str| {
        let mut world = stage.world();
        let draft = world.draft(user, &stage.channel, "");
        let draft = draft.prop("from_bot", "true");
        draft.prop("attachments", attachments.clone()).post()
    };
    let quoted = |name: &str| {
        let lines = "> Disk full\n> db1 has 3 % left\n> Host: db1";
        format!("U [Quotation: the program {name} posted this]\n{lines}")
    };
    let hidden = "U [This thread begins with a program's post that you are not shown: the account \
                  behind it is not in allowed_users.]";
    for (root, more, expected) in [
        (by_webhook(&stage.ann.id), "", Some(quoted("alerts"))),
        (by_webhook(&admin.id), "", Some(quoted("alerts"))),
        (by_bot(&monitor.id), "", Some(quoted("monitor"))),
        // Anybody can set these properties on his own posts.
        (by_webhook(&stage.eve.id), "", Some(hidden.to_owned())),
        (by_bot(&stage.eve.id), "", Some(hidden.to_owned())),
        (by_bot(&monitor.id), "read_programs = false", None),
    ] {
        let question = says(&stage, &stage.ann.id, &root, "@prxbot what should we do?");
        let told = gather_with(&stage, more, &question);
        let mut lines_expected: Vec<String> = expected.into_iter().collect();
        lines_expected.push("U what should we do?".into());
        assert_eq!(lines(&told), lines_expected, "{more}");
        let is_quoted = lines_expected[0].starts_with("U [Quotation");
        assert_eq!(told.belongings.len(), usize::from(is_quoted), "{more}");
        assert!(!told.several_speakers);
    }
}

#[test]
fn a_bare_mention_is_told_what_was_said_last_in_the_channel() {
    let stage = Stage::simulated();
    let bob = stage.world().add_user("bob");
    let allowed = format!("allowed_users = [\"{}\", \"{}\"]", stage.ann.id, bob.id);
    says(&stage, &stage.ann.id, "", "shall we move on Friday?");
    says(&stage, &bob.id, "", "rather on Monday");
    let thread = says(&stage, &stage.eve.id, "", "secret");
    says(&stage, &bob.id, &thread, "in a thread");
    stage
        .world()
        .draft(&stage.ann.id, &stage.channel, "beep")
        .prop("from_webhook", "true")
        .post();
    let bare = says(&stage, &stage.ann.id, "", "@prxbot");
    let told = gather_with(&stage, &allowed, &bare);
    assert_eq!(
        lines(&told),
        [
            "U ann: shall we move on Friday?",
            "U bob: rather on Monday",
            "U ann: Please answer what was said above.",
        ]
    );
    let question = says(&stage, &stage.ann.id, "", "@prxbot what is 6 times 7?");
    let told = gather_with(&stage, &allowed, &question);
    assert_eq!(lines(&told), ["U what is 6 times 7?"], "it stands alone");

    let told = gather_with(
        &stage,
        &format!("{allowed}\nchannel_context = 1"),
        &question,
    );
    assert_eq!(
        lines(&told),
        ["U bob: rather on Monday", "U ann: what is 6 times 7?"]
    );
}

#[test]
fn a_linked_post_is_quoted_as_far_as_the_bot_is_shown_it_and_its_author_may_ask() {
    let stage = Stage::simulated();
    let private = {
        let mut world = stage.world();
        let private = world.add_channel(&stage.team, "private", Kind::Private);
        world.add_member(&private, &stage.ann.id, Joining::Silently);
        private
    };
    let moved = says(&stage, &stage.ann.id, "", "we move\non Friday");
    let answer = says(
        &stage,
        &stage.bot.id,
        "",
        "On *Friday*.\n\n*\u{2060}`openai gpt-4o` · 3 s*",
    );
    let denied = says(&stage, &stage.eve.id, "", "secret");
    let unseen = stage.world().post(&stage.ann.id, &private, "secret");
    for (linked, quotation) in [
        (
            moved,
            "\n\n[Quotation: the linked post, by ann]\n> we move\n> on Friday",
        ),
        (
            answer,
            "\n\n[Quotation: the linked post, by you]\n> On *Friday*.",
        ),
        (denied, ""),
        (unseen, ""),
    ] {
        let link = stage.world().permalink(&linked);
        let question = says(
            &stage,
            &stage.ann.id,
            "",
            &format!("what is {link} for us?"),
        );
        let told = lines(&gather(&stage, &question));
        assert_eq!(told, [format!("U what is {link} for us?{quotation}")]);
    }
}

#[test]
fn pictures_are_known_by_their_bytes_and_shown_in_the_smaller_copy() {
    let stage = Stage::simulated();
    let (settings, client) = bot(&stage, "", "");
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>";
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0";
    let small = png(40, 30);
    #[rustfmt::skip] // A table.
    let cases = [
        ("small.png", small.clone(), "image/png", Some(small.clone())),
        ("really.txt", small.clone(), "image/png", Some(small)),
        ("photo.jpg", jpeg(800, 600), "image/jpeg", Some(jpeg(800, 600))),
        ("turned.jpg", jpeg_turned(80, 60), "image/jpeg", Some(jpeg_turned(80, 60))),
        ("anim.gif", gif(32, 24), "image/gif", Some(gif(32, 24))),
        ("photo.webp", webp(64, 48), "image/webp", Some(webp(64, 48))),
        // Wider than the server's copy.
        ("wide.png", png(3000, 2000), "image/png", Some(png(1920, 1280))),
        ("drawing.svg", svg.to_vec(), "", None),
        ("photo.avif", avif.to_vec(), "", None),
    ];
    for (name, bytes, media_type, shown) in cases {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "what is it?");
        let question = draft.attach(name, &bytes).post();
        drop(world);
        let told = gather_by(&stage, &settings, &client, &question);
        let given = feed(&stage, &client, &told.enclosures);
        let asked = lines(&told).pop().expect("a question");
        let images = &told.messages.last().expect("a question").images;
        match shown {
            Some(bytes) => {
                assert!(asked.ends_with(&format!("[{name}: picture 1]")), "{asked}");
                assert_eq!(images, &[0], "{name}");
                assert!(given == [Ok((media_type.to_owned(), bytes))], "{name}");
            }
            None => {
                assert!(images.is_empty() && given.is_empty(), "{name}");
                let why = match name {
                    "drawing.svg" => "drawing.svg (a drawing that is not shown to you",
                    _ => "[photo.avif: it cannot be shown: it is a picture of a kind",
                };
                assert!(asked.contains(why), "{asked}");
            }
        }
    }
}

#[test]
fn the_newest_pictures_of_those_who_may_ask_are_shown() {
    let stage = Stage::simulated();
    let send = |user: &str, root: &str, names: &[&str]| {
        stage.clock.advance(1000);
        let mut world = stage.world();
        let mut draft = world.draft(user, &stage.channel, "@prxbot look").root(root);
        for (number, name) in names.iter().enumerate() {
            draft = draft.attach(name, &png(8 + number as u32, 8));
        }
        draft.post()
    };
    let root = send(&stage.ann.id, "", &["oldest.png"]);
    send(&stage.ann.id, &root, &["old.png", "older.png"]);
    send(&stage.eve.id, &root, &["secret.png"]);
    let question = send(&stage.ann.id, &root, &["a.png", "b.png"]);
    let (settings, client) = bot(&stage, "[multimodal]\nmax_images = 3", "");
    let told = gather_by(&stage, &settings, &client, &question);
    let expected = [
        "U look\n[file: oldest.png, 84 bytes]\n\n[oldest.png: not shown: at most 3 pictures are]",
        "U look\n[file: old.png, 84 bytes]\n[file: older.png, 92 bytes]\n\n[old.png: picture 1]\n\n\
         [older.png: not shown: at most 3 pictures are]",
        "U look\n[file: a.png, 84 bytes]\n[file: b.png, 92 bytes]\n\n[a.png: picture 2]\n\n\
         [b.png: picture 3]",
    ];
    assert_eq!(lines(&told), expected);
    let images: Vec<_> = told
        .messages
        .iter()
        .map(|message| message.images.clone())
        .collect();
    assert_eq!(images, [vec![], vec![], vec![0], vec![1, 2]]);
    let given = feed(&stage, &client, &told.enclosures);
    let bytes = |width: u32| Ok(("image/png".to_owned(), png(width, 8)));
    assert!(given == [bytes(8), bytes(8), bytes(9)]);

    let (settings, client) = bot(&stage, "[multimodal]\nmax_images = 0", "");
    stage.world().clear_log();
    let told = gather_by(&stage, &settings, &client, &question);
    assert!(told.enclosures.is_empty());
    let read = |call: &crate::support::mattermost::Logged| call.target.contains("/files/");
    assert!(!stage.world().log.iter().any(read), "none is looked at");
}

#[test]
fn a_large_picture_is_given_in_pieces_or_named() {
    let stage = Stage::simulated();
    let send = |name: &str, bytes: &[u8]| {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "look");
        draft.attach(name, bytes).post()
    };
    let padded = [jpeg(1900, 1900), vec![0; 3 << 20]].concat();
    let question = send("big.jpg", &padded);
    let (settings, client) = bot(&stage, "", "");
    let told = gather_by(&stage, &settings, &client, &question);
    let given = feed(&stage, &client, &told.enclosures);
    assert!(
        given == [Ok(("image/jpeg".to_owned(), jpeg(1900, 1900)))],
        "the copy is smaller"
    );

    let (settings, client) = bot(&stage, "[multimodal]\nmax_image_size_mb = 1", "");
    // Of what has no picture's name the server makes no copy.
    let huge = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![0; 3 << 20]].concat();
    let question = send("big", &huge);
    let told = gather_by(&stage, &settings, &client, &question);
    let asked = lines(&told).pop().expect("a question");
    assert!(
        asked.contains("[big: it cannot be shown: it is larger than 1 MB]"),
        "{asked}"
    );

    let (settings, client) = bot(&stage, "", "");
    let told = gather_by(&stage, &settings, &client, &question);
    let given = feed(&stage, &client, &told.enclosures);
    assert!(given == [Ok(("image/png".to_owned(), huge.clone()))]);
    // It takes too long.
    stage.world().knobs.file_takes_ms = 9_000;
    let given = feed(&stage, &client, &told.enclosures);
    assert!(given == [Err("[big: it could not be read in time]".to_owned())]);
    stage.world().knobs.file_takes_ms = 0;
    // What fails once is asked for again, and what is gone is not.
    stage
        .mattermost
        .once("GET", "files/", Act::Instead(Fault::Error(500, "x")));
    assert!(feed(&stage, &client, &told.enclosures) == [Ok(("image/png".to_owned(), huge))]);
    stage
        .mattermost
        .once("GET", "files/", Act::Instead(Fault::Error(404, "x")));
    let given = feed(&stage, &client, &told.enclosures);
    assert!(given == [Err("[big: it could not be read]".to_owned())]);
}

#[test]
fn files_of_a_configured_kind_are_given_to_a_program() {
    let stage = Stage::simulated();
    let programs = "[channels_config.mattermost.read_files]\n\"application/pdf\" = [\"totext\", \"-\"]\n\
                    \".CSV\" = [\"table\"]";
    let mut world = stage.world();
    let draft = world.draft(&stage.ann.id, &stage.channel, "what is it?");
    let question = draft
        .attach("paper.pdf", b"%PDF-1.7 words")
        .attach("sum.Csv", b"1;2")
        .attach("small.png", &png(40, 30))
        .attach("notes.txt", b"notes")
        .post();
    drop(world);
    let (settings, client) = bot(&stage, "", programs);
    let told = gather_by(&stage, &settings, &client, &question);
    let asked = told.messages.last().expect("a question");
    assert_eq!(asked.images, [0, 1, 2]);
    assert!(
        asked.content.contains("[small.png: picture 1]"),
        "{}",
        asked.content
    );
    let given = feed(&stage, &client, &told.enclosures);
    let expected = [
        ("totext -", b"%PDF-1.7 words".to_vec()),
        ("table", b"1;2".to_vec()),
        ("image/png", png(40, 30)),
    ];
    assert!(given == expected.map(|(how, bytes)| Ok((how.to_owned(), bytes))));
    let belongings = [
        "File paper.pdf: what totext makes of it",
        "File sum.Csv: what table makes of it",
        "File small.png: as a picture",
        "File notes.txt: its text",
    ];
    let of_question = |what: &str| format!("{what} (post {question})");
    assert_eq!(told.belongings, belongings.map(of_question));
}

/// A configured bot as the built binary, started in a time zone 14 hours ahead, with a stand-in model.
fn spawn(more: &str) -> (Stage, Model, Bot) {
    let (stage, model) = (Stage::real(), Model::start());
    let top = format!(
        "default_provider = \"custom:{}/v1\"\ndefault_model = \"little\"\napi_key = \"key\"",
        model.url()
    );
    stage.configure(&top, &format!("poll_interval_secs = 0.05\n{more}"));
    let bot = stage.spawn_with(|command| {
        command.env("TZ", "<+14>-14");
    });
    // What is posted from its first look on is for it.
    let state = stage.state_path();
    stage.wait("a state file", |_| state.exists());
    (stage, model, bot)
}

/// The messages of the last question, as the model's server got them.
fn asked(model: &Model) -> Vec<Value> {
    let body = model.bodies().pop().expect("a question");
    body["messages"].as_array().expect("messages").clone()
}

#[test]
fn the_bot_tells_the_local_date_and_shows_formulas_as_blocks() {
    let (stage, model, _bot) = spawn("");
    model.answers("So \\(x\\):\n\\[ E = mc^2 \\]");
    let ahead = || prx::times::date(SystemTime::now() + Duration::from_secs(14 * 3600));
    let before = ahead();
    let question = {
        let mut world = stage.world();
        world.post(&stage.ann.id, &stage.channel, "what is mass?")
    };
    let answer = stage.wait_for_answer(&question);
    assert_eq!(answer, "So \\(x\\):\n```latex\nE = mc^2\n```");
    let system = asked(&model)[0]["content"].to_string();
    let told = |date: &str| system.contains(&format!("{date} (UTC+14:00)"));
    assert!(told(&before) || told(&ahead()), "{system}");
    assert!(system.contains("language latex"), "{system}");
}

#[test]
fn an_alert_is_told_below_it_and_never_answered() {
    let (stage, model, _bot) = spawn("");
    let alert = {
        let mut world = stage.world();
        let attachments = json!([{"title": "Disk full", "text": "@prxbot help"}]);
        world.webhook_post(&stage.ann.id, &stage.channel, "@prxbot", attachments)
    };
    let now = stage.world().now();
    stage.wait("the next millisecond", |world| world.now() > now);
    let question = stage.reply(&alert, "@prxbot what now?");
    stage.wait_for_answer(&question);
    let told = asked(&model)[1]["content"].to_string();
    let quotation = "[Quotation: the program alerts posted this]\\n> @prxbot\\n> \\n> Disk full";
    assert!(told.contains(quotation), "{told}");
    assert!(stage.answers(&alert).is_empty());
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn what_programs_make_of_files_reaches_the_model_without_secrets() {
    let (stage, model, bot) = spawn(
        "[channels_config.mattermost.read_files]\n\
         \".pdf\" = [\"sh\", \"-c\", \"wc -c && env\"]\n\".wav\" = [\"false\"]",
    );
    let question = {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "what is this?");
        draft
            .attach("paper.pdf", b"%PDF-1.7 words")
            .attach("voice.wav", b"RIFF")
            .post()
    };
    stage.wait_for_answer(&question);
    let told = asked(&model).pop().expect("a question");
    let text = told["content"].as_str().expect("a text");
    assert!(text.contains("\n\npaper.pdf:\n```\n14\n"), "{text}");
    let failed = "[voice.wav: it could not be read: the program false failed (exit status: 1)]";
    assert!(text.contains(failed), "{text}");
    for secret in [stage.bot.token.as_str(), "API_KEY", "TOKEN"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(
        bot.log().contains("the program false failed"),
        "{}",
        bot.log()
    );
}

#[test]
fn pictures_reach_the_model_and_the_loop_holds_none_of_them() {
    let (stage, model, bot) = spawn("");
    let ask = |files: &[(&str, &[u8])]| {
        let mut world = stage.world();
        let mut draft = world.draft(&stage.ann.id, &stage.channel, "what is this?");
        for (name, bytes) in files {
            draft = draft.attach(name, bytes);
        }
        let question = draft.post();
        drop(world);
        stage.wait_for_answer(&question);
        asked(&model).pop().expect("a question")["content"].clone()
    };
    let small = png(40, 30);
    ask(&[("small.png", &small)]);
    let before = bot.peak_memory();
    // Of what has no picture's name the server makes no copy.
    let large = [png(40, 30), vec![7; 4 << 20]].concat();
    let files = ["one", "two", "three", "small.png"];
    let told = ask(&files.map(|name| match name {
        "small.png" => (name, small.as_slice()),
        _ => (name, large.as_slice()),
    }));
    let grown = bot.peak_memory() - before;
    let parts = told
        .as_array()
        .unwrap_or_else(|| panic!("no pictures: {told}"));
    let pictures = parts.iter().filter(|part| part["type"] == "image_url");
    let pictures: Vec<_> = pictures.map(|part| &part["image_url"]["url"]).collect();
    let url = |bytes: &[u8]| Value::from(format!("data:image/png;base64,{}", base64(bytes)));
    let (large, small) = (url(&large), url(&small));
    assert!(pictures == [&large, &large, &large, &small]);
    let text = parts.iter().find(|part| part["type"] == "text");
    let text = text.expect("a text")["text"].as_str().expect("a text");
    assert!(text.contains("[one: picture 1]"), "{text}");
    assert!(text.contains("[small.png: picture 4]"), "{text}");
    assert!(grown < 4 << 20, "the loop's memory grew by {grown} bytes");
}
