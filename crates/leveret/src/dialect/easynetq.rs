//! EasyNetQ.
//!
//! ```text
//!  request   exchange easy_net_q_rpc, key and type = "Acme.ForecastRequest, Acme.Messages"      JSON
//!  answer    to the queue reply_to, type = "Acme.ForecastResponse, Acme.Messages"               JSON
//!  failure   headers IsFaulted = true, ExceptionMessage = text                                  no body
//! ```
//!
//! The caller finds its .NET class by the answer's `type`, which a request does not name. A caller can say it in the
//! header `rpc-accept`; otherwise the last `Request` in the class's name becomes `Response`, as most people name them.

use leveret_wire::Properties;

use super::delivery::{Delivery, fits};
use super::{Dialect, ERROR_MAX_BYTES, Envelope, OutgoingCall, OutgoingRequest, Wrapper};
use super::{cut, short, text};
use crate::profile::ACCEPT;
use crate::{Code, Failure, Payload};

const EXCHANGE: &str = "easy_net_q_rpc";
const IS_FAULTED: &str = "IsFaulted";
const EXCEPTION_MESSAGE: &str = "ExceptionMessage";

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let request_type = delivery.kind().filter(|_| delivery.exchange == EXCHANGE)?;
    let named = delivery.header_text(ACCEPT).filter(|name| name.contains(", ") && fits(name.as_bytes()));
    let answer_type = named.map_or_else(|| answer_type(request_type), str::to_owned);
    let envelope = delivery.envelope(Dialect::EasyNetQ, Wrapper::EasyNetQ { answer_type });
    let mut payload = envelope.payload;
    // Its serializer does not say that it writes JSON.
    payload.content_type = payload.content_type.or(Some("application/json".into()));
    Some(Envelope { method: Some(method(class(request_type).1)), payload, ..envelope })
}

/// `Acme.ForecastRequest, Acme.Messages` in namespace with dot, class, and the rest.
fn class(type_name: &str) -> (&str, &str, &str) {
    // Older versions separate the assembly by a colon. Type arguments have brackets and names of their own.
    let end = type_name.find([',', ':', '[', '`']).unwrap_or(type_name.len());
    let (qualified, assembly) = type_name.split_at(end);
    let start = qualified.rfind(['.', '+']).map_or(0, |dot| dot + 1);
    let (namespace, class) = qualified.split_at(start);
    (namespace, class, assembly)
}

fn answer_type(request_type: &str) -> String {
    let (namespace, class, assembly) = class(request_type);
    match class.rsplit_once("Request") {
        Some((before, after)) => {
            let answer_type = format!("{namespace}{before}Response{after}{assembly}");
            if fits(answer_type.as_bytes()) { answer_type } else { request_type.to_owned() }
        }
        None => request_type.to_owned(),
    }
}

/// `ForecastRequest` asks for `forecast`, `ComparePlaces` for `compare_places`.
fn method(class: &str) -> String {
    let name = class.strip_suffix("Request").filter(|name| !name.is_empty()).unwrap_or(class);
    let mut method = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !method.is_empty() {
            method.push('_');
        }
        method.extend(letter.to_lowercase());
    }
    method
}

pub(super) fn failure() -> Payload {
    Payload::default()
}

/// What every answer says in properties.
pub(super) fn mark(answer_type: &str, failure: Option<&Failure>, properties: &mut Properties) {
    properties.kind = short(answer_type);
    if let Some(failure) = failure {
        let headers = properties.headers.get_or_insert_default();
        headers.insert(IS_FAULTED, true);
        headers.insert(EXCEPTION_MESSAGE, text(cut(&failure.message, ERROR_MAX_BYTES)));
    }
}

pub(super) fn answer(delivery: &Delivery<'_>, payload: Payload) -> Result<Payload, Failure> {
    let faulted = delivery.header(IS_FAULTED).is_some_and(|value| value.as_bool() == Some(true))
        || delivery.header_text(IS_FAULTED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if faulted {
        let message = delivery.header_text(EXCEPTION_MESSAGE).unwrap_or("the exception has no message");
        return Err(Failure::new(Code::Unknown, message));
    }
    let content_type = payload.content_type.or(Some("application/json".into()));
    Ok(Payload { content_type, ..payload })
}

pub(super) fn request(call: &OutgoingCall<'_>) -> OutgoingRequest {
    let mut request = call.to_queue(call.payload.clone());
    request.exchange = EXCHANGE.into();
    request.properties.kind = short(call.service);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_type_names() {
        for (request_type, method_name, answer) in [
            ("Acme.ForecastRequest, Acme.Messages", "forecast", "Acme.ForecastResponse, Acme.Messages"),
            ("Acme.Weather+ComparePlaces, Acme", "compare_places", "Acme.Weather+ComparePlaces, Acme"),
            ("Acme.Requests.ForecastRequest:Acme", "forecast", "Acme.Requests.ForecastResponse:Acme"),
            ("Request", "request", "Response"),
            ("Acme.Box`1[[Acme.Hen, Acme]], Acme", "box", "Acme.Box`1[[Acme.Hen, Acme]], Acme"),
            ("", "", ""),
        ] {
            assert_eq!(method(class(request_type).1), method_name, "{request_type}");
            assert_eq!(answer_type(request_type), answer, "{request_type}");
        }
        assert!(fits(answer_type(&format!("{}Request", "x".repeat(248))).as_bytes()));
    }
}
