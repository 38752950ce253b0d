//! What an answer may not do where it is shown: notify everybody, or load an image.

use super::ReplyOptions;
use crate::mattermost::markdown;
use crate::mattermost::mention::mass_mentions;

/// No letter, number or part of a name to the server, and invisible: `@` and what follows it become
/// two words.
const ZERO_WIDTH_SPACE: char = '\u{200B}';

/// `text` without mass mentions and, as `options` ask, images. What the server takes for code, an
/// address or a longer name stays as it is.
pub(super) fn harmless(text: &str, options: &ReplyOptions) -> String {
    let mut safe = if options.allow_unsafe_links {
        without_images(text)
    } else {
        text.to_owned()
    };
    loop {
        // More than once, as the text may be other Markdown without the mentions.
        let signs = mass_mentions(&safe);
        if signs.is_empty() {
            return safe;
        }
        for sign in signs.iter().rev() {
            safe.insert(sign.end, ZERO_WIDTH_SPACE);
        }
    }
}

/// `text` with links in the place of images: `[` for each `![` outside code that may be an image's.
/// Clients load them, and read Markdown a little differently from the server: when in doubt, it is
/// one.
fn without_images(text: &str) -> String {
    let code = markdown::code(text);
    let mut images = Images {
        defined: text.contains("]:"),
        ..Images::default()
    };
    let (mut safe, mut kept) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices("![") {
        let after_code = code.partition_point(|code| code.end <= at);
        let in_code = code.get(after_code).is_some_and(|code| code.start <= at);
        if in_code || at + 1 >= images.last_label(text, at) {
            continue;
        }
        let before = text[kept..at].trim_end_matches('!');
        let backslashes = before.len() - before.trim_end_matches('\\').len();
        safe.push_str(before);
        if backslashes % 2 == 1 {
            safe.push('!');
        }
        kept = at + 1;
    }
    safe.push_str(&text[kept..]);
    safe
}

/// Up to where a `[` can begin an image's label: when in doubt, it does. In bytes of the text.
#[derive(Default)]
struct Images {
    /// Some label has an address of its own: any brackets may then be an image's.
    defined: bool,
    last: usize,
    /// The end of the paragraph that `last` was found in.
    paragraph_end: usize,
}

impl Images {
    /// For the paragraph at `at`; looks through each once: the work grows with the text, not faster.
    fn last_label(&mut self, text: &str, at: usize) -> usize {
        if self.defined {
            return text.len();
        }
        if at >= self.paragraph_end {
            let paragraph = text[at..].split("\n\n").next().unwrap_or_default();
            self.paragraph_end = at + paragraph.len();
            let ends = ["](", "]["].map(|end| paragraph.rfind(end).map(|end| at + end));
            self.last = ends.into_iter().flatten().max().unwrap_or(0);
        }
        self.last
    }
}
