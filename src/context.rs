//! Fetches what a conversation is built from: the history around a post, names, the files' texts.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use log::debug;

use crate::config::MattermostSettings;
use crate::conversation::{self, FileText, Input};
use crate::filter;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{FileInfo, Post, PostId, User, UserId, mention};
use crate::provider::Message;

/// So many people's names are remembered, and so long.
const NAMES: usize = 1000;
const NAME_AGE: Duration = Duration::from_secs(3600);
/// The most posts that are asked for at once.
const PAGE: usize = 200;

/// Remembers people's names.
#[derive(Default)]
pub struct Context {
    /// With the moment at which each was looked up.
    names: HashMap<UserId, (String, Duration)>,
}

/// The post to answer, and where it stands.
pub struct Place<'a> {
    pub post: &'a Post,
    pub bot: &'a User,
    pub direct: bool,
    pub channel_name: &'a str,
    /// What was said before cannot be read.
    pub alone: bool,
    /// By the clock of `Times`.
    pub now: Duration,
}

impl Context {
    /// The messages for the model that end with the post to answer. `today`: as `2026-11-22`.
    pub fn gather(
        &mut self,
        client: &Client,
        settings: &MattermostSettings,
        place: &Place,
        today: &str,
    ) -> Result<Vec<Message>, ApiError> {
        let channel = settings.channel(&place.post.channel_id);
        let posts = history(client, settings, place)?;
        let readable =
            |post: &Post| filter::refuse(post, place.bot, &channel.allowed_users).is_none();
        let read = posts.iter().filter(|post| readable(post));
        self.learn_names(client, read.chain([place.post]), place.now);
        let files = read_files(client, &place.post.metadata.files, settings.file_chars);
        Ok(conversation::build(&Input {
            posts: &posts,
            question: place.post,
            bot_id: &place.bot.id,
            bot_name: &place.bot.username,
            names: &|id| self.names.get(id).map(|(name, _)| name.clone()),
            allowed: &readable,
            clean: &|text| mention::without_mention(text, &place.bot.username),
            history_posts: settings.history_posts,
            history_chars: settings.history_chars,
            in_thread: !place.post.root_id.is_empty(),
            channel_name: Some(place.channel_name).filter(|name| !place.direct && !name.is_empty()),
            system_prompt: channel.system_prompt.as_deref(),
            today,
            files: &files,
        }))
    }

    /// Looks up the authors that are not known, or not lately, if there are several. Without a name a
    /// person is still told apart by the id.
    fn learn_names<'a>(
        &mut self,
        client: &Client,
        posts: impl Iterator<Item = &'a Post>,
        now: Duration,
    ) {
        let people: BTreeSet<&UserId> = posts.map(|post| &post.user_id).collect();
        if people.len() < 2 {
            return;
        }
        let known = |id: &UserId| {
            let known = self.names.get(id);
            known.is_some_and(|(_, since)| now.saturating_sub(*since) < NAME_AGE)
        };
        let unknown: Vec<&UserId> = people.into_iter().filter(|id| !known(id)).collect();
        if unknown.is_empty() {
            return;
        }
        if self.names.len() > NAMES {
            self.names.clear();
        }
        match client.users(&unknown) {
            Ok(users) => self.names.extend(
                users
                    .into_iter()
                    .map(|user| (user.id, (user.username, now))),
            ),
            Err(error) => debug!("people's names cannot be looked up: {error}"),
        }
    }
}

/// Whether the bot already wrote in the post's thread.
pub fn wrote_in_thread(client: &Client, post: &Post, bot: &User) -> Result<bool, ApiError> {
    match thread(client, &post.root_id, PAGE) {
        // It was deleted a moment ago.
        Err(error) if error.is_closed() => Ok(false),
        posts => Ok(posts?.iter().any(|post| post.user_id == bot.id)),
    }
}

/// What was said before: the thread, or the direct channel, or, where answers are not in threads, the
/// channel's top-level posts.
fn history(
    client: &Client,
    settings: &MattermostSettings,
    place: &Place,
) -> Result<Vec<Post>, ApiError> {
    let post = place.post;
    if settings.history_posts == 0 || place.alone {
        return Ok(Vec::new());
    }
    // Some of what comes will be left out: parts of one answer, posts that may not be read.
    let count = (settings.history_posts * 2).clamp(20, PAGE);
    if !post.root_id.is_empty() {
        return thread(client, &post.root_id, count);
    }
    let threaded = settings.channel(&post.channel_id).thread_replies;
    if threaded && !place.direct {
        return Ok(Vec::new());
    }
    // The newest page has the answers, too, that earlier questions got after this one was asked.
    let mut posts = smaller(count, |count| {
        Ok(client.posts_page(&post.channel_id, 0, count)?.posts)
    })?;
    let before = posts
        .iter()
        .filter(|other| other.create_at < post.create_at);
    if posts.len() >= count && before.count() < settings.history_posts {
        posts.extend(smaller(count, |count| {
            Ok(client
                .posts_before(&post.channel_id, &post.id, count)?
                .posts)
        })?);
    }
    if !place.direct {
        posts.retain(|post| post.root_id.is_empty());
    }
    Ok(posts)
}

fn thread(client: &Client, root: &PostId, count: usize) -> Result<Vec<Post>, ApiError> {
    smaller(count, |count| Ok(client.thread(root, count)?.posts))
}

/// Asks for fewer posts while they are over the bound. What is too large even so is left out.
fn smaller(
    mut count: usize,
    ask: impl Fn(usize) -> Result<Vec<Post>, ApiError>,
) -> Result<Vec<Post>, ApiError> {
    loop {
        match ask(count) {
            Err(ApiError::TooLarge) if count > 1 => count /= 2,
            Err(ApiError::TooLarge) => return Ok(Vec::new()),
            result => return result,
        }
    }
}

/// The text files among `files`, `budget` characters of them in all.
fn read_files(client: &Client, files: &[FileInfo], mut budget: usize) -> Vec<FileText> {
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| is_text(file)) {
        if budget == 0 {
            break;
        }
        let text = match client.file(&file.id, budget * 4) {
            Ok(bytes) if bytes.contains(&0) => Err("it is not a text file".to_owned()),
            Ok(bytes) => {
                let text: String = String::from_utf8_lossy(&bytes)
                    .chars()
                    .take(budget)
                    .collect();
                budget -= text.chars().count();
                Ok(text)
            }
            Err(error) => {
                debug!("file {} cannot be read: {error}", file.id);
                Err("it could not be read".to_owned())
            }
        };
        texts.push(FileText {
            name: file.name.clone(),
            text,
        });
    }
    texts
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
