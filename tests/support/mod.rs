//! What the tests stand on: servers that run in their own process, and a clock they hold.
// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod bot;
pub mod clock;
pub mod footprint;
pub mod history;
pub mod mattermost;
pub mod model;
pub mod net;
pub mod soak;
pub mod wire;
