//! The parts of an answer → posts, each exactly once, whatever the server or this process does.
//!
//! Nothing waits here: a part whose fate is unclear has a time at which it is looked at again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use log::warn;

use crate::answers::{Answer, Draft, Progress, Unclear};
use crate::growing::Growth;
use crate::inbox::Record;
use crate::mattermost::client::{ApiError, Client, Mark, NewPost, NewProps, Patch, PatchProps};
use crate::mattermost::{Post, PostId, PrxProps, ServerTime, UserId};
use crate::sorted::Set;
use crate::state::Store;
use crate::times::Times;

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

/// Why the loop cannot go on at present. Nothing is lost.
#[derive(Debug)]
pub(crate) enum Trouble {
    Api(ApiError),
    /// The state file cannot be written.
    Disk(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Api(error) => error.fmt(f),
            Trouble::Disk(error) => write!(
                f,
                "the state file cannot be written: {error}; no answer is begun until it can be"
            ),
        }
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Trouble::Api(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Disk(error)
    }
}

/// Delivers drafts.
pub(crate) struct Outbox {
    times: Times,
    bot: UserId,
    allow_unsafe_links: bool,
    /// When this run first heard from the server: all that an earlier one sent was sent before.
    started: Duration,
}

/// What a draft needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the server which parts it has.
    Ask,
    /// Post this part.
    Post(u32),
    /// Post this part under a new name: nothing of the last try can be on its way any more.
    PostAnew(u32),
    /// Edit the post in which the answer grew: it becomes part 0.
    Edit,
    /// Look whether that edit was the last one that the server acted upon.
    Verify,
    Wait(Duration),
    Done,
}

