//! Shovels: what they are doing. Setting one up is setting a parameter of component `shovel`.

use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::shovels::ShovelStatus;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/shovels",
        access: Access::Monitoring,
        about: "All shovels and what they are doing",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/shovels/{vhost}",
        access: Access::Monitoring,
        about: "The shovels of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/shovels/vhost/{vhost}/{name}",
        access: Access::Monitoring,
        about: "A shovel and what it is doing",
        handler: one,
    },
    Route {
        method: Method::DELETE,
        path: "/api/shovels/vhost/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Deletes a shovel with its parameter",
        handler: delete,
    },
    Route {
        method: Method::DELETE,
        path: "/api/shovels/vhost/{vhost}/{name}/restart",
        access: Access::PolicyMaking,
        about: "Starts a shovel anew",
        handler: restart,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.param_if("vhost");
    vhost.map(|vhost| context.vhost(vhost)).transpose()?;
    let mut shovels = context.host.shovels().list();
    shovels.retain(|shovel| vhost.is_none_or(|vhost| shovel.vhost == vhost));
    listing::answer(request, shovels.into_iter().map(described).collect())
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("name"));
    let found =
        context.host.shovels().list().into_iter().find(|shovel| shovel.vhost == vhost && shovel.name == name);
    Ok(listing::one(request, described(found.ok_or_else(ApiError::not_found)?)))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let cleared = context.broker().clear_parameter("shovel", request.param("vhost"), request.param("name"));
    cleared.map_err(|_| ApiError::not_found())?;
    Ok(Answer::no_content())
}

fn restart(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    match context.host.shovels().restart(request.param("vhost"), request.param("name")) {
        true => Ok(Answer::no_content()),
        false => Err(ApiError::not_found()),
    }
}

fn described(shovel: ShovelStatus) -> Value {
    let mut described = json!({
        "name": shovel.name,
        "vhost": shovel.vhost,
        "type": "dynamic",
        "state": shovel.state,
        "timestamp": timestamp(shovel.since_s),
        "moved": shovel.moved,
    });
    if let Some(fields) = described.as_object_mut() {
        fields.extend(shovel.about);
        fields.extend(shovel.reason.map(|reason| ("reason".to_owned(), Value::String(reason))));
    }
    described
}

/// RabbitMQ's form: `2026-11-21 17:03:08`.
fn timestamp(since_s: u64) -> String {
    let (days, second) = (since_s / 86_400, since_s % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

/// Year, month and day of a number of days since 1970, by eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rabbitmqs() {
        let check = |since_s, expected: &str| assert_eq!(timestamp(since_s), expected);
        check(0, "1970-01-01 00:00:00");
        check(951_782_400, "2000-02-29 00:00:00");
        check(1_795_280_588, "2026-11-21 17:03:08");
        check(4_107_542_399, "2100-02-28 23:59:59");
        check(4_107_542_400, "2100-03-01 00:00:00");
    }
}
