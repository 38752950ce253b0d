//! One record per answer, from the moment a post is taken up until it is handled. What an answer was,
//! is, and waits for stands here and nowhere else.

mod patience;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conversation::{Feeding, Gathering, Told};
use crate::copies::Check;
use crate::desk::WorkerId;
use crate::growing::Growth;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::sorted::Set;
pub(crate) use patience::Patience;

/// An answer; the state keeps it by the id of its question. What is not skipped is on disk.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Answer {
    pub channel: ChannelId,
    /// When the question was written.
    pub create_at: ServerTime,
    /// How often a worker or the program died over it.
    #[serde(default)]
    pub attempts: u32,
    /// The post in which it grows is about to be made, or perhaps was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// The post in which it grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<PostId>,
    /// That post shows something else and takes no edit: the bot is deleting it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discards: bool,
    /// It is counted for the daily limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
    /// What is to be posted, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
    #[serde(skip)]
    pub live: Live,
}

/// The first post of an answer that grows, before it is known to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Opening {
    /// Makes its `pending_post_id`.
    pub nonce: String,
    /// The thread that it belongs to; empty: the channel's root.
    pub root: PostId,
}

/// An answer that may be on its way to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Draft {
    /// The thread to answer in; empty: the channel's root.
    pub root: PostId,
    pub parts: Vec<String>,
    /// Makes the parts' `pending_post_id`.
    pub nonce: String,
    /// Whether it is no model's answer: it says why there is none, or what a command asked for.
    pub apology: bool,
    /// What its question said, as the posts are to tell; empty: an earlier version made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// Whether it is sure that nothing of it is on its way to the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsent: bool,
}

/// What of an answer does not outlive the process. Durations are by the clock of `Times`.
#[derive(Default)]
pub(crate) struct Live {
    pub stage: Stage,
    /// The question as it was last read; nothing right after a start.
    pub question: Option<Post>,
    /// When the question was last read.
    pub seen: Duration,
    /// It was read for what is posted next.
    pub looked: bool,
    /// When it was taken up in this run; nothing: it waits for its turn, after an earlier run or a worker
    /// that died.
    pub began: Option<Duration>,
    /// In how many of its places "typing" was shown since then.
    pub typed: usize,
    /// Nothing is done for it before this.
    pub due: Duration,
    pub patience: Patience,
    /// The files that its worker is given.
    pub feeding: Option<Box<Feeding>>,
    /// Their size, in bytes.
    pub enclosed: u64,
    pub growth: Growth,
    /// What is known of the opening on the server.
    pub opening: Progress,
    /// How many parts of it are posted by a run whose state was lost.
    pub half: Option<u32>,
    /// The worker wrote more than was shown.
    pub grew: bool,
    /// How often it was asked anew because its question was edited.
    pub edits: u32,
    /// Whether the question is a copy whose answer came along.
    pub check: Check,
}

/// How far an answer is.
#[derive(Default)]
pub(crate) enum Stage {
    /// Its question has to be looked at by its id.
    #[default]
    Found,
    /// What the server shows of the answer has to be looked at; `undecided`: also whether the bot
    /// wrote in the question's thread.
    Seen {
        question: Box<Post>,
        undecided: bool,
    },
    /// It waits for its turn; its question is known.
    Ready,
    /// What the model is to be told is being gathered.
    Gather(Box<Gathering>),
    /// Only a worker is missing.
    Told(Box<Told>),
    AtWork(WorkerId),
    /// There is a draft.
    Deliver(Progress),
    /// There will be no answer: the post in which it grew is taken away, and looked for once that was
    /// asked for.
    Withdraw {
        asked: bool,
    },
    /// All it gets is a reaction, this emoji, which was tried so often.
    React {
        emoji: &'static str,
        tries: u32,
    },
}

/// What is known of a draft's parts on the server.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether the server was asked which parts it has, or has none for certain.
    pub asked: bool,
    pub posted: Set<u32>,
    pub unclear: Option<Unclear>,
    /// A late edit may yet undo the last one: look at the post then.
    pub verify_at: Option<Duration>,
    /// Foreign posts returned for our `pending_post_id`.
    pub foreign: u32,
    /// The pause after the last failure; it doubles.
    pub pause: Duration,
}

/// There was a try of a part, and nobody knows how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// The part; `None`: an earlier run tried it, and which one is not known.
    pub part: Option<u32>,
    /// Up to here the server is sure to know a repeat for one.
    pub repeat_until: Duration,
    /// Nothing can be on its way any more after this.
    pub settled: Duration,
    /// When the server was asked since.
    pub looked: Option<Duration>,
}

impl Live {
    /// It has no worker any more, and waits for its turn.
    pub(crate) fn wait_again(&mut self) {
        (self.stage, self.began, self.feeding) = (Stage::Ready, None, None);
    }
}

impl Answer {
    /// The draft, and what is known of it on the server; nothing without a draft.
    pub(crate) fn progress(&mut self) -> Option<(&mut Draft, &mut Progress)> {
        match (&mut self.draft, &mut self.live.stage) {
            (Some(draft), Stage::Deliver(progress)) => Some((draft, progress)),
            _ => None,
        }
    }

    /// Whether what it needs has failed several times in a row.
    pub(crate) fn is_failing(&self) -> bool {
        match &self.live.stage {
            Stage::Deliver(progress) => progress.pause >= patience::FAILING,
            Stage::AtWork(_) => false,
            _ => self.live.patience.is_failing(),
        }
    }

    /// Whether there is a draft of which nothing is on the server or on its way there.
    pub(crate) fn is_unposted(&self) -> bool {
        let is_unsent = self.draft.as_ref().is_some_and(|draft| draft.unsent);
        match &self.live.stage {
            Stage::Deliver(progress) => is_unsent && progress.posted.is_empty(),
            _ => is_unsent,
        }
    }

    /// Whether a post in which it grows was made, or may have been.
    pub(crate) fn grows(&self) -> bool {
        self.shown.is_some() || self.opening.is_some()
    }

    /// The worker that makes it.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        match self.live.stage {
            Stage::AtWork(worker) => Some(worker),
            _ => None,
        }
    }
}
