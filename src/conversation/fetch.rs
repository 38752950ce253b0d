//! Gathers what a conversation is built from, one request to Mattermost at a time: the history around
//! a post, the names of those who speak, the files' texts.

use super::files::{Limits, Reader};
use super::names::Names;
use super::quote;
use super::words::without_words;
use super::{Conversation, Enclosure, Input, Scene, choose, date};
use crate::config::MattermostSettings;
use crate::filter;
use crate::mattermost::client::{ApiError, Client, paged};
use crate::mattermost::{Post, PostList, ServerTime, User, UserId, mention};
use crate::provider::Message;
use crate::sorted::Set;
use crate::times::Clock;

/// The most posts that are asked for at once.
const PAGE: usize = 200;

/// The post to answer, and where it stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// The post.
    pub post: Post,
    /// The bot's own account.
    pub bot: User,
    /// Its channel is a direct one.
    pub direct: bool,
    /// As people see it; empty: it is not told.
    pub channel_name: String,
    /// What was said before cannot be read: the question is told alone.
    pub alone: bool,
    /// What was said up to then is not told; 0: all may be.
    pub begins: ServerTime,
}

/// What the model is told.
#[derive(Debug)]
pub struct Told {
    /// The system's message, what was said before, and last the question.
    pub messages: Vec<Message>,
    /// The messages of people begin with their names.
    pub several_speakers: bool,
    /// What the messages' `images` name, for `Feeding`.
    pub enclosures: Vec<Enclosure>,
    /// For people: how much of what was said before is told, and who said it.
    pub before: String,
    /// For people: a line for each file and quotation that belongs to the messages.
    pub belongings: Vec<String>,
}

/// What is gathered for one question. It is moved on by `step`, so that the loop can do other things
/// between two requests.
pub struct Gathering {
    place: Place,
    next: Next,
    posts: Vec<Post>,
}

/// What is to be asked for next.
enum Next {
    History,
    /// So many.
    Posts(Source, usize),
    Names,
    Files(Conversation, Box<Reader>),
    Nothing,
}

/// Which posts are read.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Thread,
    /// Those of the channel.
    Newest,
    /// Those of the channel before the question.
    Before,
}

impl Gathering {
    /// Begins; nothing is asked for yet.
    pub fn new(place: Place) -> Gathering {
        Gathering {
            place,
            next: Next::History,
            posts: Vec::new(),
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
        if let Next::History = self.next {
            self.next = self.history(settings);
        }
        if let Next::Posts(from, count) = self.next {
            let (post, channel) = (&self.place.post, &self.place.post.channel_id);
            let list = match from {
                Source::Thread => client.thread(&post.root_id, count),
                Source::Newest => client.posts_page(channel, 0, count),
                Source::Before => client.posts_before(channel, &post.id, count),
            };
            self.take(list, from, count, settings)?;
            return Ok(None);
        }
        if let Next::Names = self.next {
            let unknown = names.unknown(self.authors(settings), clock.now());
            if !unknown.is_empty() {
                names.learn(client, &unknown, clock.now());
            }
            self.next = self.choose(settings, names);
            if !unknown.is_empty() {
                return Ok(None);
            }
        }
        if let Next::Files(_, reader) = &mut self.next
            && reader.step(client, clock.now())
        {
            return Ok(None);
        }
        Ok(match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Files(conversation, reader) => {
                Some(self.told(conversation, reader, settings, clock))
            }
            _ => None,
        })
    }

    /// Where what was said before is to be read: in the thread; or the direct channel; or, where
    /// answers are not in threads or what opens one is to be told what was said before, the channel's
    /// top-level posts.
    fn history(&self, settings: &MattermostSettings) -> Next {
        let wanted = self.history_posts(settings);
        // Some of what comes will be left out: parts of one answer, posts that may not be read.
        let count = (wanted * 2).clamp(20, PAGE);
        if wanted == 0 || self.place.alone {
            Next::Names
        } else if self.place.post.root_id.is_empty() {
            Next::Posts(Source::Newest, count)
        } else {
            Next::Posts(Source::Thread, count)
        }
    }

    /// How many posts before the question are told at most.
    fn history_posts(&self, settings: &MattermostSettings) -> usize {
        let Place { post, direct, .. } = &self.place;
        let threaded = settings.channel(&post.channel_id).thread_replies;
        if !threaded || *direct || !post.root_id.is_empty() {
            return settings.history_posts;
        }
        let is_bare = choose::is_bare(post, &|text| self.clean(text));
        let said_before = if is_bare { settings.history_posts } else { 0 };
        said_before.max(settings.channel_context)
    }

