//! Whom a message mentions: against the server's own verdicts, and what is made of a mention.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prx::mattermost::mention::{mass_mentions, mentions, opens_with_other, without_mention};
use prx::reply::{ReplyOptions, parts};

#[derive(serde::Deserialize)]
struct Verdict {
    message: String,
    mentions: bool,
}

#[test]
fn every_recorded_verdict_of_the_server_is_reached() {
    let recorded = include_str!("recordings/mentions.json");
    let verdicts: Vec<Verdict> = serde_json::from_str(recorded).unwrap();
    assert_eq!(verdicts.len(), 155);
    let wrong: Vec<_> = verdicts
        .iter()
        .filter(|verdict| mentions(&verdict.message, "prxbot") != verdict.mentions)
        .map(|verdict| &verdict.message)
        .collect();
    assert!(wrong.is_empty(), "wrong: {wrong:#?}");
}

/// The recordings with a mass mention in the place of the bot's: what the server does not take for
/// a mention stays as it is, all else is made harmless.
#[test]
fn an_answer_is_read_as_the_server_reads_a_message() {
    let recorded = include_str!("recordings/mentions.json")
        .replace("prxbot", "channel")
        .replace("PRXBOT", "CHANNEL")
        .replace("PrxBot", "Channel");
    let verdicts: Vec<Verdict> = serde_json::from_str(&recorded).unwrap();
    let mut touched = Vec::new();
    for Verdict {
        message,
        mentions: notifies,
    } in verdicts
    {
        // Answers have no control characters but these, and invisible ends are left out.
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        if message.contains(control) || message.contains('\u{200B}') {
            continue;
        }
        let shown = parts(&message, 16383, &ReplyOptions::default()).concat();
        assert!(mass_mentions(&shown).is_empty(), "{message:?}");
        assert_eq!(shown.replace('\u{200B}', ""), message.trim_end());
        match notifies {
            true => assert_ne!(shown, message),
            false if shown != message.trim_end() => touched.push(message),
            false => {}
        }
    }
    // Older servers, or letters outside ASCII.
    assert!(touched.len() <= 6, "{touched:#?}");
}

/// Whether plain text mentions `name` by the words of the server's rule.
fn mentions_by_the_rule(text: &str, name: &str) -> bool {
    let joints = [':', '.', '-', '_'];
    let keyword = format!("@{name}");
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && !":.-_@".contains(c))
        .filter(|word| !(word.starts_with(':') && word.ends_with(':')))
        .map(|word| word.trim_start_matches(joints))
        .any(|word| {
            let mut endings = 0..=word.len() - word.trim_end_matches(joints).len();
            endings.any(|ending| word[..word.len() - ending] == keyword)
                || !word.starts_with('@')
                    && word.split(['.', '-', ':']).any(|piece| piece == keyword)
        })
}

#[test]
fn random_text_is_judged_by_the_servers_rule() {
    const PIECES: [&str; 22] = [
        "@prxbot", "@PrxBot", "@prxbot", "@prxbot2", "@alice", "@here", "@Channel", "@all", "@",
        "prxbot", "all", "x", "é", "1", ".", "-", "_", ":", "!", " ", " ", "\n",
    ];
    let text = proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..12)
        .prop_map(|pieces| pieces.concat());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut by_the_rule, mut found) = (0, 0);
    for _ in 0..20_000 {
        let text = text.new_tree(&mut runner).unwrap().current();
        if mentions_by_the_rule(&text, "prxbot") {
            by_the_rule += 1;
            found += usize::from(mentions(&text, "prxbot"));
        }
        let shown = parts(&text, 16383, &ReplyOptions::default()).concat();
        for name in ["all", "channel", "here"] {
            assert!(!mentions_by_the_rule(&shown, name), "{text:?}: {shown:?}");
        }
    }
    assert!(by_the_rule > 1_000, "{by_the_rule}");
    assert!(
        found * 1000 >= by_the_rule * 995,
        "{found} of {by_the_rule}"
    );
}

