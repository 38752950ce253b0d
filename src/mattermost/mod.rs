//! All that knows Mattermost's REST API v4: its values, its calls, and its rule for mentions.

mod body;
pub mod client;
mod error;
mod fields;
pub(crate) mod markdown;
pub mod mention;
pub(crate) mod types;

pub use types::*;
