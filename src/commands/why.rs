//! `prx why`: one post, each of the bot's own decisions about it, and the one that decides.

use std::path::Path;

use super::check::Report;
use super::doctor::BELOW;
use super::lookup::{self, Found};
use super::{Exit, connect, print};
use crate::config::{Allowed, Config};
use crate::conversation::{self, Gathering, Names, Place};
use crate::copies::Check;
use crate::desk::turn::Conversation;
use crate::filter::{self, Reason, Verdict};
use crate::inbox::Record;
use crate::limits;
use crate::mattermost::client::{ApiError, Client, unless_closed};
use crate::mattermost::{ChannelId, Post, PostList, ServerTime, User, mention};
use crate::state::{self, Lock};
use crate::times::Times;
use crate::words::Word;

const EDITED: &str = "it seems that it was edited after the bot had passed it";

/// Explains what becomes of the post that `text` names, by id or link.
pub(crate) fn run(config_path: Option<&Path>, text: &str) -> Result<(), Exit> {
    let (config, client) = connect(config_path)?;
    let settings = &config.mattermost;
    let Some(id) = lookup::post_id(text) else {
        return Err(Exit::Config(format!(
            "{text:?} is neither a post's id nor its link (Copy Link in the post's menu)"
        )));
    };
    let me = client.me()?;
    let mut report = Report::new(false);
    let Some(post) = unless_closed(client.post(&id))? else {
        report.fail(
            "seen",
            format!("@{} sees no such post", me.username),
            format!(
                "it was deleted, or is on another server than {}, or in a channel without the bot; there, write:\n  /invite @{}",
                settings.url, me.username
            ),
        );
        return print("\nNot answered: the bot cannot see it.\n");
    };
    let mut why = Why {
        report: &mut report,
        config: &config,
        client: &client,
        me: &me,
        post: &post,
    };
    let verdict = why.explain()?;
    print(&format!("\n{verdict}\n"))
}

/// One of the filter's decisions: its name, which reason it gives, and what is said of a post that
/// passes.
type Step = (&'static str, fn(&Reason) -> bool, String);

struct Why<'a> {
    report: &'a mut Report,
    config: &'a Config,
    client: &'a Client,
    me: &'a User,
    post: &'a Post,
}

