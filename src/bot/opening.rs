//! The post in which an answer grows: it is made once, and found where nobody knows whether it was.

use super::draft::root;
use super::{Bot, Unsaved};
use crate::answers::{Opening, Progress};
use crate::cursor::Own;
use crate::inbox::Record;
use crate::mattermost::client::{ApiError, Mark, NewPost};
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;
use crate::outbox::{Next, Outbox, next};

impl Bot {
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
            props: self.outbox.props(Mark::Growing { growing_for: id }),
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
                self.note_own(&channel, post.create_at, Own::Post(&post.id));
            }
            // Another's post with that name, or an answer that says nothing: it may be on its way.
            Ok(_) => {
                growth.refused = true;
                answer.live.opening.unclear = Some(self.outbox.unclear(0, now));
            }
            Err(error) if error.may_last() => {
                let known = answer.live.opening.unclear;
                let first = now + times.repeat_within - times.call;
                let until = known.map_or(first, |known| known.repeat_until);
                answer.live.opening.unclear = Some(self.outbox.unclear(0, until));
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
}
