//! Gathers what a conversation is built from, one request to Mattermost at a time: the history around
//! a post, the names of those who speak, the files' texts.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use log::debug;

use super::{FileText, Input};
use crate::config::MattermostSettings;
use crate::filter;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{FileInfo, Post, PostList, User, UserId, mention};
use crate::provider::Message;
use crate::times::{self, Clock};

/// The most posts that are asked for at once.
const PAGE: usize = 200;
/// The most bytes of a file that are asked for at once.
const PIECE: usize = 1 << 20;
/// How long all files of a question together may take.
const FILES_TIME: Duration = Duration::from_secs(20);

/// The post to answer, and where it stands.
#[derive(Clone, Debug)]
pub struct Place {
    pub post: Post,
    pub bot: User,
    /// Its channel is a direct one.
    pub direct: bool,
    pub channel_name: String,
    /// What was said before cannot be read: the question is told alone.
    pub alone: bool,
}

/// What the model is told.
#[derive(Debug)]
pub struct Told {
    /// The system's message, what was said before, and last the question.
    pub messages: Vec<Message>,
    /// The messages of people begin with their names.
    pub several_speakers: bool,
}

/// What is gathered for one question. It is moved on by `step`, so that the loop can do other things
/// between two requests.
pub struct Gathering {
    place: Place,
    next: Next,
    posts: Vec<Post>,
    files: FileReader,
}

/// What is to be asked for next; lists of posts with the number of posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Choose,
    Thread(usize),
    Newest(usize),
    Before(usize),
    Names,
    Files,
}

impl Gathering {
    pub fn new(place: Place) -> Gathering {
        Gathering {
            place,
            next: Next::Choose,
            posts: Vec::new(),
            files: FileReader::default(),
        }
    }

    /// Makes at most one request. `Ok(None)`: call again. After an error the next call asks for the
    /// same again.
    pub fn step(
        &mut self,
        client: &Client,
        settings: &MattermostSettings,
        names: &mut Names,
        clock: &dyn Clock,
    ) -> Result<Option<Told>, ApiError> {
        if self.next == Next::Choose {
            self.next = self.history(settings);
        }
        let channel = &self.place.post.channel_id;
        match self.next {
            Next::Thread(count) => {
                let list = client.thread(&self.place.post.root_id, count);
                self.take(list, Next::Thread, count, settings)?;
                return Ok(None);
            }
            Next::Newest(count) => {
                let list = client.posts_page(channel, 0, count);
                self.take(list, Next::Newest, count, settings)?;
                return Ok(None);
            }
            Next::Before(count) => {
                let list = client.posts_before(channel, &self.place.post.id, count);
                self.take(list, Next::Before, count, settings)?;
                return Ok(None);
            }
            Next::Choose | Next::Names | Next::Files => {}
        }
        if self.next == Next::Names {
            self.next = Next::Files;
            let unknown = names.unknown(self.authors(settings), clock.now());
            if !unknown.is_empty() {
                names.learn(client, &unknown, clock.now());
                return Ok(None);
            }
        }
        if self
            .files
            .step(client, &self.place.post, settings.file_chars, clock.now())
        {
            return Ok(None);
        }
        Ok(Some(self.told(settings, names, clock)))
    }

    /// Where what was said before is to be read: in the thread, or the direct channel, or, where
    /// answers are not in threads, the channel's top-level posts.
    fn history(&self, settings: &MattermostSettings) -> Next {
        let post = &self.place.post;
        // Some of what comes will be left out: parts of one answer, posts that may not be read.
        let count = (settings.history_posts * 2).clamp(20, PAGE);
        let threaded = settings.channel(&post.channel_id).thread_replies;
        if settings.history_posts == 0 || self.place.alone {
            Next::Names
        } else if !post.root_id.is_empty() {
            Next::Thread(count)
        } else if threaded && !self.place.direct {
            Next::Names
        } else {
            Next::Newest(count)
        }
    }

