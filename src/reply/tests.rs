//! Tables and properties of the splitting.

use proptest::prelude::*;

use super::split::extends;
use super::*;
use crate::mattermost::mention;

const SAFE: ReplyOptions = ReplyOptions {
    allow_unsafe_links: false,
};
const LINKS: ReplyOptions = ReplyOptions {
    allow_unsafe_links: true,
};

fn split(answer: &str, limit: usize) -> Vec<String> {
    parts(answer, limit, &SAFE)
}

fn one(answer: &str, options: &ReplyOptions) -> String {
    let parts = parts(answer, 16383, options);
    assert_eq!(parts.len(), 1, "{answer:?}");
    parts.concat()
}

#[test]
fn an_answer_that_fits_stays_as_it_is_but_for_trailing_white_space() {
    for (answer, expected) in [
        ("Hello.", "Hello."),
        ("Hello.\n\n \t", "Hello."),
        ("\n  indented", "\n  indented"),
        ("```\nopen", "```\nopen"),
        ("1234567890123456789 \n", "1234567890123456789"),
        ("ééééééééééééééééé👍🏽👍", "ééééééééééééééééé👍🏽👍"),
    ] {
        assert_eq!(split(answer, 20), [expected], "{answer:?}");
    }
}

#[test]
fn a_blank_answer_has_no_part() {
    for answer in [
        "",
        " \n\t",
        "\0",
        "\r\n\r\n",
        &"\n".repeat(100),
        &" ".repeat(100),
        "\u{200B}",
        " \u{200C}\u{200D}\n\u{2060}\u{FEFF} ",
        &"\u{200B}".repeat(100),
    ] {
        assert!(split(answer, 20).is_empty(), "{answer:?}");
        assert!(is_blank(answer), "{answer:?}");
    }
}

