//! An AI assistant for Mattermost that answers every message exactly once.
//!
//! This page is the map: the way a message takes, what always holds, what the words mean, and where
//! to change what.
//!
//! # The way a message takes
//!
//! ```text
//!  Mattermost ──► inbox ──► filter ──► conversation ──► desk ──► reply ──► outbox ──► Mattermost
//!                   │         │            │           │    ▲      │          │
//!             which posts  for us?   what was said     │    │   shaped to  posted
//!              are new                  before         ▼    │   fit a post exactly once
//!                   │                              worker processes            │
//!                   │                              provider: the model         │
//!                   └──────── state: one small JSON file, one lock ────────────┘
//! ```
//!
//! The loop is [`bot`]: **look** (one small request), **read** what changed, **take up** what waits,
//! **tend** what is at work, **settle** what is done, **deliver** it, **rest**. A step makes at most
//! one request to Mattermost, and none but the rest waits: whoever has to wait says until when, and
//! the rest takes the earliest. Each answer is made by a worker, a child process of this same program,
//! so the loop never waits for a model. There is one thread in every process.
//!
//! Values that are decided without I/O ([`cursor`], [`filter`], [`desk::turn`],
//! `conversation`'s choosing, [`reply`], [`growing`], `provider`'s stream) have a table of cases each;
//! I/O stands around them. A file uses only files of lower layers: `tests/layers.rs` holds the table
//! of layers and prints them.
//!
//! # What always holds
//!
//! 1. **Exactly once.** Each post that passes the filter gets one answer, or one short message that
//!    says why there is none; or nothing, if its author deleted it: across a kill of the loop or of a
//!    worker at any moment, and a server that took a post without saying so. All parts of an answer are
//!    of one attempt.
//! 2. **Server time only.** The local clock is never compared with the server's. Each mark is a moment
//!    that the server gave.
//! 3. **No history.** Nothing from before the first run, or from before the bot came into a channel,
//!    is answered.
//! 4. **One small request per idle poll**, per team; without a body where all channels are read.
//! 5. **Denied means nothing happens.** A post of somebody who is not allowed causes no typing, no
//!    model call and no reply, and the model is not told it.
//! 6. **Secrets stay secret.** [`secret::Secret`] shows as `***`. A worker has no Mattermost token, and
//!    gets the keys of the providers that it asks on its standard input.
//! 7. **A crash is a normal way to stop.** What must survive is on disk before the world can see it,
//!    and the disk is written only when something changes.
//! 8. **Nothing of an answer is silently missing.** What a model's server sends and nobody can read
//!    ends in a further try or a sentence that says so.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | post, root, thread | a message; the one that a thread begins with; all that has the same root |
//! | conversation | what is answered one post at a time: a thread, or a channel without threads |
//! | verdict | the filter's: answer, answer if the bot wrote in the thread before, or ignore and why |
//! | floor | a channel's moment from which on posts are answered; what is older is history |
//! | mark | a channel's moment up to which all that changed was read and handled |
//! | window | how long after its own time a post may still become visible; reads reach back so far |
//! | handled | a post that needs nothing more |
//! | waiting | a new post for the bot that was not taken up yet |
//! | word | a post that is only `help`, `new`, `stop` or `model`, and so a command |
//! | turn | whose waiting post is taken up next |
//! | answer | the record of a post from taking up to handled, in [`answers`] |
//! | attempt | a try at an answer that ended with a death, of the worker or of the program |
//! | draft | the text of an answer that is to be posted, split into parts |
//! | part | as much of an answer as fits a post |
//! | nonce | makes the `pending_post_id` of a draft's parts, by which the server knows a repeat |
//! | copy | a post of a thread that was moved or copied from another channel |
//! | stranger | an answer of the bot's in a thread, to a question that is not there: it tells of copies |
//! | doubt | a stranger that may be the answer to a question, until their thread was compared |
//! | unclear | a request of which nobody knows whether the server acted on it |
//! | growing | an answer whose post is edited while it is written; its first post is the opening |
//! | worker | the process that makes one answer |
//! | desk | all workers, and the doorbell |
//! | report | a datagram by which a worker says something: text, start over, done, failed |
//! | doorbell | the socket that all workers report to, and on which the loop sleeps |
//! | tend | show "typing", and look whether a question was edited, deleted or stopped |
//! | feeding | giving a worker pictures and files, piece by piece |
//! | apology | the short message in place of an answer |
//! | fact | what a model's server turned out not to take, remembered for a day |
//! | outage | a time in which the server does not answer; the loop backs off |
//! | closed | a channel in which the bot may not post at present |
//!
//! # To change …
//!
//! | to change | go to |
//! |---|---|
//! | which posts are answered | [`filter`] |
//! | the words that are commands in the chat | [`words`]; what they do: `bot/words.rs`, `bot/help.rs`, [`choices`] |
//! | how many answers a person gets in a day | [`limits`], `bot/limits.rs` |
//! | what of a moved thread is answered | [`copies`], `bot/copy.rs` |
//! | late posts of connected servers | `inbox/shared.rs`; what the count tells: `cursor/balance.rs` |
//! | a question from the shell | `commands/ask.rs`, `commands/ask/key.rs` |
//! | who is mentioned by a message | `mattermost/mention.rs`, `mattermost/markdown.rs` |
//! | when and what is read from Mattermost | [`inbox`]: `look`, `lists`, `read`, `walk`; the rules are in [`cursor`] |
//! | a call of Mattermost's API | `mattermost/client.rs`, `mattermost/types.rs`; how it goes: `mattermost/client/call.rs`; how JSON is read: `mattermost/fields.rs` |
//! | maps and sets | [`sorted`] |
//! | who is answered next | [`desk::turn`], `bot/turn.rs` |
//! | what the model is told | `conversation/choose.rs`, `conversation/mod.rs`; what is asked for it: `fetch`, `files`, `quote` |
//! | what text a file has | `conversation/text.rs`; by a program: `filetext.rs` |
//! | how workers are started, fed and stopped | [`desk`], [`worker`]; when: `bot/gather.rs`, `bot/settle.rs` |
//! | typing, edits and stops | `bot/tend.rs`, `bot/watch.rs` |
//! | how an answer is split and made harmless | `reply/split.rs`, `reply/harmless.rs` |
//! | what stands below an answer | `reply/footer.rs`, `bot/settle.rs` |
//! | how a part is posted exactly once | [`outbox`], `outbox/next.rs`; what follows: `bot/deliver.rs` |
//! | how an answer grows, or is taken away | [`growing`], `bot/opening.rs`, `bot/grow.rs`, `bot/withdraw.rs` |
//! | what is on disk | [`state`], [`answers`], [`cursor`]; the lock: `state/lock.rs` |
//! | pauses and back-off | [`times`], [`outage`], `pause` in `mattermost/client/call.rs` |
//! | which providers there are | `provider/settings.rs` |
//! | tries, fallbacks, too long conversations | `provider/ask.rs` |
//! | what is asked again, and without what | `provider/server.rs`, `provider/learned.rs` |
//! | how a model server's answer is read | `provider/stream.rs`, `provider/shown.rs`, `provider/lenient.rs` |
//! | what is sent to a model | `provider/request.rs` |
//! | what an error of a model server means | `provider/error.rs`, `provider/wait.rs` |
//! | TLS, proxies, name look-ups | [`http`] |
//! | a setting | `config/table.rs` (name, default, range, meaning), then `config/read.rs` |
//! | a command or an option | `cli/table.rs`, then [`commands`] |
//! | what the doctor checks | `commands/doctor.rs` and its folder |
//! | start, lock, upgrade | `commands/run.rs`, [`reload`] |
//! | the stand-in Mattermost of the tests | `tests/support/mattermost/` |
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
// This page is a map of all modules. Only what the tests and the binary use is `pub`.
#![allow(rustdoc::private_intra_doc_links)]

mod answers;
mod base64;
mod bot;
mod choices;
pub mod cli;
pub mod commands;
pub mod config;
pub mod conversation;
mod copies;
mod cursor;
pub mod desk;
pub mod exit;
mod filetext;
mod filter;
mod growing;
pub mod http;
mod inbox;
mod json;
mod limits;
pub mod mattermost;
mod nearest;
mod outage;
mod outbox;
mod pipes;
pub mod provider;
mod reload;
pub mod reply;
pub mod secret;
pub mod sorted;
mod state;
mod text;
pub mod times;
mod url;
mod words;
mod worker;
