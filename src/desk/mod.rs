//! The answers at work: who may go next.

pub mod turn;