/// Blocks whose verdict is known by how they are made, in random order: for the reader and the rule
/// together.
#[test]
fn random_blocks_are_judged_by_what_they_are_made_of() {
    const BLOCKS: [(&str, bool); 18] = [
        ("NAME", true),
        ("a NAME: b", true),
        ("**NAME**", true),
        ("> NAME", true),
        ("# a\nNAME", true),
        ("[NAME](http://a.example/b)", true),
        ("`a` NAME", true),
        ("no mention, x@NAMEx", false),
        ("`NAME`", false),
        ("a ``b ` NAME`` c", false),
        ("```\nNAME\n```", false),
        ("~~~ a\nb\n\nNAME\n~~~", false),
        ("    NAME", false),
        ("> ```\n> NAME\n> ```", false),
        ("[a](http://a.example/NAME)", false),
        ("[a](b \"NAME\")", false),
        ("![a](NAME)", false),
        ("see http://a.example/NAME", false),
    ];
    let blocks = proptest::collection::vec(proptest::sample::select(&BLOCKS[..]), 1..6);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..1_000 {
        let blocks = blocks.new_tree(&mut runner).unwrap().current();
        let texts: Vec<&str> = blocks.iter().map(|(text, _)| *text).collect();
        let expected = blocks.iter().any(|(_, mentions)| *mentions);
        let text = texts.join("\n\n");
        let message = text.replace("NAME", "@prxbot");
        assert_eq!(mentions(&message, "prxbot"), expected, "{message:?}");
        let answer = text.replace("NAME", "@all");
        let shown = parts(&answer, 16383, &ReplyOptions::default()).concat();
        assert!(mass_mentions(&shown).is_empty(), "{answer:?}");
        assert_eq!(shown == answer, !expected, "{answer:?}: {shown:?}");
    }
}

/// Messages beyond the recordings, with what current servers say to them.
#[test]
fn markdown_is_read_as_the_server_reads_it() {
    let cases = [
        // blocks
        ("- a\n- b\n\n      @prxbot", false),
        ("- \n-    a\n\n    @prxbot", false),
        ("-\n\n  @prxbot", true),
        ("-\n\n    @prxbot", false),
        ("12) a\n\n    @prxbot", true),
        ("123) a\n\n    @prxbot", false),
        ("1234567890. a\n\n    @prxbot", false),
        ("a\n2. b\n\n     @prxbot", false),
        ("- a\n\n  - b\n\n    @prxbot", true),
        ("- a\n\n  * b\n+ c\n\n      @prxbot", false),
        (">\t@prxbot", false),
        ("> a\n>\t@prxbot", true),
        ("> a\n@prxbot", true),
        ("> ```\n@prxbot", true),
        ("> ```\n> a\n\n@prxbot", true),
        ("a\n    ```\n@prxbot", false),
        ("```\na\n    ```\n@prxbot", false),
        ("````\n```\n@prxbot", false),
        ("```\na\n``` `\n@prxbot", true),
        ("```\na\n```` `\n@prxbot", false),
        ("~~~ a`b\n@prxbot", true),
        ("    a\n\n\n    @prxbot", false),
        ("\r    @prxbot", false),
        ("a\r    @prxbot", true),
        // links
        ("[@prxbot](a \"b\")", true),
        ("[a](@prxbot \"b)", true),
        ("[a](b \"@prxbot\")", false),
        ("[a](b (@prxbot))", false),
        ("[a](<@prxbot>)", false),
        ("[a](<@prxbot>b)", true),
        ("[a](b(@prxbot)c)", false),
        ("[a](b\\)@prxbot)", false),
        ("![a](b =1x2 '@prxbot')", false),
        ("![a](b =x '@prxbot')", true),
        ("[a](b =1x2 '@prxbot')", true),
        ("[a [b](c)](@prxbot)", true),
        ("![a [b](c)](@prxbot)", false),
        ("[b]: c\n\n[a][b @prxbot]", true),
        ("[b @prxbot]: c\n\n[a][B   @PRXBOT]", false),
        ("[b]: c '@prxbot'\n@prxbot", true),
        ("[b]: c '@prxbot'", false),
        ("[b]: c @prxbot", true),
        ("[b]:\n@prxbot", false),
        ("a\n[b]: @prxbot", true),
        // the text of a link stays in pieces
        ("[x:@prxbot](a)", true),
        ("[x:@prxbot]", true),
        ("[w@prxbot](a)", true),
        ("[w@prxbot]", false),
        // addresses
        ("www.a/@prxbot", false),
        ("www.a_b/@prxbot", true),
        ("www.a/b_@prxbot", false),
        ("xwww.a/@prxbot", false),
        ("xxwww.a/@prxbot", true),
        ("é(www1.a/@prxbot", false),
        ("WWW.a/@prxbot", true),
        ("<www.a>@prxbot", true),
        ("HTTP://a/@prxbot", false),
        ("x-http://a/@prxbot", false),
        ("xhttp://a/@prxbot", true),
        ("http://_/@prxbot", true),
        ("http://a/(@prxbot)", false),
        ("[http://a/@prxbot", true),
        ("[a](b) http://a/@prxbot", false),
        // emoji, escapes and references
        ("(:a:@prxbot)", true),
        ("b:a:@prxbot", true),
        (":a:@prxbot:", true),
        ("x\\@prxbot", true),
        ("\\x@prxbot", false),
        ("@prxbo\\t", false),
        ("@prxbo&#116;", true),
        ("@prxbo&#x74;x", true),
        ("x&#46;@prxbot", true),
        ("é&#64;prxbot", false),
        ("&#00000000116;@prxbot", true),
        ("`a``@prxbot`", false),
        ("`a``@prxbot", true),
        // letters and what only looks like them
        ("日本@prxbot", false),
        ("½@prxbot", false),
        ("สวัสดี@prxbot", true),
        ("हि@prxbot", true),
        ("Ⓐ@prxbot", true),
        ("e\u{301}@prxbot", true),
        ("\u{200b}@prxbot\u{feff}", true),
        ("👍@prxbot👍", true),
    ];
    for (message, expected) in cases {
        assert_eq!(mentions(message, "prxbot"), expected, "{message:?}");
    }
}