impl Why<'_> {
    /// Goes through the decisions in the order in which the bot takes them: the line that decides.
    fn explain(&mut self) -> Result<String, ApiError> {
        self.report
            .ok("seen", format!("@{} can read it", self.me.username));
        // What is answered stays answered, whatever would be decided now.
        let answer = self.answer()?;
        let channel = self.client.channel(&self.post.channel_id)?;
        let channel = lookup::with_team(self.client, channel)?;
        let not_now = match self.explain_channel(&channel)? {
            None => match self.explain_filter(channel.channel.is_direct())? {
                None if answer.is_none() => {
                    match self.explain_copy(channel.channel.is_direct())? {
                        None => self.explain_time(&channel),
                        why_not => why_not,
                    }
                }
                why_not => why_not,
            },
            why_not => why_not,
        };
        if not_now.is_none() {
            self.explain_told(&channel)?;
        }
        Ok(match (answer, not_now) {
            (Some(link), why_not) => {
                self.report.ok("answered", link.clone());
                match why_not {
                    None => format!("Was answered: {link}"),
                    Some(why_not) => {
                        format!("Was answered: {link}\nToday it would not be: {why_not}.")
                    }
                }
            }
            (None, None) => match Lock::look(&self.config.state_path) {
                Ok(()) => "Would be answered, but the bot is not running: start it with `prx run`.",
                Err(_) => "Would be answered: nothing stands against it.",
            }
            .into(),
            (None, Some(why_not)) => format!("Not answered: {why_not}."),
        })
    }

    fn explain_channel(&mut self, found: &Found) -> Result<Option<String>, ApiError> {
        let (bot, title, channel) = (&self.me.username, found.title(), &found.channel);
        if let Some(only) = &self.config.mattermost.channel_id
            && *only != channel.id
        {
            return self.explain_other_channel(found, only.as_str()).map(Some);
        }
        if !self.client.is_member(&channel.id)? {
            self.report.fail(
                "channel",
                format!("@{bot} is not in {title}"),
                format!("write in the channel:\n  /invite @{bot}"),
            );
            return Ok(Some("the bot is not in its channel".into()));
        }
        if channel.delete_at.0 > 0 {
            self.report.fail(
                "channel",
                format!("{title} is archived"),
                "unarchive it (channel menu > Unarchive Channel)",
            );
            return Ok(Some("its channel is archived".into()));
        }
        self.report
            .ok("channel", format!("{title}; @{bot} is in it"));
        Ok(None)
    }

    /// Why the `only` channel of the configuration is not the post's.
    fn explain_other_channel(&mut self, found: &Found, only: &str) -> Result<String, ApiError> {
        let (title, id) = (found.title(), &found.channel.id);
        let is_id = ChannelId::from(only).is_well_formed();
        let named = if is_id {
            Vec::new()
        } else {
            lookup::find_channels(self.client, only)?
        };
        if named.iter().any(|named| named.channel.id == *id) {
            self.report.fail(
                "channel",
                format!("{title} is the channel that channel_id = {only:?} names, but only its id is understood there"),
                format!("{BELOW}\n  channel_id = \"{id}\""),
            );
            return Ok("channel_id has this channel's name, where its id belongs".into());
        }
        self.report.fail(
            "channel",
            format!("{title} is not the one channel of the configuration"),
            format!(
                "to answer there, delete the line channel_id, or write:\n  channel_id = \"{id}\""
            ),
        );
        Ok("the bot answers in another channel only (channel_id)".into())
    }

    /// The filter's verdict, and all that it let pass before.
    fn explain_filter(&mut self, direct: bool) -> Result<Option<String>, ApiError> {
        let (post, settings) = (self.post, &self.config.mattermost);
        let verdict = match filter::verdict(post, direct, self.me, settings) {
            Verdict::IfFollowed if conversation::wrote_in_thread(self.client, post, self.me)? => {
                Verdict::Answer
            }
            Verdict::IfFollowed => Verdict::Ignore(Reason::NotAddressed),
            verdict => verdict,
        };
        let reason = match verdict {
            Verdict::Ignore(reason) => Some(reason),
            _ => None,
        };
        for (name, decides, passed) in self.filter_steps(direct)? {
            match &reason {
                Some(reason) if decides(reason) => {
                    self.report.fail(name, reason.to_string(), self.fix(reason));
                    return Ok(Some(reason.to_string()));
                }
                _ => self.report.ok(name, passed),
            }
        }
        Ok(self.explain_word(verdict))
    }

    /// What becomes of a command, if the post is one. Where that is no more than a reaction, this is
    /// why there is no answer.
    fn explain_word(&mut self, verdict: Verdict) -> Option<String> {
        let Verdict::Word(word) = verdict else {
            return None;
        };
        let name = word.name();
        let said = match word {
            Word::Help | Word::Model => "a post that no model writes",
            Word::New | Word::Stop => "a reaction alone",
        };
        let what = format!("it is the command `{name}` (chat_commands), which gets {said}");
        self.report.ok("command", what.clone());
        matches!(word, Word::New | Word::Stop).then_some(what)
    }

    /// Whether the post came from another channel, and its answer with it.
    fn explain_copy(&mut self, direct: bool) -> Result<Option<String>, ApiError> {
        let (post, me, settings) = (self.post, self.me, &self.config.mattermost);
        if post.root_id.is_empty() && post.reply_count == 0 {
            return Ok(None);
        }
        let is_question = |post: &Post| {
            let verdict = filter::verdict(post, direct, me, settings);
            !matches!(verdict, Verdict::Ignore(_))
        };
        let mut check = Check::default();
        let compared = loop {
            if let Some(compared) = check.step(self.client, post, &me.id, &is_question)? {
                break compared;
            }
        };
        if !compared.is_copy(&post.id) {
            return Ok(None);
        }
        self.report.fail(
            "copy",
            "it is a copy of a thread that was moved here, and its answer came along",
            "to ask it again, write a new message",
        );
        Ok(Some(
            "it is a copy of a thread that was moved here, with its answer".into(),
        ))
    }

    /// The filter's decisions in its order: their names, which reason each gives, and what is said of
    /// a post that passes.
    fn filter_steps(&self, direct: bool) -> Result<[Step; 6], ApiError> {
        let (post, settings) = (self.post, &self.config.mattermost);
        let author = self.client.users(&[&post.user_id])?.into_iter().next();
        let author = author.map_or(post.user_id.to_string(), |author| {
            format!("@{}", author.username)
        });
        let allowed = match settings.channel(&post.channel_id).allowed_users {
            Allowed::Everybody => "everybody is".to_owned(),
            Allowed::These(_) => format!("{author} is in allowed_users"),
        };
        let person = "a person's message".to_owned();
        let no_program = "not a bot's, a webhook's or a plugin's".to_owned();
        Ok([
            ("deleted", |r| matches!(r, Reason::Deleted), "no".into()),
            ("written by", |r| matches!(r, Reason::Own), author),
            ("kind", |r| matches!(r, Reason::NotAMessage), person),
            ("program", |r| matches!(r, Reason::Automated(_)), no_program),
            ("allowed", |r| matches!(r, Reason::NotAllowed), allowed),
            (
                "mentioned",
                |r| matches!(r, Reason::NotAddressed),
                self.addressed(direct),
            ),
        ])
    }

    /// Why a post that is answered counts as one for the bot.
    fn addressed(&self, direct: bool) -> String {
        let (post, settings) = (self.post, &self.config.mattermost);
        if direct {
            "not needed in a direct channel".to_owned()
        } else if let Some(word) = mention::mention(&post.message, &self.me.username) {
            format!("by {word:?}")
        } else if !settings.channel(&post.channel_id).mention_only {
            "not needed: mention_only is off".to_owned()
        } else {
            "not needed: the bot already wrote in this thread (follow_threads)".to_owned()
        }
    }

    /// What to change so that such a post is answered.
    fn fix(&self, reason: &Reason) -> String {
        let bot = &self.me.username;
        match reason {
            Reason::Deleted => "nothing: what is deleted stays so".into(),
            Reason::Own => "nothing: a bot that answers itself never ends".into(),
            Reason::NotAMessage | Reason::Automated(_) => {
                "nothing: only what people write is answered, so that programs do not talk for ever"
                    .into()
            }
            Reason::NotAllowed => format!(
                "add the id to allowed_users, and write the message again:\n  \"{}\"",
                self.post.user_id
            ),
            Reason::NotAddressed => format!(
                "write @{bot} in the message (not in code or a link's address), or:\n  mention_only = false"
            ),
        }
    }

    /// What the model is told with the post: how much of what was said before, and each file and
    /// quotation.
    fn explain_told(&mut self, found: &Found) -> Result<(), ApiError> {
        let mut gathering = Gathering::new(Place {
            post: self.post.clone(),
            bot: self.me.clone(),
            direct: found.channel.is_direct(),
            channel_name: found.title(),
            alone: false,
            begins: self.begins(found.channel.is_direct()),
        });
        let (mut names, clock) = (Names::default(), Times::default().clock);
        let told = loop {
            let settings = &self.config.mattermost;
            let step = gathering.step(self.client, settings, &mut names, &*clock);
            match unless_closed(step)? {
                Some(Some(told)) => break told,
                Some(None) => {}
                // What cannot be read now may be read by the bot.
                None => return Ok(()),
            }
        };
        let earlier = told.messages.len().saturating_sub(2);
        if earlier > 0 {
            self.report
                .ok("told", format!("earlier messages: {earlier}"));
        }
        for what in told.belongings {
            self.report.ok("told", what);
        }
        Ok(())
    }

    /// Up to when what was said in the post's conversation is not told any more.
    fn begins(&self, direct: bool) -> ServerTime {
        let settings = self.config.mattermost.channel(&self.post.channel_id);
        let conversation = Conversation::of(self.post, direct, settings.thread_replies);
        let state = state::peek(&self.config.state_path);
        let state = state.filter(|state| state.bot == self.me.id);
        state.map_or(ServerTime(0), |state| {
            state.models.begins(conversation.key())
        })
    }

    /// Where the bot's reading stands, by its state file.
    fn explain_time(&mut self, found: &Found) -> Option<String> {
        let path = &self.config.state_path;
        let scope = self
            .config
            .mattermost
            .channel_id
            .clone()
            .unwrap_or_default();
        let state = state::peek(path).filter(|state| state.bot == self.me.id && state.begun);
        let Some(state) = state.filter(|state| state.scope == scope) else {
            self.report.fail(
                "in time",
                "the bot has not run yet with this configuration; what was written before its first run is history",
                "start it, and write the message again:\n  prx run",
            );
            return Some("the bot has not run yet".into());
        };
        let (post, title) = (self.post, found.title());
        let Some(channel) = state.channels.get(&post.channel_id) else {
            self.report.warn(
                "in time",
                format!("the bot has not looked at {title} since it came in"),
                "is it running? This tells:\n  prx channel doctor",
            );
            return None;
        };
        if post.create_at <= channel.floor {
            self.report.fail(
                "in time",
                format!("it is older than the bot's first look at {title}, or its coming into it"),
                "write the message again: history is never answered",
            );
            return Some("it is from before the bot's first look at the channel".into());
        }
        if let Some(answer) = state.answers.get(&post.id) {
            let how = match (&answer.draft, answer.attempts) {
                (Some(_), _) => "its answer is made and is being posted".to_owned(),
                (None, 0) => "it is being answered".to_owned(),
                (None, deaths) => format!("it is being answered (attempt {})", deaths + 1),
            };
            self.report.ok("in time", how);
            return None;
        }
        let below = channel.mark.before(Times::default().window);
        if channel.handled.contains_key(&post.id) || post.create_at <= below {
            return Some(if self.is_put_off() {
                self.explain_limit()
            } else {
                self.explain_passed()
            });
        }
        self.explain_age()
    }

    /// Whether a post that the bot has not read yet will be too old when it is.
    fn explain_age(&mut self) -> Option<String> {
        let catch_up = self.config.mattermost.catch_up_secs;
        let oldest = self.client.date_ms().unwrap_or_default();
        let oldest = ServerTime(oldest.saturating_sub(catch_up.saturating_mul(1000)));
        if self.post.create_at < oldest {
            self.report.fail(
                "in time",
                format!("it is older than {catch_up} s (catch_up_secs)"),
                "write the message again, or raise catch_up_secs",
            );
            return Some("it is too old (catch_up_secs)".into());
        }
        self.report
            .ok("in time", "it is newer than what the bot has read");
        None
    }

    /// Whether the bot marked the post as one over a daily limit.
    fn is_put_off(&self) -> bool {
        let reactions = self.client.reactions_of(&self.post.id);
        reactions.is_ok_and(|reactions| {
            let mut reactions = reactions.iter();
            reactions.any(|it| it.user_id == self.me.id && it.emoji_name == limits::LATER)
        })
    }

    fn explain_limit(&mut self) -> String {
        self.report.fail(
            "in time",
            "a daily limit was reached (daily_limit, daily_limit_all): it got a reaction alone",
            "write the message again after 00:00 UTC, or raise the limit",
        );
        "a daily limit was reached".into()
    }

    /// Why a post that the bot has been past was not answered though it would be now.
    fn explain_passed(&mut self) -> String {
        if self.post.edit_at.0 > 0 {
            self.report.fail(
                "in time",
                format!("{EDITED}: what it said before was not for the bot, and an edited message is not a new one"),
                "write a new message",
            );
            return EDITED.into();
        }
        self.report.fail(
            "in time",
            "the bot has been past it and did not answer it: it decided otherwise then, or the answer was dropped",
            "write the message again; its log has the reason (`prx -v` says more)",
        );
        "the bot has been past it already".into()
    }

    /// A link to the answer, if all of it is there.
    fn answer(&self) -> Result<Option<String>, ApiError> {
        let (post, bot) = (self.post, &self.me.id);
        let channel = &post.channel_id;
        let posted = Record::since(self.client, bot, channel, &post.id, post.create_at)?;
        if posted.parts(&post.id).is_empty() {
            return Ok(None);
        }
        let since = ServerTime(post.create_at.0.saturating_sub(1).max(1));
        let mut posts = self.posts(self.client.posts_since(&post.channel_id, since))?;
        let root = if post.root_id.is_empty() {
            &post.id
        } else {
            &post.root_id
        };
        posts.extend(self.posts(self.client.thread(root, 200))?);
        if !Record::of(&posts, bot).is_whole(&post.id) {
            return Ok(None);
        }
        let first = posts.iter().find(|own| {
            let prx = own.props.prx.as_ref();
            own.user_id == *bot
                && prx.is_some_and(|prx| prx.in_reply_to == post.id && prx.part == 0)
        });
        let url = &self.config.mattermost.url;
        Ok(first.map(|first| format!("{url}/_redirect/pl/{}", first.id)))
    }

    /// The posts of the list; none if it is too large or closed to the bot.
    fn posts(&self, list: Result<PostList, ApiError>) -> Result<Vec<Post>, ApiError> {
        match unless_closed(list) {
            Err(ApiError::TooLarge) => Ok(Vec::new()),
            list => Ok(list?.unwrap_or_default().posts),
        }
    }
}
