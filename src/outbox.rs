//! The parts of an answer → posts, each exactly once, whatever the server or this process does.
//!
//! Nothing waits here: a part whose fate is unclear has a time at which it is looked at again.

mod next;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use log::warn;

use crate::answers::{Answer, Draft, Live, Progress, Unclear};
use crate::growing::Growth;
use crate::inbox::Record;
use crate::mattermost::client::{
    ApiError, Client, Mark, NewPost, NewProps, Patch, PatchProps, unless_closed,
};
use crate::mattermost::{Post, PostId, PrxProps, ServerTime, UserId};
use crate::outage::Trouble;
use crate::sorted::Set;
use crate::state::Store;
use crate::times::Times;
pub(crate) use next::{Next, next};

/// Foreign posts returned for our `pending_post_id` before the outcome counts as unclear.
const FOREIGN: u32 = 3;
/// The pause after a first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How a step of a delivery ended.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// There is more to do at once.
    More,
    /// The server took a part at this moment; there may be more to do at once.
    Took(PostId, ServerTime),
    /// The server took the last edit of the post in which the answer grew.
    Edited(ServerTime),
    /// That post takes no edit.
    NoEdit,
    /// Nothing is to be done before this.
    Later(Duration),
    /// A request failed that may fail for this answer alone; the next is not to be made before this.
    Failed(Duration, ApiError),
    /// All parts are on the server.
    Posted,
    /// The server takes no answer to that post: its thread or its channel is gone.
    Gone(String),
    /// The server takes nothing in that channel for now, and why.
    Closed(String),
    /// The server does not take this answer, and why.
    Refused(String),
    /// A part is longer than the server takes.
    TooLong,
}

/// Delivers drafts.
pub(crate) struct Outbox {
    times: Times,
    bot: UserId,
    allow_unsafe_links: bool,
    /// When this run first heard from the server: all that an earlier one sent was sent before.
    started: Duration,
}

impl Outbox {
    pub(crate) fn new(times: Times, bot: UserId, allow_unsafe_links: bool) -> Outbox {
        Outbox {
            started: times.clock.now(),
            times,
            bot,
            allow_unsafe_links,
        }
    }

