//! `--property NAME=VALUE`: AMQP's message properties by their names.

use leveret_wire::Properties;

use super::name_and_value;
use crate::client::short;
use crate::failure::Failure;

type Text = fn(&mut Properties) -> &mut Option<Vec<u8>>;

const TEXTS: [(&str, Text); 8] = [
    ("content-encoding", |properties| &mut properties.content_encoding),
    ("correlation-id", |properties| &mut properties.correlation_id),
    ("reply-to", |properties| &mut properties.reply_to),
    ("expiration", |properties| &mut properties.expiration),
    ("message-id", |properties| &mut properties.message_id),
    ("type", |properties| &mut properties.kind),
    ("user-id", |properties| &mut properties.user_id),
    ("app-id", |properties| &mut properties.app_id),
];

/// Sets the property in `text`, `NAME=VALUE`; a name may be written with `_` for `-`.
///
/// # Errors
/// No such property, or it cannot have this value.
pub(super) fn set_property(properties: &mut Properties, text: &str) -> Result<(), Failure> {
    let (name, value) = name_and_value("--property", text)?;
    let name = name.replace('_', "-");
    match name.as_str() {
        "delivery-mode" => properties.delivery_mode = Some(number(&name, value)?),
        "priority" => properties.priority = Some(number(&name, value)?),
        "timestamp" => properties.timestamp = Some(number(&name, value)?),
        _ => {
            let (_, place) = TEXTS.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(&name))?;
            *place(properties) = Some(short(&name, value)?.into_bytes());
        }
    }
    Ok(())
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
        let mut properties = Properties::default();
        let outcome = match set_property(&mut properties, text) {
            Ok(()) => format!("{properties:?}"),
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
            check(&format!("{name}=x"), "Some([120])");
        }
    }
}