#[test]
fn control_characters_are_taken_out_and_line_ends_are_made_one() {
    for (answer, expected) in [
        ("a\0b\x07c\x1b[1md\u{7f}\u{85}", "abc[1md"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("@\0all", "@\u{200B}all"),
    ] {
        assert_eq!(split(answer, 20), [expected], "{answer:?}");
    }
}

#[test]
fn a_long_answer_is_split_where_it_reads_best() {
    for (what, answer, expected) in [
        (
            "paragraphs",
            "First one here.\nIt goes on.\n\nSecond. It is longer.\nThird",
            vec![
                "First one here.\nIt goes on.",
                "Second. It is longer.\nThird",
            ],
        ),
        (
            "lines",
            "First one. It goes on\nfor two lines and more words",
            vec!["First one. It goes on", "for two lines and more words"],
        ),
        (
            "sentences",
            "First one here. Then some more words without end",
            vec!["First one here.", "Then some more words without end"],
        ),
        (
            "sentences without spaces",
            "これは一つ目の文です。それは二つ目の文ですけれどもとても長いのでここで終わりません",
            vec![
                "これは一つ目の文です。",
                "それは二つ目の文ですけれどもとても長いのでここで終わりません",
            ],
        ),
        (
            "words",
            "one two three four five six seven eight nine ten",
            vec!["one two three four five six seven eight", "nine ten"],
        ),
        (
            "a word too long for a line of its own",
            "Look:\nabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
            vec![
                "Look:",
                "abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
                "opqrstuvwxyz",
            ],
        ),
        (
            "not a crumb before a long paragraph",
            "Oh.\n\nabc def ghi jkl mno pqr stu vwx yza bcdef",
            vec!["Oh.\n\nabc def ghi jkl mno pqr stu vwx yza", "bcdef"],
        ),
        (
            "not before what would become a fence",
            "aaaaaaaaaa bbbbbbbbbb ccccccccc ```dddddddddddddd eee",
            vec!["aaaaaaaaaa bbbbbbbbbb", "ccccccccc ```dddddddddddddd eee"],
        ),
        (
            "not before a mark without its letter",
            "aaaaaaaaaa bbbbbbbbbbbbbbbbbbb \u{301}ccccccccccccccc",
            vec!["aaaaaaaaaa", "bbbbbbbbbbbbbbbbbbb \u{301}ccccccccccccccc"],
        ),
        (
            "a list between its items",
            "- the first item\n- the second item\n- the third item",
            vec!["- the first item\n- the second item", "- the third item"],
        ),
        (
            "a list item's continuation at its line",
            "1. the first item is this\n   and goes on here, then\n2. ends",
            vec![
                "1. the first item is this",
                "and goes on here, then\n2. ends",
            ],
        ),
    ] {
        assert_eq!(split(answer, 40), expected, "{what}");
    }
}

#[test]
fn a_list_is_split_at_its_top_level_and_no_part_begins_indented() {
    for (what, answer, expected) in [
        (
            "at an item of the outer list",
            "- aaaaaaaaaaaaaa\n    - bbbbbbbbbbb\n- ccc\n    - dddddddddddd",
            vec![
                "- aaaaaaaaaaaaaa\n    - bbbbbbbbbbb",
                "- ccc\n    - dddddddddddd",
            ],
        ),
        (
            "at an inner one when there is no other",
            "- aaaaaaaaaaaaaa\n    - bbbbbbbbbbb\n    - ccc\n        - ddd\n- eee",
            vec![
                "- aaaaaaaaaaaaaa\n    - bbbbbbbbbbb",
                "- ccc\n    - ddd\n- eee",
            ],
        ),
        (
            "not after a blank line within an item",
            "1. aaaaaaaaaa\n2. bbbbbbbbbbbbb\n\n   ccccccccc\n3. d",
            vec!["1. aaaaaaaaaa", "2. bbbbbbbbbbbbb\n\n   ccccccccc\n3. d"],
        ),
        (
            "code stays code",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbb\n\n    code\n      more",
            vec![
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbb",
                "    code\n      more",
            ],
        ),
    ] {
        assert_eq!(split(answer, 40), expected, "{what}");
    }
    let item = |n| format!("{n}. Item\n    - one under it\n        - and one under that\n");
    let list: String = (1..50).map(item).collect();
    for limit in (30..300).step_by(7) {
        for part in split(&list, limit) {
            assert!(!part.starts_with(' '), "{limit}: {part:?}");
        }
    }
}

#[test]
fn an_answer_grows_by_whole_words_addresses_and_names() {
    for (so_far, shown) in [
        ("", ""),
        ("Hel", ""),
        ("Hello wor", "Hello"),
        ("Hello world. ", "Hello world."),
        ("Ask @an", "Ask"),
        ("Ask @ann ", "Ask @ann"),
        ("See https://example.com/a", "See"),
        ("See https://example.com/a\n", "See https://example.com/a"),
        ("Hi @he", "Hi"),
        ("Hi @here ", "Hi @\u{200B}here"),
        ("Run\n```sh\nls -", "Run\n```sh\nls\n```"),
        ("Run\n```sh\nls\n``", "Run\n```sh\nls\n```"),
        ("> ```\n> a b", "> ```\n> a\n> ```"),
        ("Run `sudo a", "Run `sudo"),
        ("Write `@ann to", "Write"),
        ("Write `@ann to` a", "Write `@ann to`"),
        ("a ` b\n\n@ann c", "a ` b\n\n@ann"),
        ("``` x\n@ann and", "``` x\n@ann\n```"),
        ("\u{200B} \u{200B} ", ""),
    ] {
        assert_eq!(growing(so_far, 100, &SAFE), shown, "{so_far:?}");
    }
}

#[test]
fn a_growing_answer_stays_within_the_limit() {
    for (so_far, shown) in [
        ("one two three four five", "one two three four"),
        ("one two three four fives", "one two three four"),
        ("one two three fours five", "one two three fours"),
        (
            "@all @all @all @all",
            "@\u{200B}all @\u{200B}all @\u{200B}all",
        ),
        ("```\none two three four", "```\none two three\n```"),
        ("oneoneoneoneoneoneoneone", ""),
    ] {
        assert_eq!(growing(so_far, 21, &SAFE), shown, "{so_far:?}");
    }
}

#[test]
fn a_quote_goes_on_as_a_quote() {
    for (answer, expected) in [
        (
            "> one two three four five six seven eight nine",
            vec!["> one two three four five six seven", "> eight nine"],
        ),
        (
            "> > one two three four five six seven eight nine",
            vec!["> > one two three four five six seven", "> > eight nine"],
        ),
        (
            "> one two three four five\n> six seven eight nine",
            vec!["> one two three four five", "> six seven eight nine"],
        ),
        (
            "> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            vec!["> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "> aaaaaaaaaa"],
        ),
        (
            "a > b two three four five six seven eight nine",
            vec!["a > b two three four five six seven", "eight nine"],
        ),
    ] {
        assert_eq!(split(answer, 40), expected, "{answer:?}");
    }
}

