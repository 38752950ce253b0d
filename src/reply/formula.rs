//! Display formulas, `\[ … \]` and `$$ … $$`: Mattermost eats the backslashes and shows a formula only
//! in a code block of the language latex.

use super::fence::{fence_run, split_quote};
use crate::mattermost::markdown;

/// Formulas of more lines than this are left as they are.
const LINES: usize = 100;

/// `text` with its display formulas as code blocks: those that stand outside code and on lines of their
/// own.
pub(super) fn as_blocks(text: &str) -> String {
    if !text.contains("\\[") && !text.contains("$$") {
        return text.to_owned();
    }
    let code = markdown::code(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let is_code = |offset: usize| code.iter().any(|range| range.contains(&offset));
        match formula(rest).filter(|found| !is_code(at + found.begins)) {
            Some(found) => {
                out.push_str(&found.block);
                at += found.length;
            }
            None => {
                let line = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
                out.push_str(&rest[..line]);
                at += line;
            }
        }
    }
    out
}

struct Formula {
    /// Where its mark is, in bytes.
    begins: usize,
    /// Of its lines but for the last one's end, in bytes.
    length: usize,
    block: String,
}

/// The formula that is all of the first lines of `text`.
fn formula(text: &str) -> Option<Formula> {
    let first = text.split('\n').next()?;
    let (quote, after) = split_quote(first);
    let content = after.trim_start_matches([' ', '\t']);
    let prefix = &first[..first.len() - content.len()];
    let (open, close) = [("\\[", "\\]"), ("$$", "$$")]
        .into_iter()
        .find(|(open, _)| content.starts_with(open))?;
    let mut lines: Vec<&str> = Vec::new();
    let mut length = 0;
    for (number, line) in text.split('\n').take(LINES).enumerate() {
        length += line.len() + usize::from(number > 0);
        let line = match number {
            0 => &content[open.len()..],
            _ => line.strip_prefix(quote.trim_end())?.trim(),
        };
        // A sentence may end with its formula.
        let end = line.trim_end_matches([' ', '\t', '.', ',', ';']);
        let is_last = end.ends_with(close)
            && (number > 0 || !end[..end.len() - close.len()].trim().is_empty());
        let inner = if is_last {
            &end[..end.len() - close.len()]
        } else {
            line
        };
        let is_opening = number == 0 && inner.trim().is_empty();
        let is_closing = is_last && inner.trim().is_empty();
        // An empty line ends the paragraph, and with it what could be a formula.
        if inner.contains(close)
            || inner.contains(open)
            || fence_run(inner.trim()) > 0
            || inner.trim().is_empty() && !is_opening && !is_closing
        {
            return None;
        }
        if !is_opening && !is_closing {
            lines.push(inner.trim());
        }
        if is_last {
            if lines.is_empty() {
                return None;
            }
            let lines: Vec<String> = lines.iter().map(|line| format!("{prefix}{line}")).collect();
            return Some(Formula {
                begins: prefix.len(),
                length,
                block: format!("{prefix}```latex\n{}\n{prefix}```", lines.join("\n")),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_formulas_become_latex_blocks() {
        for (text, expected) in [
            ("\\[ E = mc^2 \\]", "```latex\nE = mc^2\n```"),
            ("$$E = mc^2$$", "```latex\nE = mc^2\n```"),
            (
                "So:\n\\[\na = b\n+ c\n\\]\nand \\(x\\).",
                "So:\n```latex\na = b\n+ c\n```\nand \\(x\\).",
            ),
            ("$$\nx\n$$\n", "```latex\nx\n```\n"),
            ("\\[ a\nb \\].", "```latex\na\nb\n```"),
            (
                "1. First:\n   \\[ x_1 \\]\n2. Second",
                "1. First:\n   ```latex\n   x_1\n   ```\n2. Second",
            ),
            ("> \\[\n> x\n> \\]\n", "> ```latex\n> x\n> ```\n"),
            ("$$a$$\n$$b$$", "```latex\na\n```\n```latex\nb\n```"),
        ] {
            assert_eq!(as_blocks(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_answer_is_posted_with_its_formulas_as_blocks() {
        let options = crate::reply::ReplyOptions::default();
        let answer = "So \\(x\\), and:\n\\[ E = mc^2 \\]";
        let expected = "So \\(x\\), and:\n```latex\nE = mc^2\n```";
        assert_eq!(crate::reply::parts(answer, 100, &options), [expected]);
        assert_eq!(
            crate::reply::growing(&format!("{answer}\n"), 100, &options),
            expected
        );
    }

    #[test]
    fn all_else_is_left_as_it_is() {
        for text in [
            "an inline \\( x \\) and $y$",
            "```\n\\[ E = mc^2 \\]\n```",
            "```latex\n$$x$$\n```",
            "    \\[ x \\]",
            "see `\\[ x \\]`",
            "\\[1\\] A footnote",
            "\\[not a link\\](https://a.example)",
            "the shell's own id is $$",
            "$$ and $$ are the same",
            "$$1 or $$2 or 3$$",
            "\\[\n\n\\]",
            "\\[ never closed\nmore",
            "\\[ a\n\nb \\]",
            "$$",
            "$$$$",
            "\\[\\]",
            "\\[ a\n```\n\\]",
            "> \\[\nx\n\\]",
        ] {
            assert_eq!(as_blocks(text), text);
        }
    }
}