#[test]
fn usernames_may_have_dots_dashes_and_underscores() {
    let cases = [
        ("@a.b-c_d", "a.b-c_d", true),
        ("x.@a.b", "a.b", false),
        ("@a.b.", "a.b", true),
        ("@a.b", "a", false),
        ("@bot_", "bot_", true),
        ("@bot_", "bot", true),
        ("@bot__", "bot_", true),
        ("@answer", "answer", true),
        ("[@answer](a)", "answer", false),
        ("@\u{212a}9", "k9", true),
        ("@İb", "ib", true),
    ];
    for (message, username, expected) in cases {
        assert_eq!(mentions(message, username), expected, "{message:?}");
    }
}

#[test]
fn a_mention_is_taken_out_with_the_space_around_it() {
    let cases = [
        ("@prxbot", ""),
        (" @prxbot: ", ""),
        ("@prxbot\n", ""),
        ("@prxbot hi", "hi"),
        ("  @PRXBOT:\thi ", "hi"),
        ("@prxbot, hi", "hi"),
        ("@prxbot,hi", "hi"),
        ("@prxbot @prxbot: hi", "hi"),
        ("\\@prxbot hi", "hi"),
        ("hi @prxbot", "hi"),
        ("hi @prxbot there", "hi there"),
        ("hi @prxbot, there", "hi, there"),
        ("hi @prxbot: there", "hi: there"),
        ("thanks @prxbot!", "thanks!"),
        ("(@prxbot)", "()"),
        ("x.@prxbot", "x."),
        ("a @prxbot\nb", "a\nb"),
        ("a\n@prxbot b", "a\nb"),
        ("a\n@prxbot\nb", "a\nb"),
        ("a\r\n@prxbot\r\nb", "a\r\nb"),
        ("a\n\n@prxbot\n\nb", "a\n\n\nb"),
        ("- @prxbot a\n- b", "- a\n- b"),
        ("> @prxbot a", "> a"),
        ("a\n    @prxbot  b", "a\n    b"),
        ("@prxbot\n```\n@prxbot\n```", "```\n@prxbot\n```"),
        ("@prxbot ```\na\n```", "```\na\n```"),
        ("@prxbot\n\n    a\n    b", "    a\n    b"),
        ("    a\n\n@prxbot", "    a"),
        ("a  b @prxbot `c  @prxbot`", "a  b `c  @prxbot`"),
        ("  a @alice  ", "  a @alice  "),
        ("@prxbotx", "@prxbotx"),
    ];
    for (message, expected) in cases {
        assert_eq!(without_mention(message, "prxbot"), expected, "{message:?}");
    }
}

#[test]
fn a_message_to_somebody_else_is_told_from_one_to_the_bot() {
    let cases = [
        ("@alice hi", true),
        (" \n@Alice: hi @prxbot", true),
        ("@alice, @prxbot", true),
        ("@a.l-i_ce", true),
        ("@prxbot2", true),
        ("@prxbot.x", true),
        ("@alice", true),
        ("@prxbot hi @alice", false),
        ("@PRXBOT. hi", false),
        ("@prxbot: hi", false),
        ("@all hi", false),
        ("@Channel: hi", false),
        ("@here.", false),
        ("@", false),
        ("@1st", false),
        ("@ alice", false),
        ("@_alice", false),
        ("@zoë", false),
        ("@alice@example.com", false),
        ("hi @alice", false),
        ("", false),
    ];
    for (message, expected) in cases {
        let actual = opens_with_other(message, "prxbot");
        assert_eq!(actual, expected, "{message:?}");
    }
}

