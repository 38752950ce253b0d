//! What of a server's words may stand in the log: one line, without keys, and without what it quotes
//! of the conversation.

use super::error::Asked;

/// Characters of a log line, and of what the server said in it.
const LINE: usize = 300;
const SAID: usize = 200;
/// A shorter key may be any word.
pub(super) const SECRET: usize = 8;
/// Characters of the conversation in a row that are taken for a quotation.
const QUOTED: usize = 16;

impl Asked<'_> {
    /// One line of at most `LINE` characters: the provider, what happened, what it said about it.
    pub(super) fn line(&self, what: &str, said: &str) -> String {
        let said = self.harmless(said);
        let name = shown(self.name);
        let line = match said.as_str() {
            "" => format!("{name}: {what}"),
            said => format!("{name}: {what} ({said})"),
        };
        one_line(&line, LINE)
    }

    /// What a server said, without keys, and without what it quotes of the conversation.
    pub(super) fn harmless(&self, said: &str) -> String {
        // Before the cutting: a secret that is cut would no longer be found.
        let hidden = self.without_secrets(said);
        // Looked for in more than is shown, so that cutting hides nothing from the search.
        let mut said = one_line(&hidden, 2 * SAID);
        // Escapes may hide a quotation, and what is within them may be escaped once more.
        for depth in [0, 1, 2] {
            let plain = (0..depth).fold(said.clone(), |text, _| {
                one_line(&unescaped(&text), usize::MAX)
            });
            let (kept, quotes) = self.without_quotes(&plain);
            if quotes {
                said = kept;
            }
        }
        // Again: the escapes are gone.
        let said = self.without_secrets(&said);
        let key = |word: &str| match self.secrets.as_slice() {
            [] => looks_like_key(word, ""),
            secrets => secrets.iter().any(|secret| looks_like_key(word, secret)),
        };
        let mut shown = String::new();
        let is_break = |c: char| c.is_whitespace() || "=,;\"'`<>(){}[]".contains(c);
        for piece in said.split_inclusive(is_break) {
            let word = piece.trim_end_matches(is_break);
            if key(word) {
                shown += "***"
            } else {
                shown += word
            }
            shown += &piece[word.len()..];
        }
        one_line(&shown, SAID)
    }

    /// `said` with "***" for each secret, wherever it stands.
    fn without_secrets(&self, said: &str) -> String {
        let mut secrets = self.secrets.clone();
        // One may be a part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(said.to_owned(), |text, secret| {
            // Some writers of JSON escape the slash, which base64 has.
            let escaped = secret.replace('/', "\\/");
            text.replace(secret, "***").replace(&escaped, "***")
        })
    }

    /// `said` with "…" for each part of at least `QUOTED` characters that the conversation has too;
    /// whether there was any.
    fn without_quotes(&self, said: &str) -> (String, bool) {
        let starts: Vec<usize> = said
            .char_indices()
            .map(|(at, _)| at)
            .chain([said.len()])
            .collect();
        let mut quoted = vec![false; starts.len()];
        for message in self.conversation {
            let content = one_line(&message.content, usize::MAX);
            for (at, window) in starts.windows(QUOTED + 1).enumerate() {
                if content.contains(&said[window[0]..window[QUOTED]]) {
                    quoted[at..at + QUOTED].fill(true);
                }
            }
        }
        let mut kept = String::new();
        for (c, (at, is_quoted)) in said.chars().zip(quoted.iter().enumerate()) {
            if !is_quoted {
                kept.push(c);
            } else if at == 0 || !quoted[at - 1] {
                kept.push('…');
            }
        }
        (kept, quoted.contains(&true))
    }
}

/// A name without what a URL may carry of secrets: user, password and query.
pub(super) fn shown(name: &str) -> String {
    let name = name.split(['?', '#']).next().unwrap_or_default();
    match name.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => name.to_owned(),
    }
}

/// `text` without the escapes of a JSON or Python string: `\n`, `\"`, `\u00fc`, `\xfc`.
fn unescaped(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escape = (c == '\\').then(|| rest.next()).flatten();
        let digits = match escape {
            Some('u') => 4,
            Some('x') => 2,
            _ => 0,
        };
        let code: String = rest.clone().take(digits).collect();
        match (u16::from_str_radix(&code, 16), escape) {
            (Ok(unit), _) => {
                units.push(unit);
                rest.by_ref().take(digits).for_each(drop);
            }
            (_, Some('n' | 'r' | 't')) => units.push(u16::from(b' ')),
            (_, escaped) => {
                units.extend_from_slice(escaped.unwrap_or(c).encode_utf16(&mut [0; 2]));
            }
        }
    }
    String::from_utf16_lossy(&units)
}

/// Whether a word may be a key of any server, or is `key` with its middle masked. Short words are
/// left alone: they may be anything.
fn looks_like_key(word: &str, key: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '*');
    let key = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if word.len() < SECRET {
        return false;
    }
    let is_masked = ["***", "...", "…", "xxxx", "XXXX"]
        .iter()
        .any(|mask| word.contains(mask));
    let shares_an_end = key.len() >= SECRET
        && key.is_ascii()
        && (word.starts_with(&key[..5]) || word.ends_with(&key[key.len() - 4..]));
    word == key
        || word.contains("***")
        || (is_masked && shares_an_end)
        || ["sk-", "gsk_", "xai-", "AIza"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
}

