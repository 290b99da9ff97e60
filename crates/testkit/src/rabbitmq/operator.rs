//! Policies, limits, virtual hosts and users of a private node, through `rabbitmqctl`.

use leveret_wire::{FieldTable, FieldValue};

use super::RabbitMq;
use crate::scenario::{Operator, Order};

/// What a user who may do anything is allowed to configure, write and read.
const EVERYTHING: &str = ".*";

impl Operator for RabbitMq {
    fn carry_out(&self, order: &Order) -> Result<(), String> {
        for command in commands(order) {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            self.ctl(&words).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// The commands that an order takes.
fn commands(order: &Order) -> Vec<Vec<String>> {
    match order {
        Order::SetPolicy { is_operators, name, pattern, apply_to, priority, definition } => {
            let verb = if *is_operators { "set_operator_policy" } else { "set_policy" };
            let priority = priority.to_string();
            let options = [verb, "--priority", &priority, "--apply-to", apply_to, name, pattern];
            vec![command(&options, Some(definition))]
        }
        Order::ClearPolicy { is_operators, name } => {
            let verb = if *is_operators { "clear_operator_policy" } else { "clear_policy" };
            vec![command(&[verb, name], None)]
        }
        Order::AddVHost(name) => vec![command(&["add_vhost", name], None), permit("guest", name)],
        Order::AddUser { name, vhost } => {
            vec![command(&["add_user", name, name], None), permit(name, vhost)]
        }
        Order::LimitVHost(vhost, limits) => vec![command(&["set_vhost_limits", "-p", vhost], Some(limits))],
        Order::LimitUser(user, limits) => vec![command(&["set_user_limits", user], Some(limits))],
    }
}

fn command(words: &[&str], definition: Option<&FieldTable>) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain(definition.map(json_object)).collect()
}

fn permit(user: &str, vhost: &str) -> Vec<String> {
    command(&["set_permissions", "-p", vhost, user, EVERYTHING, EVERYTHING, EVERYTHING], None)
}

fn json_object(table: &FieldTable) -> String {
    let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{}:{}", string(key), json(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn json(value: &FieldValue) -> String {
    match value {
        FieldValue::Bool(flag) => flag.to_string(),
        FieldValue::F32(number) => number.to_string(),
        FieldValue::F64(number) => number.to_string(),
        FieldValue::Array(items) => {
            format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
        }
        FieldValue::Table(table) => json_object(table),
        FieldValue::LongString(octets) => string(&String::from_utf8_lossy(octets)),
        other => other.as_i64().map_or_else(|| "null".into(), |number| number.to_string()),
    }
}

/// Scenarios have no control characters in their settings.
fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_command() {
        let order = Order::SetPolicy {
            is_operators: true,
            name: "p".into(),
            pattern: "^q".into(),
            apply_to: "queues".into(),
            priority: 3,
            definition: FieldTable(vec![
                ("max-length".into(), FieldValue::I32(5)),
                ("overflow".into(), FieldValue::LongString(b"drop-\"head".to_vec())),
            ]),
        };
        let json = r#"{"max-length":5,"overflow":"drop-\"head"}"#;
        let expected = ["set_operator_policy", "--priority", "3", "--apply-to", "queues", "p", "^q", json]
            .map(String::from);
        assert_eq!(commands(&order), [expected.to_vec()]);
    }
}