#[test]
fn a_fence_that_is_cut_is_closed_and_opened_again() {
    for (what, answer, expected) in [
        (
            "with its info string",
            "```rust\nlet a = 1;\nlet b = 2;\nlet c = 3;\n```\nDone.",
            vec![
                "```rust\nlet a = 1;\nlet b = 2;\n```",
                "```rust\nlet c = 3;\n```\nDone.",
            ],
        ),
        (
            "longer ones, and tildes",
            "~~~~ c\n```\nint aaaaaaaaaaa;\n```\nint bbbbbbbbbbb;\n~~~~",
            vec![
                "~~~~ c\n```\nint aaaaaaaaaaa;\n```\n~~~~",
                "~~~~ c\nint bbbbbbbbbbb;\n~~~~",
            ],
        ),
        (
            "in a quote",
            "> ```sh\n> make one two\n> make three four\n> make five\n> ```",
            vec![
                "> ```sh\n> make one two\n> ```",
                "> ```sh\n> make three four\n> ```",
                "> ```sh\n> make five\n> ```",
            ],
        ),
        (
            "indented",
            "  ```\n  aaaaaaaaaaaaaaa\n  bbbbbbbbbbbbbbb\n  ```\nc",
            vec![
                "  ```\n  aaaaaaaaaaaaaaa\n  ```",
                "```\nbbbbbbbbbbbbbbb\n```\nc",
            ],
        ),
        (
            "in a list",
            "10. aaaa\n\n    ```ruby\n    bbbbbb\n      ccccc\n    dddddd\n    ```\n    eeee\n11. f",
            vec![
                "10. aaaa\n\n    ```ruby\n    bbbbbb\n    ```",
                "```ruby\n  ccccc\ndddddd\n```\neeee\n11. f",
            ],
        ),
        (
            "within a line in a list",
            "- ```\n  aaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbb\n  ccc\n  ```",
            vec![
                "- ```\n  aaaaaaaaaaaaaaaaaaa\n  ```",
                "```\nbbbbbbbbbbbbbbbbbbbb\nccc\n```",
            ],
        ),
        (
            "within a line",
            "```\naaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd\n```",
            vec![
                "```\naaaaaaaaaa bbbbbbbbbb cccccccccc\n```",
                "```\ndddddddddd\n```",
            ],
        ),
        (
            "within a quoted line",
            "> ```\n> aaaaaaaaaa bbbbbbbbbb cccccccccc\n> ```",
            vec![
                "> ```\n> aaaaaaaaaa bbbbbbbbbb\n> ```",
                "> ```\n> cccccccccc\n> ```",
            ],
        ),
        (
            "not for its closing line alone",
            "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```\nand so on",
            vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "and so on"],
        ),
        (
            "whole rather than cut",
            "Some words before it:\n```\naaaaa\nbbbbbbbbbbbbbbbbb\n```",
            vec![
                "Some words before it:",
                "```\naaaaa\nbbbbbbbbbbbbbbbbb\n```",
            ],
        ),
        (
            "its indentation kept",
            "```\nif aaaaaaaaaaaaaaaaaaaaaaaaa:\n    bbbbbbbbbbbb\n```",
            vec![
                "```\nif aaaaaaaaaaaaaaaaaaaaaaaaa:\n```",
                "```\n    bbbbbbbbbbbb\n```",
            ],
        ),
        (
            "without an info string that leaves no room",
            "```a-long-name-of-language\naaaaaaa\nbbbbb bbbbb\n```",
            vec![
                "```a-long-name-of-language\naaaaaaa\n```",
                "```\nbbbbb bbbbb\n```",
            ],
        ),
        (
            "at a line rather than at a blank one in it",
            "```\naaaaaaaa\n\nbbbbbbb\nccccccc\nddddddd\n```",
            vec![
                "```\naaaaaaaa\n\nbbbbbbb\nccccccc\n```",
                "```\nddddddd\n```",
            ],
        ),
        (
            "never empty",
            "a\n```some-language\nbbbbbbbbb bbbbbbbbbbbbb\n```",
            vec![
                "a\n```some-language\nbbbbbbbbb\n```",
                "```some-language\nbbbbbbbbbbbbb\n```",
            ],
        ),
        (
            "nor blank",
            "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n                                         \
             b\n```",
            vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "```\nb\n```"],
        ),
        (
            "nor for a longer closing line",
            "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n``````\nand so on",
            vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "and so on"],
        ),
        (
            "not when its quote ends there",
            "> ```\n> aaaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbbbb",
            vec![
                "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n> ```",
                "bbbbbbbbbbbbbbbbbbbbbb",
            ],
        ),
        (
            "nor when that ends with a blank line",
            "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n\nbbbbbbbbbbbbbbbbbbbbbb",
            vec![
                "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n> ```",
                "bbbbbbbbbbbbbbbbbbbbbb",
            ],
        ),
        (
            "a quote that ends ends its fence",
            "> ```\n> aaaaaaaaaaaa\nbbbbbbbbbbbbb bbbbb\nccccccccccc",
            vec![
                "> ```\n> aaaaaaaaaaaa\n> ```",
                "bbbbbbbbbbbbb bbbbb\nccccccccccc",
            ],
        ),
    ] {
        assert_eq!(split(answer, 40), expected, "{what}");
    }
}

