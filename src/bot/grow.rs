//! Growing: an answer is shown in its post while it is written, and taken away where there will be none.

use std::time::Duration;

use log::{info, warn};

use super::deliver::root;
use super::{Bot, Unsaved};
use crate::answers::{Opening, Progress, Stage, Unclear};
use crate::cursor::Own;
use crate::desk::WorkerId;
use crate::growing::{self, Growth};
use crate::inbox::Record;
use crate::mattermost::client::{ApiError, Mark, NewPost, NewProps, Patch, PatchProps};
use crate::mattermost::{Post, PostId};
use crate::outbox::{Next, Outbox, Trouble, next};
use crate::reply;

/// Between two edits, of whatever answers: four a second.
const APART: Duration = Duration::from_millis(250);
/// After a deletion, until it is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

impl Bot {
    /// Shows what one worker wrote since: whether there was anything to do.
    pub(super) fn grow(&mut self) -> Result<bool, Trouble> {
        let now = self.now();
        if now < self.edit_due {
            return Ok(false);
        }
        let Some((id, worker)) = self.next_to_grow() else {
            return Ok(false);
        };
        let text = reply::growing(
            self.desk.text(worker),
            self.post_limit,
            &self.reply_options(),
        );
        let Some(answer) = self.store.state.answers.get_mut(&id) else {
            return Ok(false);
        };
        let growth = &mut answer.live.growth;
        if answer.shown.is_some() {
            if text.is_empty() || text == growth.text {
                answer.live.grew = false;
                return Ok(false);
            }
            self.edit_due = now + APART;
            self.edit(&id, text)?;
        } else if answer.opening.is_some() || growth.may_open(text.chars().count(), now) {
            if self.compare_begun(&id)? {
                return Ok(true);
            }
            self.edit_due = now + APART;
            self.open_post(&id, Some(text))?;
        } else {
            growth.due = growth.opens_at().unwrap_or(now).max(now + APART);
            return Ok(false);
        }
        Ok(true)
    }

    fn next_to_grow(&self) -> Option<(PostId, WorkerId)> {
        let (now, state) = (self.now(), &self.store.state);
        let mut answers = state.answers.iter().filter_map(|(id, answer)| {
            let worker = answer.worker().filter(|_| answer.live.grew)?;
            let due = answer.live.due <= now
                && answer.live.growth.may_edit(now)
                && self.is_open(&answer.channel)
                && (answer.shown.is_some() || !self.is_unread(answer));
            due.then(|| (id.clone(), worker))
        });
        answers.next()
    }

    /// Makes the post in which an answer grows, or finds out whether it was made. Without a text none is
    /// made any more.
    pub(super) fn open_post(&mut self, id: &PostId, text: Option<String>) -> Result<(), Trouble> {
        let now = self.now();
        let root = self.root_for(id);
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        if answer.opening.is_none() {
            let nonce = Outbox::nonce();
            answer.opening = Some(Opening { nonce, root });
            answer.live.opening = Progress {
                asked: true,
                ..Progress::default()
            };
        }
        let unclear = answer.live.opening.unclear;
        match (next(&answer.live.opening, 1, false, now), text) {
            (Next::Ask, _) => self.look_for_opening(id),
            (Next::Wait(until), _) => {
                answer.live.growth.due = until;
                answer.live.due = until;
                Ok(())
            }
            // A repeat of the first text would only be to find it: it is waited for instead.
            (Next::Post(_), None) if unclear.is_some() => {
                answer.live.due = unclear.map_or(now, |unclear| unclear.settled);
                if let Some(unclear) = &mut answer.live.opening.unclear {
                    unclear.repeat_until = now;
                }
                Ok(())
            }
            (Next::Post(_), Some(text)) => self.send_opening(id, text),
            (Next::PostAnew(_), Some(text)) => {
                answer.live.opening.unclear = None;
                if let Some(opening) = &mut answer.opening {
                    opening.nonce = Outbox::nonce();
                }
                self.send_opening(id, text)
            }
            _ => {
                answer.opening = None;
                self.changed(Unsaved::BeforeNext);
                Ok(())
            }
        }
    }

    fn root_for(&self, id: &PostId) -> PostId {
        let question = self.question(id);
        question.map_or(PostId::default(), |question| root(&self.config, question))
    }

