//! `prx why`: one post, each of the bot's own decisions about it, and the one that decides.

use std::path::Path;

use super::check::Report;
use super::doctor::BELOW;
use super::lookup::{self, Found, at_name};
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
use crate::state::{self, Lock, State};
use crate::times::Times;
use crate::words::Word;

/// Explains what becomes of the post that `text` names, by id or link.
#[inline(never)]
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
            &format!("@{} sees no such post", me.username),
            &format!(
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

/// What the bot posted for a post.
struct Answer {
    /// To its first part.
    link: String,
    /// What is said in place of an answer, or of its rest; empty: it is an answer.
    apology: String,
}

/// Why the decisions end before the last one.
enum Stop {
    /// The post is not answered for this reason, which the report has.
    Against(String),
    Api(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Stop {
        Stop::Api(error)
    }
}

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
            .ok("seen", &format!("@{} can read it", self.me.username));
        // What is answered stays answered, whatever would be decided now.
        let answer = self.answer()?;
        let channel = self.client.channel(&self.post.channel_id)?;
        let channel = lookup::with_team(self.client, channel)?;
        let against = match self.decide(&channel, answer.is_some()) {
            Ok(()) => None,
            Err(Stop::Against(why)) => Some(why),
            Err(Stop::Api(error)) => return Err(error),
        };
        if against.is_none() {
            self.explain_told(&channel)?;
        }
        let had = answer.as_ref().map_or(String::new(), |answer| {
            self.explain_answer(answer, &channel)
        });
        Ok(match (answer, against) {
            (Some(_), None) => had,
            (Some(_), Some(why)) => format!("{had}\nToday it would get no answer: {why}."),
            (None, Some(why)) => format!("Not answered: {why}."),
            (None, None) => match Lock::look(&self.config.state_path) {
                Ok(()) => "Would be answered, but the bot is not running: start it with `prx run`.",
                Err(_) => "Would be answered: nothing stands against it.",
            }
            .into(),
        })
    }

    /// Reports what was posted: the answer, what a command asked for, or an apology.
    fn explain_answer(&mut self, answer: &Answer, channel: &Found) -> String {
        let (post, direct) = (self.post, channel.channel.is_direct());
        let verdict = filter::verdict(post, direct, self.me, &self.config.mattermost);
        let Answer { link, apology } = answer;
        if apology.is_empty() || matches!(verdict, Verdict::Word(_)) {
            self.report.ok("answered", link);
            return format!("Was answered: {link}");
        }
        let fix = format!("the bot's log says more, in the lines with {}", post.id);
        self.report
            .warn("answered", &format!("with an apology: {apology}"), &fix);
        format!("Got an apology in place of an answer: {link}")
    }

    fn decide(&mut self, channel: &Found, is_answered: bool) -> Result<(), Stop> {
        let direct = channel.channel.is_direct();
        self.explain_channel(channel)?;
        self.explain_filter(direct)?;
        if is_answered {
            return Ok(());
        }
        self.explain_copy(direct)?;
        self.explain_time(channel)
    }

    /// Reports the decision that is against the post. `why`: the same as the end of a sentence.
    fn against(
        &mut self,
        check: &'static str,
        detail: &str,
        fix: &str,
        why: &str,
    ) -> Result<(), Stop> {
        self.report.fail(check, detail, fix);
        Err(Stop::Against(why.into()))
    }

    fn explain_channel(&mut self, found: &Found) -> Result<(), Stop> {
        let (bot, title, channel) = (&self.me.username, found.title(), &found.channel);
        if let Some(only) = &self.config.mattermost.channel_id
            && *only != channel.id
        {
            return self.explain_other_channel(found, only.as_str());
        }
        if !self.client.is_member(&channel.id)? {
            return self.against(
                "channel",
                &format!("@{bot} is not in {title}"),
                &format!("write in the channel:\n  /invite @{bot}"),
                "the bot is not in its channel",
            );
        }
        if channel.delete_at.0 > 0 {
            return self.against(
                "channel",
                &format!("{title} is archived"),
                "unarchive it (channel menu > Unarchive Channel)",
                "its channel is archived",
            );
        }
        self.report
            .ok("channel", &format!("{title}; @{bot} is in it"));
        Ok(())
    }

    /// Why the `only` channel of the configuration is not the post's.
    fn explain_other_channel(&mut self, found: &Found, only: &str) -> Result<(), Stop> {
        let (title, id) = (found.title(), &found.channel.id);
        let is_it = |named: &Found| named.channel.id == *id;
        let is_id = ChannelId::from(only).is_well_formed();
        if !is_id && lookup::find_channels(self.client, only)?.iter().any(is_it) {
            return self.against(
                "channel",
                &format!("{title} is the channel that channel_id = {only:?} names, but only its id is understood there"),
                &format!("{BELOW}\n  channel_id = \"{id}\""),
                "channel_id has this channel's name, where its id belongs",
            );
        }
        self.against(
            "channel",
            &format!("{title} is not the one channel of the configuration"),
            &format!(
                "to answer there, delete the line channel_id, or write:\n  channel_id = \"{id}\""
            ),
            "the bot answers in another channel only (channel_id)",
        )
    }

    /// The filter's verdict, and all that it let pass before.
    fn explain_filter(&mut self, direct: bool) -> Result<(), Stop> {
        let (post, settings) = (self.post, &self.config.mattermost);
        let verdict = match filter::verdict(post, direct, self.me, settings) {
            Verdict::IfFollowed if conversation::wrote_in_thread(self.client, post, self.me)? => {
                Verdict::Answer
            }
            Verdict::IfFollowed => Verdict::Ignore(Reason::NotAddressed),
            verdict => verdict,
        };
        let against = match &verdict {
            Verdict::Ignore(reason) => Some((self.decision(reason), reason.to_string())),
            _ => None,
        };
        for (name, passed) in self.passed(direct)? {
            match &against {
                Some(((decision, fix), reason)) if *decision == name => {
                    return self.against(name, reason, fix, reason);
                }
                _ => self.report.ok(name, &passed),
            }
        }
        match verdict {
            Verdict::Word(word) => self.explain_word(word),
            _ => Ok(()),
        }
    }

    /// What becomes of a command. Where that is no more than a reaction, this is why there is no answer.
    fn explain_word(&mut self, word: Word) -> Result<(), Stop> {
        let name = word.name();
        let is_posted = matches!(word, Word::Help | Word::Model);
        let said = if is_posted {
            "a post that no model writes"
        } else {
            "a reaction alone"
        };
        let what = format!("it is the command `{name}` (chat_commands), which gets {said}");
        self.report.ok("command", &what);
        if is_posted {
            return Ok(());
        }
        Err(Stop::Against(what))
    }

    /// Whether the post came from another channel, and its answer with it.
    fn explain_copy(&mut self, direct: bool) -> Result<(), Stop> {
        let (post, me, settings) = (self.post, self.me, &self.config.mattermost);
        if post.root_id.is_empty() && post.reply_count == 0 {
            return Ok(());
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
            return Ok(());
        }
        self.against(
            "copy",
            "it is a copy of a thread that was moved here, and its answer came along",
            "to ask it again, write a new message",
            "it is a copy of a thread that was moved here, with its answer",
        )
    }

    /// The filter's decisions in its order: their names, and what is said of a post that passes.
    fn passed(&self, direct: bool) -> Result<[(&'static str, String); 6], ApiError> {
        let (post, settings) = (self.post, &self.config.mattermost);
        let author = at_name(&post.user_id, &self.client.users(&[&post.user_id])?);
        let allowed = match settings.channel(&post.channel_id).allowed_users {
            Allowed::Everybody => "everybody is".to_owned(),
            Allowed::These(_) => format!("{author} is in allowed_users"),
        };
        Ok([
            ("deleted", "no".into()),
            ("written by", author),
            ("kind", "a person's message".into()),
            ("program", "not a bot's, a webhook's or a plugin's".into()),
            ("allowed", allowed),
            ("mentioned", self.addressed(direct)),
        ])
    }

    /// The name of the decision that gives this reason, and what to change so that such a post is
    /// answered.
    fn decision(&self, reason: &Reason) -> (&'static str, String) {
        const ONLY_PEOPLE: &str =
            "nothing: only what people write is answered, so that programs do not talk for ever";
        let (bot, author) = (&self.me.username, &self.post.user_id);
        match reason {
            Reason::Deleted => ("deleted", "nothing: what is deleted stays so".into()),
            Reason::Own => (
                "written by",
                "nothing: a bot that answers itself never ends".into(),
            ),
            Reason::NotAMessage => ("kind", ONLY_PEOPLE.into()),
            Reason::Automated(_) => ("program", ONLY_PEOPLE.into()),
            Reason::NotAllowed => (
                "allowed",
                format!(
                    "add the id to allowed_users, and write the message again:\n  \"{author}\""
                ),
            ),
            Reason::NotAddressed => (
                "mentioned",
                format!(
                    "write @{bot} in the message (not in code or a link's address), or:\n  mention_only = false"
                ),
            ),
        }
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
        for what in [told.before].iter().chain(&told.belongings) {
            self.report.ok("told", what);
        }
        Ok(())
    }

    /// Up to when what was said in the post's conversation is not told any more.
    fn begins(&self, direct: bool) -> ServerTime {
        let settings = self.config.mattermost.channel(&self.post.channel_id);
        let conversation = Conversation::of(self.post, direct, settings.thread_replies);
        self.state().map_or(ServerTime(0), |state| {
            state.models.begins(conversation.key())
        })
    }

    /// What this bot's state file has.
    fn state(&self) -> Option<State> {
        state::peek(&self.config.state_path).filter(|state| state.bot == self.me.id)
    }

    /// Where the bot's reading stands, by its state file.
    fn explain_time(&mut self, found: &Found) -> Result<(), Stop> {
        let (post, title) = (self.post, found.title());
        let scope = self.config.mattermost.scope();
        let state = self
            .state()
            .filter(|state| state.begun && state.scope == scope);
        let Some(state) = state else {
            return self.against(
                "in time",
                "the bot has not run yet with this configuration; what was written before its first run is history",
                "start it, and write the message again:\n  prx run",
                "the bot has not run yet",
            );
        };
        let Some(channel) = state.channels.get(&post.channel_id) else {
            self.report.warn(
                "in time",
                &format!("the bot has not looked at {title} since it came in"),
                "is it running? This tells:\n  prx channel doctor",
            );
            return Ok(());
        };
        if post.create_at <= channel.floor {
            return self.against(
                "in time",
                &format!("it is older than the bot's first look at {title}, or its coming into it"),
                "write the message again: history is never answered",
                "it is from before the bot's first look at the channel",
            );
        }
        if let Some(answer) = state.answers.get(&post.id) {
            let how = match (&answer.draft, answer.attempts) {
                (Some(_), _) => "its answer is made and is being posted".to_owned(),
                (None, 0) => "it is being answered".to_owned(),
                (None, deaths) => format!("it is being answered (attempt {})", deaths + 1),
            };
            self.report.ok("in time", &how);
            return Ok(());
        }
        let below = channel.mark.before(Times::default().window);
        if channel.handled.contains_key(&post.id) || post.create_at <= below {
            return self.explain_passed();
        }
        self.explain_age()
    }

    /// Whether a post that the bot has not read yet will be too old when it is.
    fn explain_age(&mut self) -> Result<(), Stop> {
        let catch_up = self.config.mattermost.catch_up_secs;
        let oldest = self.client.date_ms().unwrap_or_default();
        let oldest = ServerTime(oldest.saturating_sub(catch_up.saturating_mul(1000)));
        if self.post.create_at < oldest {
            return self.against(
                "in time",
                &format!("it is older than {catch_up} s (catch_up_secs)"),
                "write the message again, or raise catch_up_secs",
                "it is too old (catch_up_secs)",
            );
        }
        self.report
            .ok("in time", "it is newer than what the bot has read");
        Ok(())
    }

    /// Why a post that the bot has been past was not answered though it would be now.
    fn explain_passed(&mut self) -> Result<(), Stop> {
        let (detail, fix, why) = if self.is_put_off() {
            (
                "a daily limit was reached (daily_limit, daily_limit_all): it got a reaction alone",
                "write the message again after 00:00 UTC, or raise the limit",
                "a daily limit was reached",
            )
        } else if self.post.edit_at.0 > 0 {
            (
                "it seems that it was edited after the bot had passed it: what it said before was not for the bot, and an edited message is not a new one",
                "write a new message",
                "it seems that it was edited after the bot had passed it",
            )
        } else {
            (
                "the bot has been past it and did not answer it: it decided otherwise then, or the answer was dropped",
                "write the message again; its log has the reason (`prx -v` says more)",
                "the bot has been past it already",
            )
        };
        self.against("in time", detail, fix, why)
    }

    /// Whether the bot marked the post as one over a daily limit.
    fn is_put_off(&self) -> bool {
        let reactions = self.client.reactions_of(&self.post.id);
        reactions.is_ok_and(|reactions| {
            let mut reactions = reactions.iter();
            reactions.any(|it| it.user_id == self.me.id && it.emoji_name == limits::LATER)
        })
    }

    /// The answer, if all of it is there.
    fn answer(&self) -> Result<Option<Answer>, ApiError> {
        let (post, bot) = (self.post, &self.me.id);
        let since = ServerTime(post.create_at.0.saturating_sub(1).max(1));
        let mut posts = self.posts(self.client.posts_since(&post.channel_id, since))?;
        posts.extend(self.posts(self.client.thread(post.thread_root(), 200))?);
        if !Record::of(&posts, bot).is_whole(&post.id) {
            return Ok(None);
        }
        let own = posts.iter().filter(|own| own.user_id == *bot);
        let parts = own.filter_map(|own| Some((own, own.props.prx.as_ref()?)));
        let parts: Vec<_> = parts
            .filter(|(_, prx)| prx.in_reply_to == post.id)
            .collect();
        let Some((first, _)) = parts.iter().find(|(_, prx)| prx.part == 0) else {
            return Ok(None);
        };
        let apology = parts.iter().find(|(_, prx)| prx.apology);
        let url = &self.config.mattermost.url;
        Ok(Some(Answer {
            link: format!("{url}/_redirect/pl/{}", first.id),
            apology: apology.map_or(String::new(), |(own, _)| own.message.clone()),
        }))
    }

    /// The posts of the list; none if it is too large or closed to the bot.
    fn posts(&self, list: Result<PostList, ApiError>) -> Result<Vec<Post>, ApiError> {
        match unless_closed(list) {
            Err(ApiError::TooLarge) => Ok(Vec::new()),
            list => Ok(list?.unwrap_or_default().posts),
        }
    }
}