#[test]
fn backticks_within_a_line_do_not_become_a_fence_by_a_cut() {
    for answer in [
        "Some words and then the code ```of it``` and other words",
        "Some words and some more words and ~~~~~ and other words",
        "```\nSome words and some more words ```\nand others\n```",
    ] {
        for part in split(answer, 40) {
            let inside = part.trim_start_matches("```\n");
            assert!(!inside.starts_with(['`', '~']), "{part:?}");
        }
    }
}

#[test]
fn what_a_reader_sees_as_one_character_is_not_cut() {
    for one in [
        "e\u{301}\u{302}",
        "👍🏽",
        "👩\u{200D}👩\u{200D}👧\u{200D}👦",
        "❤\u{FE0F}",
        "🇩🇪",
        "1\u{FE0F}\u{20E3}",
        "ก\u{0E33}\u{0E49}",
        "क\u{094D}\u{093F}",
    ] {
        for shift in 0..8 {
            let answer = "x".repeat(shift) + &one.repeat(30);
            for part in split(&answer, 20) {
                let part = part.trim_start_matches('x');
                assert_eq!(part.replace(one, ""), "", "{one:?} {shift}");
            }
        }
    }
}

#[test]
fn a_mark_says_that_the_answer_was_cut_outside_its_code() {
    let mark = "\n\n*(The answer was cut off at the model's length limit.)*";
    for (answer, closing) in [
        ("Words", ""),
        ("```\ncode\n```\nwords", ""),
        ("```rust\ncode", "\n```"),
        ("> ~~~~\n> code", "\n> ~~~~"),
    ] {
        let cut = Answer {
            text: answer.into(),
            cut: true,
            ..Answer::default()
        };
        assert_eq!(with_remarks(cut), format!("{answer}{closing}{mark}"));
    }
}

#[test]
fn mass_mentions_are_made_harmless() {
    for answer in [
        "@all",
        "@channel",
        "@here",
        "@ALL",
        "@Here's",
        "hi @all!",
        "@all.",
        "@all-",
        "@all_",
        "@all:",
        "x.@all",
        "x-@here.",
        ":@all",
        "\\@all",
        "**@all**",
        "_@channel_",
        "~~@here~~",
        "[@all](x)",
        "![@all](x)",
        "@all,@here",
        "# @all",
        "> @all",
        "| @all |",
        "\"@all\"",
        "@all\u{200D}",
        "@allⒶ",
        "@all\u{345}",
        "@all👍",
        "日本@all",
        "` @all",
        "\\`@all`",
        "`a\n\n`@all",
        "`` @all `",
        "www.x.y/` @all `",
        "http://x/` @all `",
        "[a](b '`') @all `c`",
        "&#64;@all",
        "&commat;all",
        "&#x40;here",
        "&#64;all",
        "- a\n\n    ```\n  ```\n  @all",
        "- ```\n@all\n```",
        "> ```\n@all",
    ] {
        let safe = one(answer, &SAFE);
        assert_eq!(mass_mentions(&safe), 0, "{answer:?} {safe:?}");
        assert_eq!(safe.replace('\u{200B}', ""), answer);
        assert_ne!(safe, answer);
    }
}

