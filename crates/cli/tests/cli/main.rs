//! The real binary, as a user or a script runs it.

mod demo;
mod messages;
mod program;
mod serve;
