//! All that knows Mattermost's REST API v4: its values, its calls, and its rule for mentions.

mod markdown;
pub mod mention;
pub mod types;

pub use types::*;
