//! What tracing and metrics systems see of a call: one trace through caller, worker, and the calls it makes.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use leveret::{Client, Context, Failure};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Value, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

fn attribute(span: &SpanData, name: &str) -> Option<Value> {
    span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.clone())
}

/// One test, because the providers are the process'.
#[tokio::test]
async fn a_call_is_one_trace_and_is_measured() {
    let spans = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    global::set_tracer_provider(tracers.clone());
    let metrics = InMemoryMetricExporter::default();
    let meters =
        SdkMeterProvider::builder().with_reader(PeriodicReader::builder(metrics.clone()).build()).build();
    global::set_meter_provider(meters.clone());

    let client = Client::connect("embedded:").await.unwrap();
    let inner = leveret::handler(|_, ()| async { Err::<(), _>(Failure::not_found("nothing")) });
    let outer = leveret::handler(|cx: Context, ()| async move {
        let inner = cx.client().call::<_, ()>("inner", &()).await;
        Ok::<_, Failure>(inner.is_err())
    });
    let inner = client.serve("inner", inner).start().await.unwrap();
    let outer = client.serve("outer", outer).start().await.unwrap();
    assert!(client.call::<_, bool>("outer", &()).method("ask").await.unwrap());
    outer.drain().await;
    inner.drain().await;

    let spans = spans.get_finished_spans().unwrap();
    let find = |name: &str, kind: SpanKind| {
        spans.iter().find(|span| span.name == name && span.span_kind == kind).unwrap()
    };
    let asked = find("outer/ask", SpanKind::Client);
    let worked = find("outer/ask", SpanKind::Server);
    let nested = find("inner", SpanKind::Client);
    let failed = find("inner", SpanKind::Server);
    for (child, parent) in [(worked, asked), (nested, worked), (failed, nested)] {
        assert_eq!(child.parent_span_id, parent.span_context.span_id(), "{}", child.name);
        assert_eq!(child.span_context.trace_id(), asked.span_context.trace_id());
    }
    assert_eq!(attribute(asked, "messaging.system"), Some("rabbitmq".into()));
    assert_eq!(attribute(asked, "messaging.destination.name"), Some(":outer".into()));
    assert_eq!(attribute(worked, "messaging.operation.type"), Some("process".into()));
    assert!(attribute(worked, "messaging.message.conversation_id").is_some());
    assert_eq!(attribute(failed, "error.type"), Some("NOT_FOUND".into()));
    assert_eq!(attribute(nested, "error.type"), Some("remote".into()));
    assert_eq!(worked.status, Status::Unset);
    assert!(matches!(failed.status, Status::Error { .. }));

    meters.force_flush().unwrap();
    assert_eq!(measured(&metrics, "rpc.client.call.duration"), 2);
    assert_eq!(measured(&metrics, "rpc.server.call.duration"), 2);
    assert_eq!(measured(&metrics, "messaging.process.duration"), 2);
}

/// How many values a histogram has.
fn measured(metrics: &InMemoryMetricExporter, name: &str) -> u64 {
    let exported = metrics.get_finished_metrics().unwrap();
    let all = exported.iter().flat_map(|one| one.scope_metrics()).flat_map(|scope| scope.metrics());
    let counts = all.filter(|metric| metric.name() == name).map(|metric| match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram.data_points().map(|point| point.count()).sum()
        }
        _ => 0,
    });
    counts.max().unwrap_or(0)
}