#[test]
fn other_names_addresses_and_code_keep_their_at() {
    for answer in [
        "@allison",
        "@heretic @channels @all1 @@all",
        "all @ here",
        "@ all",
        "`@all`",
        "``@all` ``",
        "Write `@all` or `@here`: (`@channel`), **`@all`**",
        "```\n@all\n```",
        "~~~ x\n@all\n``` @here\n~~~",
        "> ```\n> @all\n> ```",
        "1. Run\n   ```\n   @all\n\n     @here\n   ```",
        "10. Run\n\n    ```ruby\n    @channel = Channel.find(1)\n    ```\n11. Done",
        "a `b\n\n`@all`",
        "    @all",
        "text\n    ```\n    @all",
        "Write to ops@here.example or all@channel.example.com.",
        "https://example.com/@here/x and [x](https://example.com/@all)",
        "[x](y \"@all\")",
        ">>> ```\n>>> @all",
        "- a\n  ```\n  @all\n  ```",
    ] {
        assert_eq!(one(answer, &SAFE), answer);
    }
}

#[test]
fn a_mass_mention_that_a_split_would_make_is_harmless_too() {
    for answer in [
        "The word in code: `1234567890 1234567890 @all 12345 12345`",
        "1234567890123456789012345678901234@allison",
        "12345678901234567890123456789012345@allison",
        "123456789012345678901234567890123456@channel",
    ] {
        for part in split(answer, 40) {
            assert_eq!(mass_mentions(&part), 0, "{part:?}");
        }
    }
}

#[test]
fn images_become_links_where_clients_would_load_them() {
    for (answer, expected) in [
        ("![a](b)", "[a](b)"),
        ("![](b)", "[](b)"),
        ("x ![a][b] y", "x [a][b] y"),
        ("![a][]", "[a][]"),
        ("![a]\n\n[a]: b", "[a]\n\n[a]: b"),
        ("![a\nc](b)", "[a\nc](b)"),
        ("![a [b] `]` c](d)", "[a [b] `]` c](d)"),
        ("!![a](b)", "[a](b)"),
        ("[![a](b)](c)", "[[a](b)](c)"),
        ("\\![a](b)", "\\![a](b)"),
        ("\\!![a](b)", "\\![a](b)"),
        ("`![a](b)`", "`![a](b)`"),
        ("` ![a](b)", "` [a](b)"),
        ("```\n![a](b)\n```", "```\n![a](b)\n```"),
        ("vec![1] and !x! and !", "vec![1] and !x! and !"),
        ("a ![b]\n\n[c](d)", "a ![b]\n\n[c](d)"),
        ("[a](b)\n![c]", "[a](b)\n![c]"),
        ("a\n![b]\nc](d)", "a\n[b]\nc](d)"),
        ("<img src=\"x\">", "<img src=\"x\">"),
    ] {
        assert_eq!(one(answer, &LINKS), expected);
        assert_eq!(one(answer, &SAFE), answer);
    }
}

#[test]
fn very_many_half_images_take_no_time() {
    for text in ["![", "![\n", "![\n\n", "![a]\n[b]:"] {
        let answer = text.repeat((1 << 19) / text.len());
        let began = std::time::Instant::now();
        parts(&answer, usize::MAX / 2, &LINKS);
        let took = began.elapsed();
        assert!(took.as_secs() < 20, "{text:?}: {took:?}");
    }
}

/// How many words of `text` are mass mentions by the server's rule, code and links not looked
/// at.
fn mass_mentions(text: &str) -> usize {
    let is_exact = |word: &str| ["@all", "@channel", "@here"].contains(&&*word.to_lowercase());
    let is_keyword = |word: &str| is_exact(word.trim_end_matches(['.', '-', ':', '_']));
    let in_word = |c: char| c.is_ascii_alphanumeric() || ":.-_@".contains(c);
    text.split(|c| !in_word(c))
        .filter(|word| !(word.starts_with(':') && word.ends_with(':')))
        .map(|word| word.trim_start_matches([':', '.', '-', '_']))
        .filter(|word| {
            let mut pieces = word.split(['.', '-', ':']);
            is_keyword(word) || !word.starts_with('@') && pieces.any(is_exact)
        })
        .count()
}

/// What is left of `text` when white space, fences' lines, quote markers and what makes mass
/// mentions harmless are taken away.
fn substance(text: &str) -> String {
    let lines = text.lines().filter(|line| {
        let line = line.trim_start_matches([' ', '>', '\t']);
        !line.starts_with("```") && !line.starts_with("~~~")
    });
    let kept = |c: &char| !c.is_whitespace() && *c != '>' && *c != '\u{200B}';
    lines.flat_map(|line| line.chars().filter(kept)).collect()
}