/// White space and control characters become single spaces; cut to `limit` characters.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut line = String::new();
    let mut characters = 0;
    for (index, word) in words.enumerate() {
        let space = (index > 0).then_some(' ');
        for c in space.into_iter().chain(word.chars()) {
            if characters == limit {
                line.pop();
                line.push('…');
                return line;
            }
            line.push(c);
            characters += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::error::tests::{asked, said};
    use super::*;

    #[test]
    fn words_that_look_like_keys_are_known_and_others_left_alone() {
        let key = "abcde-0123456789";
        for (word, is_key) in [
            ("abcde-0123456789", true),
            ("'abcde*****'", true),
            ("...........6789", false),
            ("xxxxxxxx6789", true),
            ("abcde...6789", true),
            ("xa***********zz", true),
            ("sk-proj-something", true),
            ("gsk_something", true),
            ("abcdefgh", false),
            ("provided", false),
            ("sk-x", false),
            ("", false),
        ] {
            assert_eq!(looks_like_key(word, key), is_key, "{word}");
        }
        for (word, key) in [
            ("provided:", ""),
            ("<ab1>", "ab1"),
            ("ollama-cloud", "ollama"),
            ("x", "x"),
        ] {
            assert!(!looks_like_key(word, key), "{word}");
        }
    }

    #[rustfmt::skip]
    #[test]
    fn the_reason_stays_in_the_log_without_the_key() {
        for (key, text, shown) in [
            ("x", "request (1103 tokens) exceeds the available context size", "request (1103 tokens) exceeds the available context size"),
            ("ollama", "model ollama/qwen3 not found", "model ollama/qwen3 not found"),
            ("a-long-key-1", "the available a-long-key-2 model", "the available a-long-key-2 model"),
            ("a-long-key-1", "key=a-long-key-1, sorry", "key=***, sorry"),
            ("a-long-key-1", "{\"key\":\"a-long-key-1\"}", "{\"key\":\"***\"}"),
            ("a-long-key-1", "Bearer a-long-key-1", "Bearer ***"),
            ("a-long-key-1", "my_a-long-key-1_ key", "my_***_ key"),
            ("c2VjcmV0LWtleS0xMjM0NQ==", "invalid key c2VjcmV0LWtleS0xMjM0NQ==", "invalid key ***"),
            ("c2Vjcm/0LWtleS0xMjM0NQ==", r"invalid key c2Vjcm\/0LWtleS0xMjM0NQ==", "invalid key ***"),
            ("_key-2-of-mine-", "'_key-2-of-mine-' is wrong", "'***' is wrong"),
            ("_key-2-of-mine-", "key-2xxxxmine is wrong", "*** is wrong"),
        ] {
            assert_eq!(asked("x", key, &[]).harmless(text), shown);
        }
        // Beyond what is looked at, but for what is left out before it.
        let text = format!("{}{}", "0123456789abcdef ".repeat(23), "my-own-secret-key");
        let conversation = said("0123456789abcdef ".repeat(23));
        let shown = asked("x", "my-own-secret-key", &conversation).harmless(&text);
        assert_eq!(shown, "…***", "a key that the cutting would part");
        let conversation = said("test");
        assert_eq!(asked("x", "", &conversation).harmless("model \"latest\" is not there"), "model \"latest\" is not there");
    }

    #[test]
    fn a_log_line_is_one_line_of_bounded_length() {
        let line = asked("x", "", &[])
            .refused(500, &"ü\r\n\t\u{1b} ".repeat(1000), None)
            .to_string();
        assert!(
            line.chars().count() <= LINE && !line.contains(char::is_control),
            "{line}"
        );
        for (text, limit, cut) in [
            ("a  b", 9, "a b"),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("", 3, ""),
            (" \n", 3, ""),
        ] {
            assert_eq!(one_line(text, limit), cut);
        }
    }

    #[test]
    fn a_quotation_is_left_out_also_behind_escapes() {
        let conversation = said("pin: 1\npw: \"sesame\"\nGrüße \u{1F600} Пароль: сезам, откройся");
        let asked = asked("x", "", &conversation);
        for said in [
            r#"input: 'pin: 1\npw: "sesame"\n' is bad"#,
            r#"input: {\"content\":\"pin: 1\\npw: \\\"sesame\\\"\\n\"} is bad"#,
            r"'\n\u041f\u0430\u0440\u043e\u043b\u044c: \u0441\u0435\u0437\u0430\u043c, \u043e' is bad",
            r"\nGr\xfc\xdfe \ud83d\ude00 \u041f\u0430\u0440\u043e\u043b\u044c: \u0441 is bad",
        ] {
            let shown = asked.harmless(said);
            assert!(shown.contains('…') && shown.ends_with("is bad"), "{shown}");
            for secret in ["sesame", "0441", "сезам"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        let said = r"C:\new\x \u12 \ud83d \";
        assert!(asked.line("", said).contains(said), "left as it is");
    }

    #[test]
    fn only_what_is_quoted_is_left_out() {
        for (text, content, shown) in [
            (
                "bad: my secret plan is this!",
                "so my secret plan\nis this one",
                "bad:…!",
            ),
            (
                "bad: my secret",
                "so my secret plan is this",
                "bad: my secret",
            ),
            ("cannot read 'ring'", "ring", "cannot read 'ring'"),
            ("", "some words of a conversation", ""),
        ] {
            assert_eq!(asked("x", "", &said(content)).harmless(text), shown);
        }
    }
}
