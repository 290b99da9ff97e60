//! A message around the whole broker: declared, published, fetched.

use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::{Batch, Channel, MessageView};
use leveret_wire::{FieldTable, RawProperties};
use serde_json::json;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[Route {
    method: Method::GET,
    path: "/api/aliveness-test/{vhost}",
    access: Access::VHost,
    about: "Declares a queue, publishes to it and fetches from it",
    handler: test,
}];

/// RabbitMQ's name of the queue; like there, it stays.
const QUEUE: &str = "aliveness-test";
const BODY: &[u8] = b"test_message";

fn test(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    context.act(&request.caller()?, request.param("vhost"), |channel, _, batch| around(channel, batch))?;
    Ok(Answer::json(&json!({ "status": "ok" })))
}

fn around(channel: &mut Channel, batch: &mut Batch) -> Result<(), ApiError> {
    let queue = DeclareQueue {
        name: QUEUE,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    channel.declare_queue(queue, batch)?;
    let message = MessageView {
        exchange: "",
        routing_key: QUEUE,
        // No property at all: two octets of flags.
        properties: RawProperties::from_validated(&[0, 0]),
        body: BODY,
    };
    channel.publish(Publish { message, mandatory: false, immediate: false }, batch)?;
    // Somebody else's test may have fetched it: then theirs is another one's, and the broker works all the same.
    channel.get(QUEUE, true, batch)?;
    Ok(())
}