fn is_balanced(part: &str) -> bool {
    open_fence(part).is_none()
}

/// Words, white space and Markdown, put together at random.
fn markdown() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z]{1,12}",
        6 => Just(" ".to_owned()),
        4 => Just("\n".to_owned()),
        3 => Just("\n\n".to_owned()),
        2 => Just(". ".to_owned()),
        1 => Just("\n> ".to_owned()),
        1 => Just("\n- ".to_owned()),
        1 => Just("\n```rust\n".to_owned()),
        2 => Just("\n```\n".to_owned()),
        1 => Just("\n~~~~\n".to_owned()),
        1 => Just("\n> ```\n> ".to_owned()),
        1 => Just("\n10. ".to_owned()),
        1 => Just("\n    ```\n    ".to_owned()),
        1 => Just("\n    ".to_owned()),
        1 => Just("@all".to_owned()),
        1 => Just("@Here".to_owned()),
        1 => Just("`".to_owned()),
        1 => "[äé日本👍]{1,8}",
    ];
    prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_fits_any_limit(answer in "[ -~\n\t`~>@\u{301}🇩🏽\u{200D}\\PC]{0,300}", limit in 20..90usize) {
        for part in split(&answer, limit) {
            prop_assert!(characters(&part) <= limit, "{:?}", part);
            prop_assert!(!part.trim().is_empty());
        }
    }

    #[test]
    fn runs_of_anything_fit_any_limit(answer in "([`~>]{1,60}|[ \n]{1,60}|@all|x){0,20}", limit in 20..60usize) {
        for part in split(&answer, limit) {
            prop_assert!(characters(&part) <= limit, "{:?}", part);
            prop_assert!(!part.trim().is_empty());
        }
    }

    #[test]
    fn splitting_loses_nothing_and_keeps_fences_whole(answer in markdown(), limit in 40..120usize) {
        let parts = split(&answer, limit);
        prop_assert_eq!(substance(&parts.join("\n")), substance(&answer));
        for part in &parts {
            prop_assert!(characters(part) <= limit, "{:?}", part);
            prop_assert!(parts.len() == 1 || is_balanced(part), "{:?}", part);
        }
    }

    #[test]
    fn combining_marks_stay_with_their_letters(answer in "([a-z ]|[a-z][\u{300}-\u{36F}]{1,3}|👍🏽|👩\u{200D}👧|🇩🇪){0,200}") {
        let answer = answer.trim_start();
        for part in split(answer, 20) {
            prop_assert!(!part.starts_with(extends), "{:?}", part);
            prop_assert!(!part.ends_with('\u{200D}'), "{:?}", part);
            let flags = part.matches(['🇩', '🇪']).count();
            prop_assert_eq!(flags % 2, 0);
        }
    }

    #[test]
    fn no_part_outside_code_mentions_everybody(
        words in prop::collection::vec("[@._*()!x -]{0,3}@(?i:all|here|channel)[a.:_'é-]{0,2}", 0..20),
        limit in 20..200usize,
    ) {
        for part in split(&words.join(" "), limit) {
            prop_assert_eq!(mass_mentions(&part), 0, "{:?}", part);
        }
    }

    #[test]
    fn no_version_of_a_growing_answer_mentions_whom_the_whole_does_not(
        answer in "(@ann|@anna|@here|`| |\n|\n\n|```\n|> |- |x|https://a.b/@ann |\\.){0,16}",
    ) {
        for (end, _) in answer.char_indices() {
            let shown = growing(&answer[..end], 60, &SAFE);
            prop_assert!(characters(&shown) <= 60);
            prop_assert!(mention::mass_mentions(&shown).is_empty(), "{:?}", shown);
            let named = mention::mentions(&shown, "ann");
            prop_assert!(!named || mention::mentions(&answer, "ann"), "{:?}", shown);
        }
    }

    #[test]
    fn what_is_harmless_stays_as_it_is(answer in markdown(), links in any::<bool>()) {
        let options = ReplyOptions { allow_unsafe_links: links };
        let safe = harmless(&answer, &options);
        prop_assert_eq!(harmless(&safe, &options), safe);
    }
}