/// `of`: the number of parts. `edits`: part 0 is an edit, which may be repeated at any time.
pub(crate) fn next(progress: &Progress, of: u32, edits: bool, now: Duration) -> Next {
    if !progress.asked {
        return Next::Ask;
    }
    let Some(part) = (0..of).find(|part| !progress.posted.contains(part)) else {
        return match progress.verify_at {
            None => Next::Done,
            Some(at) if now < at => Next::Wait(at),
            Some(_) => Next::Verify,
        };
    };
    if edits && part == 0 {
        return Next::Edit;
    }
    match progress.unclear {
        None => Next::Post(part),
        // A server that was restarted, or another one of a cluster, does not know the pending id, and
        // shows what it took.
        Some(Unclear { looked: None, .. }) => Next::Ask,
        Some(unclear) if now < unclear.repeat_until => Next::Post(part),
        // Any server may have forgotten it: only asking is safe, once it is sure that nothing of the
        // last try is still on its way.
        Some(unclear) if now < unclear.settled => Next::Wait(unclear.settled),
        Some(unclear) if unclear.looked < Some(unclear.settled) => Next::Ask,
        Some(_) => Next::PostAnew(part),
    }
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
        let unclear = Unclear {
            part: None,
            repeat_until: Duration::ZERO,
            settled: self.started + self.times.ask_after,
            looked: None,
        };
        Progress {
            unclear: (!draft.unsent).then_some(unclear),
            ..Progress::default()
        }
    }

    /// What this run knows of a post in which an answer grew in an earlier one: no edit is made before
    /// those of that run are over, but the last one, and that is looked at afterwards.
    pub(crate) fn found_growing(&self) -> (Progress, Growth) {
        let settled = self.started + self.times.ask_after;
        let opening = Progress {
            unclear: Some(Unclear {
                part: Some(0),
                repeat_until: Duration::ZERO,
                settled,
                looked: None,
            }),
            ..Progress::default()
        };
        let growth = Growth {
            unsettled_until: Some(settled),
            ..Growth::default()
        };
        (opening, growth)
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
        match next(progress, of, shown.is_some(), now) {
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
        }
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
            Err(error) if error.may_last() => {
                return Ok(Delivery::Failed(self.back_off(answer), error));
            }
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
        // The draft is on disk before the server hears of it.
        let Some(prx) = note_sent(store, question, part) else {
            return Ok(Delivery::Posted);
        };
        save(store, &prx)?;
        let Some(answer) = store.state.answers.get(question) else {
            return Ok(Delivery::Posted);
        };
        let Some(draft) = &answer.draft else {
            return Ok(Delivery::Posted);
        };
        let tried = self.times.clock.now();
        let result = client.create_post(&NewPost {
            channel_id: &answer.channel,
            message: &draft.parts[part as usize],
            root_id: &draft.root,
            pending_post_id: &format!("{}:{part}", draft.nonce),
            props: NewProps {
                prx: Some(Mark::Answer(&prx)),
                ai_generated_by: (!prx.apology).then_some(&self.bot),
                ..self.props()
            },
        });
        self.posted(client, store, question, &prx, tried, result)
    }

    /// Sorts out what came of a post.
    fn posted(
        &self,
        client: &Client,
        store: &mut Store,
        question: &PostId,
        prx: &PrxProps,
        tried: Duration,
        result: Result<Post, ApiError>,
    ) -> Result<Delivery, Trouble> {
        let Some(answer) = store.state.answers.get_mut(question) else {
            return Ok(Delivery::Posted);
        };
        let Some((draft, progress)) = answer.progress() else {
            return Ok(Delivery::Posted);
        };
        match result {
            Ok(post) => Ok(self.took(answer, prx, post)),
            Err(error) if error.may_last() => {
                let first = tried + self.times.repeat_within;
                let until = progress.unclear.map_or(first, |known| known.repeat_until);
                progress.unclear = Some(self.unclear(prx.part, until));
                Ok(Delivery::Failed(self.back_off(answer), error))
            }
            Err(ApiError::Refused { id, .. }) if id.contains(".root_id.") => {
                match root_of(client, &draft.root) {
                    Ok(Some(root)) => draft.root = root,
                    Ok(None) => return Ok(Delivery::Gone("its thread was deleted".to_owned())),
                    Err(error) if error.may_last() => {
                        return Ok(Delivery::Failed(self.back_off(answer), error));
                    }
                    Err(error) => return Err(error.into()),
                }
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
    fn took(&self, answer: &mut Answer, prx: &PrxProps, post: Post) -> Delivery {
        let Some((draft, progress)) = answer.progress() else {
            return Delivery::Posted;
        };
        if is_it(&post, &self.bot, prx) {
            progress.unclear = None;
            progress.pause = Duration::ZERO;
            progress.posted.insert(prx.part);
            return Delivery::Took(post.id, post.create_at);
        }
        if progress.foreign < FOREIGN {
            progress.foreign += 1;
            let id = post.id;
            warn!("somebody else posted {id} with the id meant for an answer; trying another");
            renew(draft, progress);
            return Delivery::More;
        }
        progress.unclear = Some(self.unclear(prx.part, Duration::ZERO));
        let why = "the server gives other posts for the one that was sent";
        Delivery::Failed(self.back_off(answer), ApiError::unclear(why, ""))
    }

    /// The properties of every post of the bot's that a model writes.
    pub(crate) fn props(&self) -> NewProps<'_> {
        NewProps {
            prx: None,
            ai_generated_by: Some(&self.bot),
            unsafe_links: (!self.allow_unsafe_links).then_some("true"),
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
        let Some(prx) = note_sent(store, question, 0) else {
            return Ok(Delivery::Posted);
        };
        save(store, &prx)?;
        let Some(answer) = store.state.answers.get_mut(question) else {
            return Ok(Delivery::Posted);
        };
        let unsettled = answer.live.growth.unsettled_until;
        let Some((draft, progress)) = answer.progress() else {
            return Ok(Delivery::Posted);
        };
        let patch = Patch {
            message: draft.parts.first().map_or("", String::as_str),
            props: PatchProps {
                new: NewProps {
                    prx: Some(Mark::Answer(&prx)),
                    ai_generated_by: (!prx.apology).then_some(&self.bot),
                    ..self.props()
                },
                from_bot: "true",
            },
        };
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
                Ok(Delivery::Failed(self.back_off(answer), error))
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
        let post = match client.post(shown) {
            // A person deleted it.
            Err(error) if error.is_closed() => None,
            Err(error) if error.may_last() => {
                return Ok(Delivery::Failed(self.back_off(answer), error));
            }
            post => Some(post?),
        };
        if let Some((_, progress)) = answer.progress() {
            progress.verify_at = None;
            if post.is_some_and(|post| post.props.growing_for.is_some()) {
                progress.posted.remove(&0);
            }
        }
        Ok(Delivery::More)
    }

    fn unclear(&self, part: u32, repeat_until: Duration) -> Unclear {
        Unclear {
            part: Some(part),
            repeat_until,
            settled: self.times.clock.now() + self.times.ask_after,
            looked: None,
        }
    }

    /// When an answer whose request failed is tried again.
    pub(crate) fn back_off(&self, answer: &mut Answer) -> Duration {
        let longest = self.times.backoff_max;
        let pause = match answer.progress() {
            Some((_, progress)) => {
                progress.pause = (progress.pause * 2).clamp(FIRST_PAUSE.min(longest), longest);
                progress.pause
            }
            None => longest,
        };
        self.times.clock.now() + pause
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

/// Writes the state before the server hears of a part: of several, a power cut must not lose the rest.
fn save(store: &mut Store, prx: &PrxProps) -> io::Result<()> {
    if prx.of > 1 {
        store.save_durably()
    } else {
        store.save()
    }
}

/// Notes in the state that something of the draft may be on its way from here on: the marks of `part`.
fn note_sent(store: &mut Store, question: &PostId, part: u32) -> Option<PrxProps> {
    let draft = store.state.answers.get_mut(question)?.draft.as_mut()?;
    draft.unsent = false;
    Some(PrxProps {
        in_reply_to: question.clone(),
        part,
        of: draft.parts.len() as u32,
        apology: draft.apology,
        asked: draft.asked.clone(),
    })
}

/// The root of the thread that `post` is a reply in; nothing if it is a root or not there.
fn root_of(client: &Client, post: &PostId) -> Result<Option<PostId>, ApiError> {
    match client.post(post) {
        Ok(post) if !post.root_id.is_empty() => Ok(Some(post.root_id)),
        Ok(_) => Ok(None),
        Err(error) if error.is_closed() => Ok(None),
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclear_part_is_asked_for_repeated_waited_for_and_posted_anew() {
        let secs = Duration::from_secs;
        let unclear = |looked: Option<u64>| {
            Some(Unclear {
                part: Some(1),
                repeat_until: secs(25),
                settled: secs(60),
                looked: looked.map(secs),
            })
        };
        for (name, asked, posted, unclear, now, expected) in [
            ("from another run", false, 0, None, 0, Next::Ask),
            ("nothing is there", true, 0, None, 0, Next::Post(0)),
            ("one is there", true, 1, None, 0, Next::Post(1)),
            ("all are there", true, 2, None, 0, Next::Done),
            (
                "all are there after all",
                true,
                2,
                unclear(None),
                70,
                Next::Done,
            ),
            ("unclear", true, 1, unclear(None), 3, Next::Ask),
            (
                "not shown, soon",
                true,
                1,
                unclear(Some(3)),
                4,
                Next::Post(1),
            ),
            (
                "not shown, late",
                true,
                1,
                unclear(Some(25)),
                26,
                Next::Wait(secs(60)),
            ),
            ("settled", true, 1, unclear(Some(25)), 60, Next::Ask),
            (
                "not shown, settled",
                true,
                1,
                unclear(Some(60)),
                60,
                Next::PostAnew(1),
            ),
        ] {
            let progress = Progress {
                asked,
                posted: (0..posted).collect(),
                unclear,
                ..Progress::default()
            };
            assert_eq!(next(&progress, 2, false, secs(now)), expected, "{name}");
        }
    }

    #[test]
    fn a_grown_post_is_edited_whatever_is_unclear_and_looked_at_once_late_edits_are_over() {
        let secs = Duration::from_secs;
        for (name, asked, posted, verify_at, now, expected) in [
            ("from another run", false, 0, None, 0, Next::Ask),
            ("not final yet", true, 0, None, 0, Next::Edit),
            ("final", true, 1, None, 0, Next::Post(1)),
            ("whole", true, 2, None, 0, Next::Done),
            (
                "an edit may be late",
                true,
                2,
                Some(60),
                59,
                Next::Wait(secs(60)),
            ),
            ("no edit can be late", true, 2, Some(60), 60, Next::Verify),
            ("undone", true, 0, Some(60), 60, Next::Edit),
        ] {
            let progress = Progress {
                asked,
                posted: (0..posted).collect(),
                verify_at: verify_at.map(secs),
                ..Progress::default()
            };
            assert_eq!(next(&progress, 2, true, secs(now)), expected, "{name}");
        }
    }
}
