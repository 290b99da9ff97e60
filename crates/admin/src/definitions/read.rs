//! JSON as definitions.

use leveret_broker::definitions::{
    DefinedBinding, DefinedExchange, DefinedParameter, DefinedPermissions, DefinedQueue,
    DefinedTopicPermissions, DefinedUser, Definitions,
};
use leveret_broker::parameters::GlobalParameter;
use leveret_broker::policies::Author;
use leveret_broker::{UserLimits, VHostLimits, VHostMetadata};
use leveret_wire::FieldTable;
use serde_json::{Map, Value};

use crate::api::parameters::{LIMITS, OPERATOR_POLICY};
use crate::api::policies::read as read_policy;
use crate::api::users::{NewPassword, tags};
use crate::api::{permissions, vhost_changes};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::json_table;

/// What of a file counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// All of it.
    Everything,
    /// What can be in a virtual host; it is put into this one.
    In(&'a str),
}

/// Reads a file. Lists that it does not have are empty, and what nobody knows is passed over.
///
/// # Errors
/// 400, and what makes no sense.
pub(crate) fn read(file: &[u8], scope: Scope<'_>) -> Result<Definitions, ApiError> {
    let file = match serde_json::from_slice(file) {
        Ok(Value::Object(file)) => file,
        Ok(_) => return Err(ApiError::bad_request("failed_to_parse_json: definitions are an object")),
        Err(error) => return Err(ApiError::bad_request(format!("failed_to_parse_json: {error}"))),
    };
    let mut reader = Reader { scope, definitions: Definitions::default() };
    if let Scope::Everything = scope {
        each(&file, "vhosts", |one| reader.vhost(one))?;
        each(&file, "users", |one| reader.user(one))?;
        each(&file, "permissions", |one| reader.permissions(one))?;
        each(&file, "topic_permissions", |one| reader.topic_permissions(one))?;
        each(&file, "global_parameters", |one| reader.global_parameter(one))?;
    }
    each(&file, "parameters", |one| reader.parameter(one))?;
    each(&file, "policies", |one| reader.policy(one, Author::User))?;
    each(&file, "queues", |one| reader.queue(one))?;
    each(&file, "exchanges", |one| reader.exchange(one))?;
    each(&file, "bindings", |one| reader.binding(one))?;
    Ok(reader.definitions)
}

/// Reads each object of a list; a refusal says which one it was.
fn each(
    file: &Map<String, Value>,
    list: &str,
    mut read: impl FnMut(&Fields) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let items = match file.get(list) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(ApiError::bad_request(format!("{list} must be a list"))),
    };
    for (place, item) in items.iter().enumerate() {
        let Value::Object(item) = item else {
            return Err(ApiError::bad_request(format!("{list}[{place}] must be an object")));
        };
        read(&Fields::of_object(item.clone()))
            .map_err(|error| ApiError { reason: format!("{list}[{place}]: {}", error.reason), ..error })?;
    }
    Ok(())
}

struct Reader<'a> {
    scope: Scope<'a>,
    definitions: Definitions,
}