    /// Takes a list of posts, `count` at most, or asks for fewer while they are over the bound. What
    /// is too large even so is left out.
    fn take(
        &mut self,
        list: Result<PostList, ApiError>,
        again: fn(usize) -> Next,
        count: usize,
        settings: &MattermostSettings,
    ) -> Result<(), ApiError> {
        let posts = match list {
            Err(ApiError::TooLarge) if count > 1 => {
                self.next = again(count / 2);
                return Ok(());
            }
            Err(ApiError::TooLarge) => Vec::new(),
            list => list?.posts,
        };
        let question = &self.place.post;
        let before = posts
            .iter()
            .filter(|post| post.create_at < question.create_at)
            .count();
        // The newest page has the answers, too, that earlier questions got after this one was asked.
        self.next = match self.next {
            Next::Newest(_) if posts.len() >= count && before < settings.history_posts => {
                Next::Before(count)
            }
            _ => Next::Names,
        };
        self.posts.extend(posts);
        if question.root_id.is_empty() && !self.place.direct {
            self.posts.retain(|post| post.root_id.is_empty());
        }
        Ok(())
    }

    /// Whether a person's post may be told.
    fn is_readable(&self, post: &Post, settings: &MattermostSettings) -> bool {
        let channel = settings.channel(&self.place.post.channel_id);
        filter::refuse(post, &self.place.bot, &channel.allowed_users).is_none()
    }

    fn authors(&self, settings: &MattermostSettings) -> BTreeSet<&UserId> {
        let posts = self.posts.iter();
        let posts = posts.filter(|post| self.is_readable(post, settings));
        let posts = posts.chain([&self.place.post]);
        posts.map(|post| &post.user_id).collect()
    }

    fn told(&mut self, settings: &MattermostSettings, names: &Names, clock: &dyn Clock) -> Told {
        let (place, files) = (&self.place, std::mem::take(&mut self.files.texts));
        super::build(&Input {
            posts: &self.posts,
            question: &place.post,
            bot_id: &place.bot.id,
            bot_name: &place.bot.username,
            names: &|id| names.get(id),
            allowed: &|post| self.is_readable(post, settings),
            clean: &|text| mention::without_mention(text, &place.bot.username),
            history_posts: settings.history_posts,
            history_chars: settings.history_chars,
            in_thread: !place.post.root_id.is_empty(),
            channel_name: Some(place.channel_name.as_str())
                .filter(|name| !place.direct && !name.is_empty()),
            system_prompt: settings
                .channel(&place.post.channel_id)
                .system_prompt
                .as_deref(),
            today: &times::date(clock.today()),
            files: &files,
        })
    }
}

/// Remembers people's names.
#[derive(Default)]
pub struct Names {
    /// With the moment at which each was looked up.
    known: HashMap<UserId, (String, Duration)>,
}

impl Names {
    /// Cached usernames at most, and how long each stays valid.
    const COUNT: usize = 1000;
    const AGE: Duration = Duration::from_secs(3600);

    fn get(&self, id: &UserId) -> Option<String> {
        self.known.get(id).map(|(name, _)| name.clone())
    }

    /// Those of `people` that are not known, or not lately, if there are several: who speaks alone is
    /// told without a name.
    fn unknown(&self, people: BTreeSet<&UserId>, now: Duration) -> Vec<UserId> {
        if people.len() < 2 {
            return Vec::new();
        }
        let is_known = |id: &UserId| {
            let known = self.known.get(id);
            known.is_some_and(|(_, since)| now.saturating_sub(*since) < Names::AGE)
        };
        let unknown = people.into_iter().filter(|id| !is_known(id));
        unknown.cloned().collect()
    }

    /// Looks them up. Without a name a person is still told apart by the id.
    fn learn(&mut self, client: &Client, people: &[UserId], now: Duration) {
        if self.known.len() > Names::COUNT {
            self.known.clear();
        }
        match client.users(&people.iter().collect::<Vec<_>>()) {
            Ok(users) => {
                let names = users.into_iter();
                self.known
                    .extend(names.map(|user| (user.id, (user.username, now))));
            }
            Err(error) => debug!("people's names cannot be looked up: {error}"),
        }
    }
}