#[test]
fn mass_mentions_are_found_where_the_server_takes_them() {
    let cases: [(&str, &[&str]); 18] = [
        ("hi @all", &["@"]),
        ("@here @Channel: @ALL.", &["@", "@", "@"]),
        ("x.@here-@all", &["@", "@"]),
        ("_@all_", &["@"]),
        ("[@all](a)", &["@"]),
        ("\\@all", &["\\@"]),
        ("@all\\.", &["@"]),
        ("@allow @alle @all.x x@all", &[]),
        ("`@all`", &[]),
        ("    @all", &[]),
        ("```\n@all\n```", &[]),
        ("http://a/@all", &[]),
        ("[a](@all)", &[]),
        // doubtful
        ("日本@all", &["@"]),
        ("ᤪ:@all:", &["@"]),
        // older servers only
        ("&#64;all", &["&#64;"]),
        ("&commat;here", &["&commat;"]),
        ("[@chan&#110;el](a)", &["@"]),
    ];
    for (message, expected) in cases {
        let found = mass_mentions(message);
        let found: Vec<_> = found.into_iter().map(|at| &message[at]).collect();
        assert_eq!(found, expected, "{message:?}");
    }
}

/// The longest messages that a server takes, made of what is dearest to read. Each takes a fraction
/// of a second; one that is read again from every byte would take minutes.
#[test]
fn the_longest_messages_are_read_in_no_time() {
    let patterns = [
        "`",
        "` ``",
        "[",
        "![",
        "]",
        "[]",
        "[](",
        "[](a \"",
        "[](a (",
        "[a]",
        "[a](b)",
        "[[a](b)",
        "![](a)",
        "[a]: b\n",
        "[a]:\n",
        "\\[",
        ">",
        "> ",
        ">\n",
        "- ",
        "-\n",
        "1. ",
        "&",
        "&#",
        ":",
        ":a",
        "a:",
        "www.",
        "<www.a",
        "~www.a_",
        "http://",
        "<http://a",
        "http://a_ ",
        ")",
        "www.a)",
        ";",
        ".",
        "_",
        "@",
        "@prxbot",
        "@prxbot ",
        ".@prxbot",
        "\n",
        "\r",
        "\t",
        "\u{b}",
        "👍",
        "```\n",
    ];
    let start = std::time::Instant::now();
    for pattern in patterns {
        for frame in [
            ["", ""],
            ["[a]: b\n\n", "]](a)_"],
            ["- - - - - - a\n\n[[", "]"],
        ] {
            let room = 16383 - frame.concat().chars().count();
            let middle: String = pattern.chars().cycle().take(room).collect();
            let message = frame.join(&middle);
            mentions(&message, "prxbot");
        }
    }
    let nested = ["[".repeat(8000), "]".repeat(8000)].concat();
    mentions(&format!("[a]: b\n\n{nested}"), "prxbot");
    let ticks: String = (1..180).map(|n| "`".repeat(n) + " ").collect();
    mentions(&ticks, "prxbot");
    let deep = ["- ".repeat(4000), "\n".repeat(8000)].concat();
    mentions(&deep, "prxbot");
    assert!(start.elapsed().as_secs() < 60);
}

/// Pieces that Markdown gives a meaning to, among them the mention.
fn markdown() -> impl Strategy<Value = String> {
    const PIECES: [&str; 37] = [
        "`",
        "```",
        "~~~\n",
        "    ",
        "\t",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        "- ",
        "1. ",
        "> ",
        "[",
        "]",
        "](",
        ")",
        "[a]: b\n",
        "![",
        "\\",
        "&#64;",
        "&amp;",
        "www.a",
        "http://a",
        ":",
        ":x:",
        ".",
        "_",
        "<",
        "a",
        "é",
        "\u{b}",
        "@prx",
        "bot",
        "@prxbot",
        "@prxbot",
        " @prxbot ",
        "@all",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..30)
        .prop_map(|pieces| pieces.concat())
}

fn check(message: &str) {
    let without = without_mention(message, "prxbot");
    assert!(!mentions(&without, "prxbot"), "{message:?}: {without:?}");
    assert!(without.len() <= message.len());
    opens_with_other(message, "prxbot");
    for at in mass_mentions(message) {
        assert!(message[at.clone()].contains(['@', '&']), "{message:?}");
    }
}

proptest! {
    #[test]
    fn no_mention_outlives_being_taken_out(message in markdown()) {
        check(&message);
    }

    #[test]
    fn any_text_can_be_read(message in any::<String>()) {
        check(&message);
    }
}
