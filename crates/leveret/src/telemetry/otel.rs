//! OpenTelemetry's API; the program brings the SDK. Names: messaging and RPC conventions, `messaging.system` = `rabbitmq`
//! for every AMQP 0-9-1 broker.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Instant;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{
    FutureExt, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, global};

use super::{Asked, Taken};
use crate::Failure;
use crate::trace::TraceContext;

const SCOPE: &str = "leveret";
const SYSTEM: &str = "rabbitmq";

/// The span of whoever asks, from the question to its outcome.
pub(crate) struct AskSpan {
    span: Span,
    trace: Option<TraceContext>,
    is_call: bool,
}

impl AskSpan {
    pub(crate) fn begin(asked: Asked<'_>, inherited: Option<&TraceContext>) -> AskSpan {
        let destination = format!("{}:{}", asked.exchange, asked.routing_key);
        let shared = vec![
            KeyValue::new("messaging.system", SYSTEM),
            KeyValue::new("messaging.destination.name", destination),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.operation.type", "send"),
        ];
        let shared = with_rpc(shared, asked.service, asked.method);
        let kind = if asked.is_call { SpanKind::Client } else { SpanKind::Producer };
        let size = KeyValue::new("messaging.message.body.size", asked.body_bytes as i64);
        let span = Span::begin(asked.service, asked.method, kind, shared, vec![size], inherited);
        let trace = span.trace(inherited);
        AskSpan { span, trace, is_call: asked.is_call }
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// `error`: the kind of the error, and what it says.
    pub(crate) fn end(self, error: Option<(&'static str, String)>) {
        let attributes = self.span.end(error);
        let instruments = instruments();
        instruments.sent.add(1, &attributes.0);
        instruments.operation_duration.record(attributes.1, &attributes.0);
        if self.is_call {
            instruments.client_duration.record(attributes.1, &attributes.0);
        }
    }
}

/// The span of a worker, from the request to its answer.
pub(crate) struct WorkSpan {
    span: Span,
    trace: Option<TraceContext>,
}

impl WorkSpan {
    pub(crate) fn begin(taken: Taken<'_>, parent: Option<&TraceContext>) -> WorkSpan {
        let shared = vec![
            KeyValue::new("messaging.system", SYSTEM),
            KeyValue::new("messaging.destination.name", taken.queue.to_owned()),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
        ];
        let shared = with_rpc(shared, taken.service, taken.method);
        let mut own = vec![KeyValue::new("messaging.message.body.size", taken.body_bytes as i64)];
        if let Some(id) = taken.message_id {
            own.push(KeyValue::new("messaging.message.id", id.to_owned()));
        }
        if let Some(Ok(id)) = taken.correlation_id.map(std::str::from_utf8) {
            own.push(KeyValue::new("messaging.message.conversation_id", id.to_owned()));
        }
        let kind = if taken.correlation_id.is_some() { SpanKind::Server } else { SpanKind::Consumer };
        let span = Span::begin(taken.service, taken.method, kind, shared, own, parent);
        let trace = span.trace(parent);
        WorkSpan { span, trace }
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// Spans that the work opens are children of this one.
    pub(crate) async fn around<F: Future>(&self, work: F) -> F::Output {
        work.with_context(self.span.context.clone()).await
    }

    pub(crate) fn end(self, failure: Option<&Failure>) {
        let error = failure.map(|failure| (failure.code.name(), failure.message.clone()));
        let (attributes, seconds) = self.span.end(error);
        let instruments = instruments();
        instruments.consumed.add(1, &attributes);
        instruments.process_duration.record(seconds, &attributes);
        instruments.server_duration.record(seconds, &attributes);
    }
}

struct Span {
    context: Context,
    began: Instant,
    /// What the metrics have too.
    shared: Vec<KeyValue>,
}

impl Span {
    fn begin(
        service: &str,
        method: Option<&str>,
        kind: SpanKind,
        shared: Vec<KeyValue>,
        own: Vec<KeyValue>,
        remote: Option<&TraceContext>,
    ) -> Span {
        let name = match method {
            Some(method) => format!("{service}/{method}"),
            None => service.to_owned(),
        };
        let current = Context::current();
        let parent = match remote.and_then(span_context) {
            Some(remote) if !current.has_active_span() => current.with_remote_span_context(remote),
            _ => current,
        };
        let attributes = shared.iter().cloned().chain(own);
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        let span = global::tracer(SCOPE).build_with_context(builder, &parent);
        Span { context: parent.with_span(span), began: Instant::now(), shared }
    }

    /// What travels: this span, or without a recorder whatever came.
    fn trace(&self, inherited: Option<&TraceContext>) -> Option<TraceContext> {
        let own = self.context.span().span_context().clone();
        if !own.is_valid() {
            return inherited.map(TraceContext::child);
        }
        let flags = own.trace_flags().to_u8();
        let parent = format!("00-{}-{}-{flags:02x}", own.trace_id(), own.span_id());
        TraceContext::parse(&parent, Some(&own.trace_state().header()))
    }

    /// Ends the span; gives what the metrics need: attributes and seconds.
    fn end(self, error: Option<(&'static str, String)>) -> (Vec<KeyValue>, f64) {
        let Span { context, began, mut shared } = self;
        let span = context.span();
        if let Some((kind, message)) = error {
            shared.push(KeyValue::new("error.type", kind));
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(message));
        }
        span.end();
        (shared, began.elapsed().as_secs_f64())
    }
}

fn with_rpc(mut attributes: Vec<KeyValue>, service: &str, method: Option<&str>) -> Vec<KeyValue> {
    attributes.push(KeyValue::new("rpc.system.name", "leveret"));
    attributes.push(KeyValue::new("rpc.service", service.to_owned()));
    if let Some(method) = method {
        attributes.push(KeyValue::new("rpc.method", method.to_owned()));
    }
    attributes
}

fn span_context(trace: &TraceContext) -> Option<SpanContext> {
    let trace_id = TraceId::from_hex(&trace.trace_id()).ok()?;
    let span_id = SpanId::from_hex(&trace.span_id()).ok()?;
    let flags = if trace.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let state = trace.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace_id, span_id, flags, true, state))
}

struct Instruments {
    sent: Counter<u64>,
    consumed: Counter<u64>,
    operation_duration: Histogram<f64>,
    process_duration: Histogram<f64>,
    client_duration: Histogram<f64>,
    server_duration: Histogram<f64>,
}

/// Made once, from the provider that the program has set by then.
fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = global::meter(SCOPE);
        let seconds = |name: &'static str| meter.f64_histogram(name).with_unit("s").build();
        let messages = |name: &'static str| meter.u64_counter(name).with_unit("{message}").build();
        Instruments {
            sent: messages("messaging.client.sent.messages"),
            consumed: messages("messaging.client.consumed.messages"),
            operation_duration: seconds("messaging.client.operation.duration"),
            process_duration: seconds("messaging.process.duration"),
            client_duration: seconds("rpc.client.call.duration"),
            server_duration: seconds("rpc.server.call.duration"),
        }
    })
}