/// Whether the bot already wrote in the post's thread.
pub fn wrote_in_thread(client: &Client, post: &Post, bot: &User) -> Result<bool, ApiError> {
    let mut count = PAGE;
    loop {
        match client.thread(&post.root_id, count) {
            Err(ApiError::TooLarge) if count > 1 => count /= 2,
            // It was deleted a moment ago, or cannot be read at all.
            Err(error) if error.is_closed() => return Ok(false),
            Err(ApiError::TooLarge) => return Ok(false),
            list => return Ok(list?.posts.iter().any(|post| post.user_id == bot.id)),
        }
    }
}

/// Reads the question's text files, one piece at a time.
#[derive(Default)]
struct FileReader {
    /// How many of the question's files are done with.
    done: usize,
    /// When the first was asked for.
    began: Option<Duration>,
    /// What was read of the next one.
    bytes: Vec<u8>,
    /// In characters.
    used: usize,
    texts: Vec<FileText>,
}

impl FileReader {
    /// Makes at most one request. Whether it made one.
    fn step(&mut self, client: &Client, post: &Post, file_chars: usize, now: Duration) -> bool {
        let files = post.metadata.files.iter().filter(|file| is_text(file));
        let Some(file) = files.clone().nth(self.done) else {
            return false;
        };
        let budget = file_chars - self.used;
        if budget == 0 {
            return false;
        }
        let late = now.saturating_sub(*self.began.get_or_insert(now)) >= FILES_TIME;
        if late {
            for file in files.skip(self.done) {
                self.texts.push(FileText {
                    name: file.name.clone(),
                    text: Err("it could not be read in time".to_owned()),
                });
                self.done += 1;
            }
            return false;
        }
        let (have, wanted) = (self.bytes.len(), budget * 4);
        let piece = (wanted - have).min(PIECE);
        let text = match client.file_piece(&file.id, have as u64, piece) {
            Ok(read) => {
                let total = read.total.unwrap_or(file.size);
                let is_last = read.bytes.len() < piece;
                self.bytes.extend(read.bytes);
                let have = self.bytes.len();
                if !is_last && have < wanted && (have as u64) < total {
                    return true;
                }
                text_of(&std::mem::take(&mut self.bytes), budget)
            }
            Err(error) => {
                debug!("file {} cannot be read: {error}", file.id);
                self.bytes.clear();
                Err("it could not be read".to_owned())
            }
        };
        self.used += text.as_ref().map_or(0, |text| text.chars().count());
        self.texts.push(FileText {
            name: file.name.clone(),
            text,
        });
        self.done += 1;
        true
    }
}

/// At most `budget` characters.
fn text_of(bytes: &[u8], budget: usize) -> Result<String, String> {
    if bytes.contains(&0) {
        return Err("it is not a text file".to_owned());
    }
    let text = String::from_utf8_lossy(bytes);
    Ok(text.chars().take(budget).collect())
}

/// By type, or by the name's ending where the type says nothing.
fn is_text(file: &FileInfo) -> bool {
    const TYPES: [&str; 8] = [
        "application/json",
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/javascript",
        "application/x-sh",
        "application/sql",
    ];
    const ENDINGS: [&str; 40] = [
        "txt", "md", "log", "csv", "tsv", "json", "yaml", "yml", "toml", "xml", "ini", "conf",
        "cfg", "env", "rs", "py", "go", "js", "ts", "tsx", "jsx", "c", "h", "cpp", "hpp", "java",
        "kt", "rb", "php", "pl", "lua", "sh", "bash", "sql", "html", "css", "diff", "patch", "tex",
        "rst",
    ];
    let kind = file.mime_type.split(';').next().unwrap_or_default().trim();
    let ending = file
        .name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    kind.starts_with("text/")
        || TYPES.contains(&kind)
        || ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_files_are_known_by_type_or_ending() {
        let cases = [
            ("notes.txt", "text/plain; charset=utf-8", true),
            ("notes", "text/plain", true),
            ("data.json", "application/json", true),
            ("main.RS", "application/octet-stream", true),
            ("photo.png", "image/png", false),
            ("archive", "application/octet-stream", false),
            ("paper.pdf", "application/pdf", false),
        ];
        for (name, mime_type, expected) in cases {
            let file = FileInfo {
                name: name.into(),
                mime_type: mime_type.into(),
                ..FileInfo::default()
            };
            assert_eq!(is_text(&file), expected, "{name} {mime_type}");
        }
    }
}
