//! The small print below an answer: one line of its own, that is known again by how it begins.

use super::characters;

/// Emphasis, and a character that nobody sees and no model writes there.
const OPENING: &str = "*\u{2060}";
const CLOSING: &str = "*";

/// Puts a line that tells `facts`, if there are any, below an answer: into its last part, which then has
/// at most `limit` characters, or as one more.
pub fn add_footer(parts: &mut Vec<String>, facts: &[String], limit: usize) {
    if facts.is_empty() {
        return;
    }
    let footer = format!("{OPENING}{}{CLOSING}", facts.join(" · "));
    match parts.last_mut() {
        Some(last) if characters(last) + 2 + characters(&footer) <= limit => {
            *last = format!("{last}\n\n{footer}");
        }
        _ => parts.push(footer),
    }
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
        let facts = ["`openai gpt-4o`".to_owned(), "3.2 s".to_owned()];
        let footer = "*\u{2060}`openai gpt-4o` · 3.2 s*";
        for answer in ["text", "a\n\nb", "*emphasis*", "a\n*b · c*", ""] {
            let mut parts = vec![answer.to_owned()];
            add_footer(&mut parts, &facts, 100);
            assert_eq!(parts, [format!("{answer}\n\n{footer}")]);
            assert_eq!(without_footer(&parts[0]), answer);
            assert_eq!(without_footer(answer), answer);
        }
        let mut full = vec!["text".to_owned()];
        add_footer(&mut full, &facts, footer.chars().count() + 5);
        assert_eq!(full, ["text", footer], "a post of its own");
    }
}
