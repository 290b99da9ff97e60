//! Nobody records spans: the trace context travels on, and beginnings are trace events.

use std::future::Future;

use super::{Asked, Taken};
use crate::Failure;
use crate::trace::TraceContext;

pub(crate) struct AskSpan {
    trace: Option<TraceContext>,
}

impl AskSpan {
    pub(crate) fn begin(asked: Asked<'_>, inherited: Option<&TraceContext>) -> AskSpan {
        let Asked { service, method, exchange, routing_key, is_call, body_bytes } = asked;
        tracing::trace!(service, method, exchange, routing_key, is_call, body_bytes, "asking");
        AskSpan { trace: inherited.map(TraceContext::child) }
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    pub(crate) fn end(self, _error: Option<(&'static str, String)>) {}
}

pub(crate) struct WorkSpan {
    trace: Option<TraceContext>,
}

impl WorkSpan {
    pub(crate) fn begin(taken: Taken<'_>, parent: Option<&TraceContext>) -> WorkSpan {
        let Taken { service, queue, method, message_id, correlation_id, body_bytes } = taken;
        tracing::trace!(service, queue, method, message_id, ?correlation_id, body_bytes, "working");
        WorkSpan { trace: parent.cloned() }
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    pub(crate) async fn around<F: Future>(&self, work: F) -> F::Output {
        work.await
    }

    pub(crate) fn end(self, _failure: Option<&Failure>) {}
}