    /// Looks for the post of which it is not known whether it was made.
    fn look_for_opening(&mut self, id: &PostId) -> Result<(), Trouble> {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        let (channel, created) = (&answer.channel, answer.create_at);
        match Record::since(&self.client, &self.me.id, channel, id, created) {
            Ok(record) => {
                answer.shown = record.growing(id);
                answer.live.opening.asked = true;
                if answer.shown.is_some() {
                    answer.opening = None;
                    self.changed(Unsaved::BeforeNext);
                } else if let Some(unclear) = &mut answer.live.opening.unclear {
                    unclear.looked = Some(now);
                }
            }
            Err(error) if error.is_closed() => {
                let channel = channel.clone();
                let why = error.to_string();
                self.inbox.close(&mut self.store.state, &channel, &why);
            }
            Err(error) => return self.put_off(id, error),
        }
        Ok(())
    }

    fn send_opening(&mut self, id: &PostId, text: String) -> Result<(), Trouble> {
        // On disk before the server hears of it.
        self.store.save_durably()?;
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        let Some(opening) = &answer.opening else {
            return Ok(());
        };
        let result = self.client.create_post(&NewPost {
            channel_id: &answer.channel,
            message: &text,
            root_id: &opening.root,
            pending_post_id: &format!("{}:growing", opening.nonce),
            props: NewProps {
                prx: Some(Mark::Growing { growing_for: id }),
                ..self.outbox.props()
            },
        });
        self.opening_sent(id, result)
    }