impl Reader<'_> {
    /// The virtual host that something is in.
    fn place(&self, one: &Fields) -> Result<String, ApiError> {
        match self.scope {
            Scope::Everything => text(one, "vhost"),
            Scope::In(vhost) => Ok(vhost.to_owned()),
        }
    }

    fn vhost(&mut self, one: &Fields) -> Result<(), ApiError> {
        let said = ["description", "tags", "default_queue_type", "metadata"];
        let metadata = match said.iter().any(|name| one.has(name)) {
            true => Some(vhost_changes::read(one, VHostMetadata::default())?),
            false => None,
        };
        self.definitions.vhosts.push((text(one, "name")?, metadata));
        Ok(())
    }

    fn user(&mut self, one: &Fields) -> Result<(), ApiError> {
        let limits = match one.has("limits") {
            true => Some(UserLimits::parse(&settings(one, "limits")?)?),
            false => None,
        };
        let user = DefinedUser {
            name: text(one, "name")?,
            tags: tags(one)?,
            password: NewPassword::of(one)?.hash()?,
            limits,
        };
        self.definitions.users.push(user);
        Ok(())
    }

    fn permissions(&mut self, one: &Fields) -> Result<(), ApiError> {
        let permissions = permissions::read(one)?;
        let (user, vhost) = (text(one, "user")?, text(one, "vhost")?);
        self.definitions.permissions.push(DefinedPermissions { user, vhost, permissions });
        Ok(())
    }

    fn topic_permissions(&mut self, one: &Fields) -> Result<(), ApiError> {
        self.definitions.topic_permissions.push(DefinedTopicPermissions {
            user: text(one, "user")?,
            vhost: text(one, "vhost")?,
            exchange: text(one, "exchange")?,
            write: text(one, "write")?,
            read: text(one, "read")?,
        });
        Ok(())
    }

    fn global_parameter(&mut self, one: &Fields) -> Result<(), ApiError> {
        let value = json(one)?.into();
        self.definitions.global_parameters.push(GlobalParameter { name: text(one, "name")?, value });
        Ok(())
    }

    /// What is a parameter in RabbitMQ only goes where it belongs.
    fn parameter(&mut self, one: &Fields) -> Result<(), ApiError> {
        let (component, vhost, name) = (text(one, "component")?, self.place(one)?, text(one, "name")?);
        let author = match component.as_str() {
            of if of == LIMITS.0 => {
                let limits = VHostLimits::parse(&settings(one, "value")?)?;
                self.definitions.vhost_limits.push((vhost, limits));
                return Ok(());
            }
            OPERATOR_POLICY => Author::Operator,
            "policy" => Author::User,
            _ => {
                let value = json(one)?;
                self.definitions.parameters.push(DefinedParameter { component, vhost, name, value });
                return Ok(());
            }
        };
        let value = match one.value("value") {
            Some(Value::Object(value)) => Fields::of_object(value.clone()),
            _ => return Err(ApiError::bad_request("a policy is an object")),
        };
        self.definitions.policies.push((vhost, author, read_policy(author, &name, &value)?));
        Ok(())
    }

    fn policy(&mut self, one: &Fields, author: Author) -> Result<(), ApiError> {
        let policy = read_policy(author, &text(one, "name")?, one)?;
        self.definitions.policies.push((self.place(one)?, author, policy));
        Ok(())
    }

    fn queue(&mut self, one: &Fields) -> Result<(), ApiError> {
        let mut arguments = one.arguments("arguments")?;
        // Later versions say the type beside the arguments, too.
        if let (Some(kind @ ("quorum" | "stream")), None) =
            (one.text_if("type")?, arguments.get("x-queue-type"))
        {
            arguments.push("x-queue-type", kind);
        }
        self.definitions.queues.push(DefinedQueue {
            vhost: self.place(one)?,
            name: text(one, "name")?,
            durable: one.flag("durable")?,
            auto_delete: one.flag("auto_delete")?,
            arguments,
        });
        Ok(())
    }

    fn exchange(&mut self, one: &Fields) -> Result<(), ApiError> {
        self.definitions.exchanges.push(DefinedExchange {
            vhost: self.place(one)?,
            name: text(one, "name")?,
            kind: text(one, "type")?,
            durable: one.flag("durable")?,
            auto_delete: one.flag("auto_delete")?,
            internal: one.flag("internal")?,
            arguments: one.arguments("arguments")?,
        });
        Ok(())
    }

    fn binding(&mut self, one: &Fields) -> Result<(), ApiError> {
        let to_queue = match one.text("destination_type")? {
            "queue" => true,
            "exchange" => false,
            _ => return Err(ApiError::bad_request("destination_type is `queue` or `exchange`")),
        };
        self.definitions.bindings.push(DefinedBinding {
            vhost: self.place(one)?,
            source: text(one, "source")?,
            to_queue,
            destination: text(one, "destination")?,
            routing_key: one.text_if("routing_key")?.unwrap_or_default().to_owned(),
            arguments: one.arguments("arguments")?,
        });
        Ok(())
    }
}

