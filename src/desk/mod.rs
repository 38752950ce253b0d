//! The answers at work. Each is made by a worker, a short-lived child process of this same program,
//! and all workers report to one socket on which the loop sleeps: its doorbell.

pub(crate) mod input;
mod processes;
pub mod report;
pub(crate) mod turn;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::input::{FileReader, Piece};
pub use self::processes::Processes;
pub use self::report::News;
use crate::mattermost::PostId;
use crate::provider::{Message, ProviderSettings};

/// An answer to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The question, as the log names it.
    pub post: PostId,
    /// Who is asked, and the keys.
    pub provider: ProviderSettings,
    /// Overrides the model of `provider`.
    pub model: Option<String>,
    /// At most one system message, first; the last is the user's. Pictures that they name are fed.
    pub conversation: Vec<Message>,
    /// The bot's username.
    pub bot_name: String,
    /// Names stand before what people say.
    pub several_speakers: bool,
    /// The answer is worth nothing after this.
    pub time_left: Duration,
    /// Whether the text is wanted while it is written.
    pub grow: bool,
}

/// Names a worker; no two ever have the same.
pub type WorkerId = u64;

/// Where answers are made while the loop goes on, and the only place where it waits.
pub trait Desk {
    /// Starts a worker. An error means that none could be started, by no fault of the job.
    fn start(&mut self, job: Job) -> io::Result<WorkerId>;

    /// Gives the worker the next piece of a picture that its job's messages name; the first picture
    /// first. It begins when it has all of them.
    fn feed(&mut self, worker: WorkerId, piece: Piece) {
        let _ = (worker, piece);
    }

    /// What the worker wrote so far, if its job wants it to grow.
    fn text(&self, worker: WorkerId) -> &str;

    /// What became of the workers since the last call. Never blocks.
    fn hear(&mut self) -> Vec<(WorkerId, News)>;

    /// Ends a worker; one that is not there is fine.
    fn stop(&mut self, worker: WorkerId);

    /// Ends all workers, and returns when there is nothing left of them.
    fn stop_all(&mut self);

    /// Sleeps until a worker reports or, by the clock, until `until`.
    fn rest(&mut self, until: Duration);
}
