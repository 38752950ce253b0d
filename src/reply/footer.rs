//! The small print below an answer: one line of its own, that is known again by how it begins.

/// Emphasis, and a character that nobody sees and no model writes there.
const OPENING: &str = "*\u{2060}";
const CLOSING: &str = "*";

/// The line that tells `facts`; nothing without any.
pub fn footer(facts: &[String]) -> Option<String> {
    (!facts.is_empty()).then(|| format!("{OPENING}{}{CLOSING}", facts.join(" · ")))
}

/// `answer` without its footer, for the model, which would write one itself.
pub fn without_footer(answer: &str) -> &str {
    let answer = answer.trim_end();
    let (before, last) = answer.rsplit_once('\n').unwrap_or(("", answer));
    if last.starts_with(OPENING) && last.ends_with(CLOSING) {
        before.trim_end()
    } else {
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_taken_off_again_and_nothing_else_is() {
        let footer = footer(&["`openai gpt-4o`".into(), "3.2 s".into()]).unwrap();
        assert_eq!(footer, "*\u{2060}`openai gpt-4o` · 3.2 s*");
        for answer in ["text", "a\n\nb", "*emphasis*", "a\n*b · c*", ""] {
            assert_eq!(without_footer(&format!("{answer}\n\n{footer}")), answer);
            assert_eq!(without_footer(answer), answer);
        }
    }
}
