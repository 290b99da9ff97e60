//! `--property NAME=VALUE`: AMQP's message properties by their names.

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::name_and_value;
use crate::client::short;
use crate::failure::Failure;

type SetText = fn(BasicProperties, ShortString) -> BasicProperties;

const TEXTS: [(&str, SetText); 8] = [
    ("content-encoding", BasicProperties::with_content_encoding),
    ("correlation-id", BasicProperties::with_correlation_id),
    ("reply-to", BasicProperties::with_reply_to),
    ("expiration", BasicProperties::with_expiration),
    ("message-id", BasicProperties::with_message_id),
    ("type", BasicProperties::with_type),
    ("user-id", BasicProperties::with_user_id),
    ("app-id", BasicProperties::with_app_id),
];

/// Sets the property in `text`, `NAME=VALUE`; a name may be written with `_` for `-`.
///
/// # Errors
/// No such property, or it cannot have this value.
pub(super) fn set_property(properties: BasicProperties, text: &str) -> Result<BasicProperties, Failure> {
    let (name, value) = name_and_value("--property", text)?;
    let name = name.replace('_', "-");
    match name.as_str() {
        "delivery-mode" => Ok(properties.with_delivery_mode(number(&name, value)?)),
        "priority" => Ok(properties.with_priority(number(&name, value)?)),
        "timestamp" => Ok(properties.with_timestamp(number(&name, value)?)),
        _ => {
            let (_, set) = TEXTS.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(&name))?;
            Ok(set(properties, short(&name, value)?))
        }
    }
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Failure> {
    value.parse().map_err(|_| Failure::Usage(format!("--property {name}: {value:?} is no such number")))
}

fn unknown(name: &str) -> Failure {
    let texts = TEXTS.map(|(known, _)| known).join(", ");
    Failure::Usage(format!(
        "--property: unknown {name:?}; allowed: {texts}, delivery-mode, priority, timestamp"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let outcome = match set_property(BasicProperties::default(), text) {
            Ok(properties) => format!("{properties:?}"),
            Err(failure) => failure.to_string(),
        };
        assert!(outcome.contains(expected), "{text}: {outcome}");
    }

    #[test]
    fn each_property_is_set_by_its_name() {
        check("priority=9", "priority: Some(9)");
        check("delivery_mode=2", "delivery_mode: Some(2)");
        check("timestamp=1700000000", "timestamp: Some(1700000000)");
        check("priority=256", "\"256\" is no such number");
        check("colour=red", "unknown \"colour\"; allowed: content-encoding");
        check("app-id", "expected NAME=VALUE");
        for (name, _) in TEXTS {
            check(&format!("{name}=x"), "Some(ShortString(\"x\"))");
        }
    }
}