    /// Sorts out what came of an opening.
    fn opening_sent(&mut self, id: &PostId, result: Result<Post, ApiError>) -> Result<(), Trouble> {
        let (now, times) = (self.now(), &self.times);
        let least = self.config.mattermost.draft_update_interval;
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        let channel = answer.channel.clone();
        let growth = &mut answer.live.growth;
        let grows_here = |of: &PostId| of == id;
        let unclear = |repeat_until| Unclear {
            part: Some(0),
            repeat_until,
            settled: now + times.ask_after,
            looked: None,
        };
        match result {
            Ok(post)
                if post.user_id == self.me.id
                    && post.props.growing_for.as_ref().is_none_or(grows_here) =>
            {
                // A repeat gives what the first try posted.
                growth.shows(post.message, now, least);
                answer.shown = Some(post.id.clone());
                answer.opening = None;
                self.changed(Unsaved::BeforeNext);
                self.note_own(&channel, post.create_at, Own::Post);
                self.saw_own(&channel, &post.id, post.create_at);
            }
            // Another's post with that name, or an answer that says nothing: it may be on its way.
            Ok(_) => {
                growth.refused = true;
                answer.live.opening.unclear = Some(unclear(now));
            }
            Err(error) if error.may_last() => {
                let known = answer.live.opening.unclear;
                let first = now + times.repeat_within - times.call;
                answer.live.opening.unclear =
                    Some(unclear(known.map_or(first, |known| known.repeat_until)));
                growth.due = now + times.poll;
                self.outage.note(&error.into());
            }
            // The answer itself will find out what is wrong. An earlier try may be on its way.
            Err(ApiError::Refused { .. }) => {
                growth.refused = true;
                if answer.live.opening.unclear.is_none() {
                    answer.opening = None;
                }
                self.changed(Unsaved::BeforeRest);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// An edit in the middle of an answer.
    fn edit(&mut self, id: &PostId, text: String) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        let Some(shown) = answer.shown.clone() else {
            return Ok(());
        };
        let channel = answer.channel.clone();
        let patch = Patch {
            message: &text,
            props: PatchProps {
                new: NewProps {
                    prx: Some(Mark::Growing { growing_for: id }),
                    ..self.outbox.props()
                },
                from_bot: "true",
            },
        };
        let result = self.client.patch_post(&shown, &patch);
        let now = self.now();
        match result {
            Ok(post) => {
                let least = self.config.mattermost.draft_update_interval;
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.growth.shows(post.message, now, least);
                    answer.live.grew = false;
                }
                self.note_own(&channel, post.update_at, Own::Edit);
            }
            Err(error) if error.may_last() => {
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.growth.unsettled_until = Some(now + self.times.ask_after);
                }
                self.outage.note(&error.into());
            }
            Err(ApiError::Refused { .. }) => self.edit_refused(id, &shown)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The post in which an answer grows takes no edit: whether a person deleted it, which is a stop, or
    /// the server takes none.
    fn edit_refused(&mut self, id: &PostId, shown: &PostId) -> Result<(), Trouble> {
        match self.client.post(shown) {
            Err(ApiError::Refused { status: 403, .. }) | Ok(_) => {
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.growth.refused = true;
                }
                Ok(())
            }
            Err(error) if error.is_closed() => {
                self.end_shown(id);
                Ok(())
            }
            Err(error) => self.put_off(id, error),
        }
    }

    /// A person deleted the post in which an answer grew: no more of it.
    fn end_shown(&mut self, id: &PostId) {
        info!("post {id} gets no answer: its beginning was deleted");
        self.handled(id);
    }

    /// The grown post does not take the last edit: what it shows stays and the rest follows in parts of
    /// its own, or it is taken away and the answer posted anew.
    pub(super) fn go_on_without_edits(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        let Some(shown) = answer.shown.clone() else {
            return Ok(());
        };
        match self.client.post(&shown) {
            Err(ApiError::Refused { status: 403, .. }) => {
                let channel = answer.channel.clone();
                let why = "an answer in it cannot be edited any more";
                self.inbox.close(&mut self.store.state, &channel, why);
                return Ok(());
            }
            Err(error) if error.is_closed() => {
                self.end_shown(id);
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
            Ok(_) => {}
        }
        let goes_on = self.store.state.answers.get_mut(id).and_then(|answer| {
            let shows = answer.live.growth.text.clone();
            let (draft, progress) = answer.progress()?;
            let rest = growing::rest(&draft.parts, &shows).filter(|rest| !rest.is_empty())?;
            draft.parts = vec![shows];
            draft.parts.extend(rest);
            progress.posted.insert(0);
            Some(())
        });
        if goes_on.is_none() {
            // Of another generation, or the whole text without its mark.
            match self.client.delete_post(&shown) {
                Err(error) if !error.is_closed() => return self.put_off(id, error),
                _ => {}
            }
            if let Some(answer) = self.store.state.answers.get_mut(id) {
                answer.shown = None;
                answer.live.growth = Growth::default();
            }
        }
        self.changed(Unsaved::BeforeNext);
        Ok(())
    }

    /// Ends with a post that gets no answer: what was shown of one is taken away first.
    pub(super) fn withdraw(&mut self, id: &PostId) {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        if !answer.grows() {
            return self.handled(id);
        }
        let worker = answer.worker();
        answer.draft = None;
        answer.live.stage = Stage::Withdraw { asked: false };
        answer.live.feeding = None;
        answer.live.due = Default::default();
        self.stop_worker(worker);
        self.changed(Unsaved::BeforeNext);
    }

    /// Takes the post away in which an answer grew, and looks whether it is gone: an edit that was on its
    /// way may undo the deletion.
    pub(super) fn take_away(&mut self, id: &PostId, asked: bool) -> Result<(), Trouble> {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        if answer.opening.is_some() {
            return self.open_post(id, None);
        }
        let Some(shown) = answer.shown.clone() else {
            self.handled(id);
            return Ok(());
        };
        let result = if asked {
            self.client.post(&shown).map(|post| post.delete_at.0 == 0)
        } else {
            self.client.delete_post(&shown).map(|()| true)
        };
        let is_there = match result {
            Ok(is_there) => is_there,
            Err(error @ ApiError::Refused { status: 403, .. }) if !asked => {
                warn!("post {shown}, the beginning of an answer to post {id}, stays: {error}");
                self.handled(id);
                return Ok(());
            }
            Err(error) if error.is_closed() => !asked,
            Err(error) => return self.put_off(id, error),
        };
        if !is_there {
            self.handled(id);
        } else if let Some(answer) = self.store.state.answers.get_mut(id) {
            let late = answer.live.growth.unsettled_until.unwrap_or(now);
            answer.live.due = late.max(now + LOOK_AFTER);
            answer.live.stage = Stage::Withdraw { asked: !asked };
            if asked {
                answer.live.due = now;
            }
        }
        Ok(())
    }
}
