//! The stand-in Mattermost against the recordings of real servers, and its traps.

mod support;
