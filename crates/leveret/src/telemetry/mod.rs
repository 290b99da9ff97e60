//! Where a call or a piece of work begins and ends, as tracing systems see it.
//!
//! With the feature `otel`, spans and metrics go to the program's OpenTelemetry providers, named by the messaging and RPC
//! conventions; without it only the W3C trace context travels on.
//!
//! ```text
//!   caller: span CLIENT `weather.ohio/forecast` ──traceparent──▶ worker: span SERVER, its child
//!           rpc.client.call.duration                              rpc.server.call.duration
//!           messaging.client.operation.duration                   messaging.process.duration
//! ```

#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
mod untraced;

#[cfg(feature = "otel")]
pub(crate) use otel::{AskSpan, WorkSpan};
#[cfg(not(feature = "otel"))]
pub(crate) use untraced::{AskSpan, WorkSpan};

/// What is asked, and where.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: Option<&'a str>,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    /// Somebody waits for an answer.
    pub(crate) is_call: bool,
    pub(crate) body_bytes: usize,
}

/// What is worked on.
#[derive(Clone, Copy)]
pub(crate) struct Taken<'a> {
    pub(crate) service: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) method: Option<&'a str>,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) correlation_id: Option<&'a [u8]>,
    pub(crate) body_bytes: usize,
}
