//! What came of the files of the posts that the model is told, and how their texts share the room.

use super::excerpt::Excerpt;
use super::text;
use crate::desk::FileReader;

/// In less room than this, in characters, a file of an earlier post is left out.
const WORTH: usize = 200;

pub(super) const NO_ROOM: &str = "left out: there is no room for it";

/// A file that the worker is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclosure {
    /// Its id.
    pub file: String,
    /// Its name, as the sender gave it.
    pub name: String,
    /// The server's smaller copy is given, not the file itself.
    pub is_preview: bool,
    /// In bytes.
    pub size: u64,
    /// What is done with it.
    pub purpose: Purpose,
}

/// What the worker does with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It shows the picture to the model; with its media type by its first bytes, such as `image/png`.
    Show(&'static str),
    /// It has a program make text of it.
    Read(FileReader),
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Text(Excerpt),
    Enclosed(Enclosure),
    /// Why it is not shown.
    Not(String),
    /// Nothing of it is to be told but its name.
    Named,
}

/// Cuts the texts to `room` characters in all, and those that programs will make. The question's share
/// it, so that none is without any; those of earlier posts get what is left, one after the other.
pub(super) fn allot(shown: &mut [Shown], of_question: usize, mut room: usize) {
    let (asked, earlier) = shown.split_at_mut(of_question.min(shown.len()));
    let mut texts: Vec<&mut Shown> = asked
        .iter_mut()
        .filter(|file| file.length().is_some())
        .collect();
    texts.sort_by_key(|text| text.length());
    let mut left = texts.len();
    for text in texts {
        text.cut(room / left);
        room -= text.length().unwrap_or(0);
        left -= 1;
    }
    for file in earlier {
        let length = file.length().unwrap_or(0);
        if length > room && room < WORTH {
            *file = Shown::Not(NO_ROOM.to_owned());
            continue;
        }
        file.cut(room);
        room -= file.length().unwrap_or(0);
    }
}

impl Shown {
    /// What came of the file `name`, as a line for people.
    pub(super) fn for_people(&self, name: &str) -> String {
        let what = match self {
            Shown::Text(text) if text.left_out > 0 => {
                let left_out = text::size(text.left_out);
                format!("its text but for {left_out} in the middle")
            }
            Shown::Text(_) => "its text".to_owned(),
            Shown::Enclosed(enclosure) => match &enclosure.purpose {
                Purpose::Show(_) if enclosure.is_preview => {
                    "as a picture, in the server's smaller copy".to_owned()
                }
                Purpose::Show(_) => "as a picture".to_owned(),
                Purpose::Read(reader) => {
                    let program = reader.words.first().map_or("", String::as_str);
                    format!("what {program} makes of it")
                }
            },
            Shown::Not(why) => format!("its name; {why}"),
            Shown::Named => "its name".to_owned(),
        };
        format!("File {name}: {what}")
    }

    /// The most characters of the text that it comes to, if it comes to one.
    fn length(&self) -> Option<usize> {
        match self {
            Shown::Text(text) => Some(text.length()),
            Shown::Enclosed(Enclosure {
                purpose: Purpose::Read(reader),
                ..
            }) => Some(reader.chars),
            _ => None,
        }
    }

    /// Cuts the text to `room` characters.
    fn cut(&mut self, room: usize) {
        match self {
            Shown::Text(text) => *text = std::mem::take(text).cut(room),
            Shown::Enclosed(Enclosure {
                purpose: Purpose::Read(reader),
                ..
            }) => reader.chars = reader.chars.min(room),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_the_room_and_none_goes_without_a_word() {
        let text = |length: usize| {
            Shown::Text(Excerpt {
                start: "x".repeat(length),
                ..Excerpt::default()
            })
        };
        let lengths = |shown: Vec<Shown>| -> Vec<String> {
            let told = |shown: Shown| match shown {
                Shown::Text(text) => text.length().to_string(),
                Shown::Not(why) => why,
                _ => String::new(),
            };
            shown.into_iter().map(told).collect()
        };
        for (what, files, of_question, room, expected) in [
            ("all fit", vec![10, 20], 2, 30, vec!["10", "20"]),
            ("two long ones", vec![100, 100], 2, 50, vec!["25", "25"]),
            ("what one leaves", vec![100, 10], 2, 50, vec!["40", "10"]),
            (
                "earlier ones",
                vec![10, 400, 400],
                1,
                700,
                vec!["10", "400", "290"],
            ),
            (
                "no room",
                vec![600, 400, 50],
                1,
                660,
                vec!["600", NO_ROOM, "50"],
            ),
        ] {
            let mut shown: Vec<Shown> = files.into_iter().map(text).collect();
            allot(&mut shown, of_question, room);
            assert_eq!(lengths(shown), expected, "{what}");
        }
    }
}
