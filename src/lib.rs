//! An AI assistant for Mattermost that answers every message exactly once.
//!
//! The way a message takes: `inbox` (which posts are new) → `filter` (for us?) → `conversation`
//! (what was said before) → `provider` (the answer) → `reply` (shaped to fit a post) → `outbox`
//! (posted exactly once), with `state` as the memory between runs and `bot` as the loop.
#![forbid(unsafe_code)]

pub mod answers;
pub mod bot;
pub mod choices;
pub mod cli;
pub mod commands;
pub mod config;
pub mod conversation;
pub mod desk;
pub mod exit;
mod filetext;
pub mod filter;
pub mod growing;
pub mod http;
pub mod inbox;
pub mod json;
pub mod mattermost;
pub(crate) mod nearest;
pub mod outage;
pub mod outbox;
mod pipes;
pub mod provider;
pub mod reload;
pub mod reply;
pub mod secret;
pub mod state;
pub mod text;
pub mod times;
pub(crate) mod url;
pub mod words;
pub mod worker;