    /// A string that nobody can guess: the server takes it as the name of a post.
    pub(crate) fn nonce() -> String {
        format!(
            "{:016x}{:016x}",
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1)
        )
    }

    /// What this run knows of a draft that an earlier one left. When that tried it no clock tells: this
    /// machine's may have jumped since, and the server's `Date` is a proxy's. So a repeat may come too
    /// late to be known for one.
    pub(crate) fn found(&self, draft: &Draft) -> Progress {
        if draft.unsent {
            Progress::default()
        } else {
            self.tried_before()
        }
    }

    fn tried_before(&self) -> Progress {
        Progress {
            unclear: Some(Unclear {
                part: None,
                repeat_until: Duration::ZERO,
                settled: self.started + self.times.ask_after,
                looked: None,
            }),
            ..Progress::default()
        }
    }

    /// Notes what this run knows of a post in which an answer grew in an earlier one: no edit is made
    /// before those of that run are over, but the last one, and that is looked at afterwards.
    pub(crate) fn find_growing(&self, live: &mut Live) {
        live.opening = self.tried_before();
        live.growth = Growth {
            unsettled_until: Some(self.started + self.times.ask_after),
            ..Growth::default()
        };
    }

    /// What is known of a draft that this run made. Of several parts some may be there, from a run that
    /// this state knows nothing of.
    pub(crate) fn fresh(draft: &Draft) -> Progress {
        Progress {
            asked: draft.parts.len() == 1,
            ..Progress::default()
        }
    }

    /// Does the next thing for the draft of the answer to `question`: one request, of which the state
    /// on disk knows before it is made.
    pub(crate) fn step(
        &self,
        client: &Client,
        store: &mut Store,
        question: &PostId,
    ) -> Result<Delivery, Trouble> {
        let now = self.times.clock.now();
        let Some(answer) = store.state.answers.get_mut(question) else {
            return Ok(Delivery::Posted);
        };
        let (shown, refused) = (answer.shown.clone(), answer.live.growth.refused);
        let Some((draft, progress)) = answer.progress() else {
            return Ok(Delivery::Posted);
        };
        let of = draft.parts.len() as u32;
        let result = match next(progress, of, shown.is_some(), now) {
            Next::Done => Ok(Delivery::Posted),
            Next::Wait(until) => Ok(Delivery::Later(until)),
            Next::Ask => self.ask(client, question, answer),
            Next::Edit if refused => Ok(Delivery::NoEdit),
            Next::Edit => self.edit(client, store, question, &shown.unwrap_or_default()),
            Next::Verify => self.verify(client, answer, &shown.unwrap_or_default()),
            Next::Post(part) => self.post(client, store, question, part),
            Next::PostAnew(part) => {
                renew(draft, progress);
                self.post(client, store, question, part)
            }
        };
        match result {
            Err(Trouble::Api(error)) if error.may_last() => {
                let answer = store.state.answers.get_mut(question);
                let progress = answer.and_then(Answer::progress);
                let pause = progress.map_or(Duration::ZERO, |(_, progress)| self.pause(progress));
                Ok(Delivery::Failed(self.times.clock.now() + pause, error))
            }
            result => result,
        }
    }

    /// How long to wait after a failure.
    fn pause(&self, progress: &mut Progress) -> Duration {
        let longest = self.times.backoff_max;
        progress.pause = (progress.pause * 2).clamp(FIRST_PAUSE.min(longest), longest);
        progress.pause
    }

    /// Asks which parts the server shows.
    fn ask(
        &self,
        client: &Client,
        question: &PostId,
        answer: &mut Answer,
    ) -> Result<Delivery, Trouble> {
        let (channel, created) = (&answer.channel, answer.create_at);
        let shown = match Record::since(client, &self.bot, channel, question, created) {
            // A channel that cannot be read cannot be posted to either: that decides.
            Err(error) if error.is_closed() => Set::new(),
            record => record?.parts(question),
        };
        let now = self.times.clock.now();
        let edits = answer.shown.as_ref();
        let unsettled = edits.and(answer.live.growth.unsettled_until);
        if let Some((_, progress)) = answer.progress() {
            progress.asked = true;
            progress.posted.extend(shown);
            if progress.posted.contains(&0) {
                progress.verify_at = progress.verify_at.or(unsettled);
            }
            if let Some(unclear) = &mut progress.unclear {
                unclear.looked = Some(now);
                // Which part an earlier run was about is not known.
                if unclear
                    .part
                    .is_some_and(|part| progress.posted.contains(&part))
                {
                    progress.unclear = None;
                }
            }
        }
        Ok(Delivery::More)
    }

    fn post(
        &self,
        client: &Client,
        store: &mut Store,
        question: &PostId,
        part: u32,
    ) -> Result<Delivery, Trouble> {
        let Some((prx, answer)) = note_sent(store, question, part)? else {
            return Ok(Delivery::Posted);
        };
        let channel = answer.channel.clone();
        let Some((draft, progress)) = answer.progress() else {
            return Ok(Delivery::Posted);
        };
        let tried = self.times.clock.now();
        let result = client.create_post(&NewPost {
            channel_id: &channel,
            message: &draft.parts[part as usize],
            root_id: &draft.root,
            pending_post_id: &format!("{}:{part}", draft.nonce),
            props: self.props(Mark::Answer(&prx)),
        });
        match result {
            Ok(post) => self.took(draft, progress, &prx, post),
            Err(error) if error.may_last() => {
                let first = tried + self.times.repeat_within;
                let until = progress.unclear.map_or(first, |known| known.repeat_until);
                progress.unclear = Some(self.unclear(part, until));
                Err(error.into())
            }
            Err(ApiError::Refused { id, .. }) if id.contains(".root_id.") => {
                // Its root is a reply by now, or gone.
                let root = unless_closed(client.post(&draft.root))?;
                let Some(root) = root.filter(|root| !root.root_id.is_empty()) else {
                    return Ok(Delivery::Gone("its thread was deleted".to_owned()));
                };
                draft.root = root.root_id;
                renew(draft, progress);
                Ok(Delivery::More)
            }
            Err(ApiError::Refused { id, .. }) if is_too_long(&id) => Ok(Delivery::TooLong),
            Err(error) => {
                // Nothing of it is on its way, unless an earlier try of it is: the next run need not
                // wait for it.
                draft.unsent = progress.unclear.is_none();
                if let ApiError::Refused { status, id, .. } = &error {
                    // Much may have happened by the time a channel is open again.
                    progress.asked = false;
                    return Ok(refused(*status, id, error.to_string()));
                }
                let _ = store.save();
                Err(error.into())
            }
        }
    }

    /// What to do with `post`, which the server gave for part `prx`.
    fn took(
        &self,
        draft: &mut Draft,
        progress: &mut Progress,
        prx: &PrxProps,
        post: Post,
    ) -> Result<Delivery, Trouble> {
        if is_it(&post, &self.bot, prx) {
            progress.unclear = None;
            progress.pause = Duration::ZERO;
            progress.posted.insert(prx.part);
            return Ok(Delivery::Took(post.id, post.create_at));
        }
        if progress.foreign < FOREIGN {
            progress.foreign += 1;
            let id = post.id;
            warn!("somebody else posted {id} with the id meant for an answer; trying another");
            renew(draft, progress);
            return Ok(Delivery::More);
        }
        progress.unclear = Some(self.unclear(prx.part, Duration::ZERO));
        let why = "the server gives other posts for the one that was sent";
        Err(ApiError::unclear(why, "").into())
    }

    /// The properties of a post of the bot's, which a model wrote unless it is an apology.
    pub(crate) fn props<'a>(&'a self, mark: Mark<'a>) -> NewProps<'a> {
        let apology = matches!(mark, Mark::Answer(prx) if prx.apology);
        NewProps {
            prx: Some(mark),
            ai_generated_by: (!apology).then_some(&self.bot),
            unsafe_links: (!self.allow_unsafe_links).then_some("true"),
        }
    }

    /// An edit that makes a post of the bot's this.
    pub(crate) fn patch<'a>(&'a self, message: &'a str, mark: Mark<'a>) -> Patch<'a> {
        Patch {
            message,
            props: PatchProps {
                new: self.props(mark),
                from_bot: "true",
            },
        }
    }

    /// Makes the post in which the answer grew the answer's part 0.
    fn edit(
        &self,
        client: &Client,
        store: &mut Store,
        question: &PostId,
        shown: &PostId,
    ) -> Result<Delivery, Trouble> {
        let Some((prx, answer)) = note_sent(store, question, 0)? else {
            return Ok(Delivery::Posted);
        };
        let unsettled = answer.live.growth.unsettled_until;
        let Some((draft, progress)) = answer.progress() else {
            return Ok(Delivery::Posted);
        };
        let text = draft.parts.first().map_or("", String::as_str);
        let patch = self.patch(text, Mark::Answer(&prx));
        match client.patch_post(shown, &patch) {
            Ok(post) => {
                progress.posted.insert(0);
                progress.pause = Duration::ZERO;
                progress.verify_at = unsettled;
                Ok(Delivery::Edited(post.update_at))
            }
            Err(error) if error.may_last() => {
                let settled = self.times.clock.now() + self.times.ask_after;
                answer.live.growth.unsettled_until = Some(settled);
                Err(error.into())
            }
            Err(ApiError::Refused { id, .. })
                if id.contains(".can_not_update_post_in_deleted.") =>
            {
                Ok(Delivery::Gone("its channel is archived".to_owned()))
            }
            Err(ApiError::Refused { id, .. }) if is_too_long(&id) => Ok(Delivery::TooLong),
            Err(ApiError::Refused { .. }) => Ok(Delivery::NoEdit),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether an edit that came late undid the last one: then that is made again.
    fn verify(
        &self,
        client: &Client,
        answer: &mut Answer,
        shown: &PostId,
    ) -> Result<Delivery, Trouble> {
        // Nothing: a person deleted it.
        let post = unless_closed(client.post(shown))?;
        if let Some((_, progress)) = answer.progress() {
            progress.verify_at = None;
            if post.is_some_and(|post| post.props.growing_for.is_some()) {
                progress.posted.remove(&0);
            }
        }
        Ok(Delivery::More)
    }

    /// What is known of a part that may be on its way from now on.
    pub(crate) fn unclear(&self, part: u32, repeat_until: Duration) -> Unclear {
        Unclear {
            part: Some(part),
            repeat_until,
            settled: self.times.clock.now() + self.times.ask_after,
            looked: None,
        }
    }
}

/// Whether `post`, which the server gave for one that was sent with `prx`, is that one: a pending id
/// may bring somebody else's. A plugin may have taken props away: an own post without them is it.
pub(crate) fn is_it(post: &Post, bot: &UserId, prx: &PrxProps) -> bool {
    let is_same =
        |posted: &PrxProps| posted.in_reply_to == prx.in_reply_to && posted.part == prx.part;
    post.user_id == *bot && post.props.prx.as_ref().is_none_or(is_same)
}

/// Gives the draft another nonce.
fn renew(draft: &mut Draft, progress: &mut Progress) {
    draft.nonce = Outbox::nonce();
    progress.unclear = None;
}

/// Notes on disk, before the server hears of it, that `part` of the draft may be on its way from here on:
/// its marks.
fn note_sent<'a>(
    store: &'a mut Store,
    question: &PostId,
    part: u32,
) -> io::Result<Option<(PrxProps, &'a mut Answer)>> {
    let answer = store.state.answers.get_mut(question);
    let Some(draft) = answer.and_then(|answer| answer.draft.as_mut()) else {
        return Ok(None);
    };
    draft.unsent = false;
    let prx = PrxProps {
        in_reply_to: question.clone(),
        part,
        of: draft.parts.len() as u32,
        apology: draft.apology,
        asked: draft.asked.clone(),
    };
    // Of several parts a power cut must not lose the rest.
    if prx.of > 1 {
        store.save_durably()?;
    } else {
        store.save()?;
    }
    let answer = store.state.answers.get_mut(question);
    Ok(answer.map(|answer| (prx, answer)))
}

/// `model.post.is_valid.message_length.app_error`, and its name in old versions.
fn is_too_long(id: &str) -> bool {
    id.contains(".message_length.") || id.contains(".is_valid.msg.")
}

/// What the refusal of a post means.
fn refused(status: u16, id: &str, why: String) -> Delivery {
    match status {
        403 | 404 => Delivery::Closed(why),
        // `api.post.create_post.can_not_post_to_deleted.error`: an archived channel.
        _ if id.contains(".can_not_post_to_deleted.") => Delivery::Gone(why),
        _ => Delivery::Refused(why),
    }
}