    /// Takes a list of posts, `count` at most, or asks for fewer while they are over the bound. What
    /// is too large even so is left out.
    fn take(
        &mut self,
        list: Result<PostList, ApiError>,
        from: Source,
        count: usize,
        settings: &MattermostSettings,
    ) -> Result<(), ApiError> {
        let posts = match list {
            Err(ApiError::TooLarge) if count > 1 => {
                self.next = Next::Posts(from, count / 2);
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
        let is_full = posts.len() >= count;
        self.next = if from == Source::Newest && is_full && before < self.history_posts(settings) {
            Next::Posts(Source::Before, count)
        } else {
            Next::Names
        };
        self.posts.extend(posts);
        if question.root_id.is_empty() && !self.place.direct {
            self.posts.retain(|post| post.root_id.is_empty());
        }
        Ok(())
    }

    fn clean(&self, text: &str) -> String {
        mention::without_mention(text, &self.place.bot.username)
    }

    /// Whether programs' posts are told: only in the thread in which somebody asks.
    fn reads_programs(&self, settings: &MattermostSettings) -> bool {
        settings.read_programs && !self.place.post.root_id.is_empty()
    }

    /// Whose names are needed: people's if several speak, and those of all who are quoted.
    fn authors(&self, settings: &MattermostSettings) -> Set<&UserId> {
        let channel = settings.channel(&self.place.post.channel_id);
        let is_persons =
            |post: &&Post| filter::refuse(post, &self.place.bot, &channel.allowed_users).is_none();
        let posts = || {
            self.posts
                .iter()
                .filter(is_persons)
                .chain([&self.place.post])
        };
        let mut people: Set<&UserId> = posts().map(|post| &post.user_id).collect();
        if people.len() < 2 {
            people = Set::new();
        }
        let linked = posts().flat_map(|post| &post.metadata.linked);
        people.extend(linked.map(|post| &post.user_id));
        if self.reads_programs(settings) {
            let programs = self.posts.iter().filter(|post| quote::may_be_program(post));
            people.extend(programs.map(|post| &post.user_id));
        }
        people.remove(&self.place.bot.id);
        people
    }

    fn choose(&mut self, settings: &MattermostSettings, names: &Names) -> Next {
        let (place, posts) = (&self.place, std::mem::take(&mut self.posts));
        let word = |post: &Post| filter::earlier_word(post, place.direct, &place.bot, settings);
        let begins = if settings.chat_commands {
            place.begins
        } else {
            ServerTime(0)
        };
        let posts = without_words(posts, &place.post, &place.bot.id, begins, &word);
        let channel = settings.channel(&place.post.channel_id);
        let is_trusted = |id: &UserId| names.is_trusted(id);
        let author =
            |post: &Post| quote::author(post, &place.bot, &channel.allowed_users, &is_trusted);
        let conversation = choose::choose(&Input {
            posts: &posts,
            question: &place.post,
            bot_id: &place.bot.id,
            names: &|id| names.get(id),
            author: &author,
            read_programs: settings.read_programs,
            clean: &|text| self.clean(text),
            history_posts: self.history_posts(settings),
            history_chars: settings.history_chars,
        });
        let (files, of_question) = conversation.files();
        let limits = Limits {
            file_chars: settings.file_chars,
            max_images: settings.max_images,
            max_image_size: settings.max_image_size,
            programs: settings.read_files.clone(),
        };
        Next::Files(
            conversation,
            Box::new(Reader::new(files, of_question, limits)),
        )
    }

    fn told(
        &self,
        conversation: Conversation,
        reader: Box<Reader>,
        settings: &MattermostSettings,
        clock: &dyn Clock,
    ) -> Told {
        let place = &self.place;
        let channel = settings.channel(&place.post.channel_id);
        let scene = Scene {
            bot_name: &place.bot.username,
            channel_name: Some(place.channel_name.as_str())
                .filter(|name| !place.direct && !name.is_empty()),
            system_prompt: channel.system_prompt.as_deref(),
            today: &date::today(clock.today()),
        };
        conversation.told(&scene, reader.shown())
    }
}

/// Whether the bot already wrote in the post's thread.
pub fn wrote_in_thread(client: &Client, post: &Post, bot: &User) -> Result<bool, ApiError> {
    let mut count = PAGE;
    match paged(&mut count, |count| client.thread(&post.root_id, count)) {
        // It was deleted a moment ago, or cannot be read at all.
        Err(error) if error.is_closed() => Ok(false),
        Err(ApiError::TooLarge) => Ok(false),
        list => Ok(list?.posts.iter().any(|post| post.user_id == bot.id)),
    }
}