fn text(one: &Fields, name: &str) -> Result<String, ApiError> {
    one.text(name).map(str::to_owned)
}

fn json(one: &Fields) -> Result<String, ApiError> {
    one.require(&["value"])?;
    Ok(one.value("value").map(Value::to_string).unwrap_or_default())
}

/// An object; RabbitMQ writes an empty one as an empty list.
fn settings(one: &Fields, name: &str) -> Result<FieldTable, ApiError> {
    match one.value(name) {
        Some(Value::Array(none)) if none.is_empty() => Ok(FieldTable::new()),
        Some(Value::Object(object)) => json_table::settings(object),
        _ => Err(ApiError::bad_request(format!("{name} must be an object"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A value of any kind, mostly one that is expected somewhere.
    fn anything() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z/.*(^]{0,8}|quorum|topic|queue|vhost-limits|operator_policy".prop_map(Value::from),
            Just(json!([])),
            Just(json!({"max-length": 5, "pattern": "", "definition": {"max-length": 1}})),
        ]
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(
            list in "vhosts|users|permissions|topic_permissions|parameters|policies|queues|exchanges|bindings",
            item in proptest::collection::btree_map(
                "name|vhost|tags|limits|password_hash|configure|write|read|component|value|pattern|definition|durable|arguments|type|source|destination|destination_type|routing_key|exchange|user|metadata",
                anything(),
                0..8,
            ),
        ) {
            let file = json!({ list: [item] }).to_string();
            // What is read is checked by the broker; what is not says why.
            if let Err(error) = read(file.as_bytes(), Scope::Everything) {
                prop_assert!(error.status.is_client_error() && !error.reason.is_empty(), "{error:?}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let check = |file: &str, expected: &str| {
            let error = read(file.as_bytes(), Scope::Everything).unwrap_err();
            assert!(error.reason.contains(expected), "{file}: {}", error.reason);
        };
        check("x", "failed_to_parse_json");
        check("[]", "failed_to_parse_json");
        check(r#"{"users":5}"#, "users must be a list");
        check(r#"{"users":[5]}"#, "users[0] must be an object");
        check(r#"{"users":[{"name":"u"}]}"#, "users[0]: tags_not_present");
        check(r#"{"users":[{"name":"u","tags":"","password_hash":"x"}]}"#, "malformed");
        check(r#"{"vhosts":[{}]}"#, "vhosts[0]: [{key_missing,name}]");
        check(r#"{"queues":[{"name":"q"}]}"#, "queues[0]: [{key_missing,vhost}]");
        check(r#"{"queues":[{"name":"q","vhost":"/","durable":"x"}]}"#, "not_boolean");
        check(r#"{"policies":[{"name":"p","vhost":"/","pattern":"("}]}"#, "key_missing,definition");
        check(
            r#"{"parameters":[{"component":"vhost-limits","vhost":"/","name":"l","value":{"x":1}}]}"#,
            "Unrecognised",
        );
    }

    #[test]
    fn a_file_for_a_virtual_host_names_none() {
        let file = br#"{"queues":[{"name":"q","durable":true}],"users":[{}]}"#;
        let definitions = read(file, Scope::In("v")).unwrap();
        assert_eq!((definitions.queues[0].vhost.as_str(), definitions.users.len()), ("v", 0));
    }

    #[test]
    fn parameters_of_rabbitmq_go_where_they_belong() {
        let file = br#"{"parameters":[
            {"component":"vhost-limits","vhost":"/","name":"limits","value":[]},
            {"component":"operator_policy","vhost":"/","name":"p","value":{"pattern":"","definition":{"max-length":1}}},
            {"component":"shovel","vhost":"/","name":"s","value":{"src-uri":"amqp://"}}]}"#;
        let Definitions { vhost_limits, policies, parameters, .. } = read(file, Scope::Everything).unwrap();
        assert_eq!((vhost_limits.len(), policies.len(), parameters.len()), (1, 1, 1));
        assert_eq!(
            (policies[0].1, parameters[0].value.as_str()),
            (Author::Operator, r#"{"src-uri":"amqp://"}"#)
        );
    }
}
