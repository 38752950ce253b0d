//! What the tests stand on: servers that run in their own process, and a clock they hold.

pub mod clock;
pub mod mattermost;
pub mod wire;
