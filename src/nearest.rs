//! Which known word somebody meant: for mistyped keys, providers, commands and flags.

/// The word of `known` that takes the fewest single typos to become `word`, if `typos` are enough.
pub(crate) fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    typos: usize,
) -> Option<&'a str> {
    let distances = known
        .into_iter()
        .map(|known| (distance(word, known), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= typos).then_some(known)
}

/// Single typos between two words: a letter missing, added or replaced, or two neighbours swapped.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Three rows of the usual table: the row before the last serves the swaps.
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != *other);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if column > 0 && previous == Some(*other) && letter == to[column - 1] {
                best = best.min(before_last[column - 1] + 1);
            }
            next.push(best);
        }
        before_last = std::mem::replace(&mut last, next);
        previous = Some(letter);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_one_letter_or_two_neighbours_swapped() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("url", "url", 0),
            ("ulr", "url", 1),
            ("rl", "url", 1),
            ("urls", "url", 1),
            ("uri", "url", 1),
            ("lru", "url", 2),
            ("größe", "grösse", 2),
            ("kitten", "sitting", 3),
        ];
        for (from, to, typos) in cases {
            assert_eq!(distance(from, to), typos, "{from} {to}");
            assert_eq!(distance(to, from), typos, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_word_is_found_unless_it_is_too_far() {
        let known = ["openai", "openrouter", "ollama"];
        assert_eq!(nearest("opnai", known, 2), Some("openai"));
        assert_eq!(nearest("olama", known, 2), Some("ollama"));
        assert_eq!(nearest("moonshot", known, 2), None);
        assert_eq!(nearest("x", [], 2), None);
    }
}
