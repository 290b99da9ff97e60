//! Scenarios: what a client sends and what the broker must answer, as data.
//!
//! A file holds scenarios; a scenario is a name and steps, one a line. A step starts with who: a connection
//! (a letter), a channel (a number, of connection `a`), or both (`b.1`).
//!
//! ```text
//! scenario delete-missing-queue
//!   1> queue.delete queue=%q             send; a connection and a channel open at their first use
//!   1< queue.delete-ok message-count=0   expect next on that channel; what is not named is zero, empty or false
//!   1: queue.declare queue=%q            setup: send, and expect the -ok with whatever it says
//!   1! 404 queue.bind "no queue '%q' …"  expect channel.close with this code, method and text; answer close-ok
//!   a! 540 - "…"                         the same for connection.close, then the end of the socket
//!   | 1< …                               neighbouring lines with a bar may come in any order
//!   1~ queue.declare … => queue.declare-ok …   ask again until the answer fits (5 s)
//!   1 acked 1..3                         basic.ack, coalesced in whatever way, of exactly these
//!   a connect user=limited vhost=other   open with options (password, frame-max, heartbeat, channels=manual …);
//!                                        with open=manual connection.open is the scenario's
//!   a socket                             a bare socket: no header sent
//!   a> bytes "AMQP" hex(00 00 09 01)     raw bytes;  1> frame 3 "x" a raw frame;  1> header 60 size=5
//!   a< bytes "AMQP" hex(00 00 09 01)     expect raw bytes;  a< closed  a< refused  1< nothing 100ms
//!   a close   1 close   a disconnect     orderly close of connection, of channel; end of the socket
//!   wait 100ms
//!   policy %p ^%q queues {max-length=2}  what an operator does beside the protocol: see `scenario/order.rs`
//! ```
//!
//! A line that starts with `#` is a comment. In an expectation `...` at the end allows further fields.

mod order;
mod parse;
pub(crate) mod peer;
mod play;
pub mod term;

use std::time::Duration;

pub use order::{Operator, Order, OrderTerm};
pub use parse::{ParseError, parse};
pub use play::{Failure, Target, check, check_and_leave};

use term::Term;

/// A named sequence of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Unique: `file/name`.
    pub id: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// One line of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Line number in its file, from 1.
    pub line: usize,
    /// The line, for messages.
    pub text: String,
    /// What to do.
    pub action: Action,
}

/// A connection, and a channel of it (0: the connection itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The connection's letter.
    pub connection: String,
    /// The channel number.
    pub channel: u16,
}

/// A method to send or to expect.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageTerm {
    /// Its name in the table of methods.
    pub method: &'static str,
    /// The fields that were written.
    pub fields: Vec<(String, Term)>,
    /// The properties, a table term, when written.
    pub properties: Option<Term>,
    /// The body, when written.
    pub body: Option<Term>,
    /// Ends in dots: other fields may have any value.
    pub is_open: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Opens a connection with options.
    Connect(Place, Vec<(String, Term)>),
    /// Opens a bare socket.
    Socket(Place),
    /// Sends a method, and its content if it has any.
    Send(Place, MessageTerm),
    /// Sends a method and expects its -ok.
    Ask(Place, MessageTerm),
    /// Sends bytes.
    SendBytes(Place, Vec<Term>),
    /// Sends one frame of any kind with any payload.
    SendFrame(Place, u8, Vec<Term>),
    /// Sends a content header.
    SendHeader {
        /// Where.
        place: Place,
        /// The class it claims.
        class_id: u16,
        /// The body size it claims.
        body_size: u64,
        /// Its properties.
        properties: Option<Term>,
    },
    /// Expects methods, each once, in any order.
    Expect(Vec<(Place, MessageTerm)>),
    /// Expects channel.close or connection.close.
    ExpectError {
        /// Channel 0 means the connection.
        place: Place,
        /// The reply code.
        code: u16,
        /// Class and method id to blame; 0 and 0 are none.
        method: (u16, u16),
        /// The text after `CODE_NAME - `.
        text: Term,
    },
    /// Expects bytes that are no frame.
    ExpectBytes(Place, Vec<Term>),
    /// Expects the end of the socket.
    ExpectClosed(Place),
    /// Expects the end of the socket, with or without a connection.close (or close-ok) before it.
    ExpectRefused(Place),
    /// Expects silence.
    ExpectNothing(Place, Duration),
    /// Expects a heartbeat.
    ExpectHeartbeat(Place, Duration),
    /// Asks until the answer fits.
    Poll(Place, MessageTerm, MessageTerm),
    /// Expects confirms of exactly these publishes.
    ExpectAcked {
        /// Where.
        place: Place,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// Closes in order.
    Close(Place),
    /// Ends the socket.
    Disconnect(Place),
    /// Lets time pass.
    Wait(Duration),
    /// Has the operator do something; with a text: expects to be refused so.
    Order(OrderTerm, Option<Term>),
}
