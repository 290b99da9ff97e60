//! Runtime parameters: settings of what works beside the queues, such as shovels and federation, changed while the broker
//! runs and kept by it.
//!
//! ```text
//!   component ─┐
//!   vhost ─────┼─► JSON text, and who set it          name ─► JSON text       (a global parameter)
//!   name ──────┘
//! ```
//!
//! To the broker a value is text: what it means, its [`Component`] knows, which checks it before it is set and hears of
//! every change. A parameter of a component that nobody has added is refused, as in RabbitMQ without the plugin. Global
//! parameters belong to nobody and mean nothing to the broker. Setting and clearing are operations of the broker
//! ([`crate::ops::parameter`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::users::User;

/// The longest name of a parameter.
pub(crate) const NAME_MAX_BYTES: usize = 255;
/// The longest value.
pub(crate) const VALUE_MAX_BYTES: usize = 64 << 10;
const VERSION: u8 = 1;

/// A parameter of a component in a virtual host. Its value may hold passwords of other brokers, so it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Whose it is: `shovel`, `federation-upstream` and so on.
    pub component: String,
    /// The virtual host.
    pub vhost: String,
    /// Its name; unique for the component in the virtual host.
    pub name: String,
    /// JSON text of at most 64 KiB.
    pub value: Arc<str>,
    /// The name of the user that set it, on whose behalf the component acts. The user may be gone by now.
    pub set_by: String,
}

/// A parameter of no component and no virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalParameter {
    /// Its name.
    pub name: String,
    /// JSON text of at most 64 KiB.
    pub value: Arc<str>,
}

/// Something that is set up by parameters.
pub trait Component: Send + Sync {
    /// What its parameters are filed under.
    fn name(&self) -> &str;

    /// Checks a parameter before it is set by `user`, whose name it carries. With definitions, `user` has the permissions that they
    /// give, and virtual hosts that it may enter need not exist yet: nobody has permissions where there is none.
    ///
    /// # Errors
    /// Says what makes no sense or is not allowed, in RabbitMQ's words.
    fn check(&self, parameter: &Parameter, user: &User) -> Result<(), String>;

    /// Its parameters are others now: [`Broker::parameters_of`](crate::Broker::parameters_of) has them. Called by whoever
    /// changed one, so it must return at once.
    fn changed(&self);
}

/// All parameters, and the components that know what they mean.
#[derive(Default)]
pub(crate) struct Parameters {
    /// Held while one is changed and the change logged.
    pub(crate) changes: Mutex<()>,
    /// By component, virtual host and name.
    set: RwLock<BTreeMap<Place, Arc<Parameter>>>,
    global: RwLock<BTreeMap<String, Arc<str>>>,
    components: RwLock<Vec<Arc<dyn Component>>>,
}

/// Component, virtual host, name.
type Place = (String, String, String);

impl Parameters {
    pub(crate) fn add_component(&self, component: Arc<dyn Component>) {
        let mut components = self.components.write();
        components.retain(|known| known.name() != component.name());
        components.push(component);
    }

    pub(crate) fn component(&self, name: &str) -> Option<Arc<dyn Component>> {
        self.components.read().iter().find(|component| component.name() == name).cloned()
    }

    pub(crate) fn find(&self, component: &str, vhost: &str, name: &str) -> Option<Arc<Parameter>> {
        self.set.read().get(&place(component, vhost, name)).cloned()
    }

    /// Those that fit, in the order of component, virtual host and name.
    pub(crate) fn list(&self, fits: impl Fn(&Parameter) -> bool) -> Vec<Arc<Parameter>> {
        self.set.read().values().filter(|parameter| fits(parameter)).cloned().collect()
    }

    pub(crate) fn put(&self, parameter: Arc<Parameter>) {
        let place = place(&parameter.component, &parameter.vhost, &parameter.name);
        self.set.write().insert(place, parameter);
    }

    pub(crate) fn remove(&self, parameter: &Parameter) {
        self.set.write().remove(&place(&parameter.component, &parameter.vhost, &parameter.name));
    }

    pub(crate) fn global(&self, name: &str) -> Option<GlobalParameter> {
        let value = self.global.read().get(name)?.clone();
        Some(GlobalParameter { name: name.to_owned(), value })
    }

    pub(crate) fn globals(&self) -> Vec<GlobalParameter> {
        let parameter = |(name, value): (&String, &Arc<str>)| GlobalParameter {
            name: name.clone(),
            value: value.clone(),
        };
        self.global.read().iter().map(parameter).collect()
    }

    pub(crate) fn put_global(&self, name: &str, value: Arc<str>) {
        self.global.write().insert(name.to_owned(), value);
    }

    pub(crate) fn remove_global(&self, name: &str) {
        self.global.write().remove(name);
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("set", &self.set.read().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component, vhost, name, .. } = self;
        write!(f, "Parameter({component} '{name}' in vhost '{vhost}')")
    }
}

impl Parameter {
    /// The record for the store: `version u8 = 1 │ length u32 │ who set it │ value`, numbers little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = vec![VERSION];
        record.extend_from_slice(&(self.set_by.len() as u32).to_le_bytes());
        record.extend_from_slice(self.set_by.as_bytes());
        record.extend_from_slice(self.value.as_bytes());
        record
    }

    /// Reads a record back; `None` if it is damaged or of another version.
    pub(crate) fn decode(component: &str, vhost: &str, name: &str, record: &[u8]) -> Option<Self> {
        let (&[VERSION, ..], rest) = record.split_first_chunk::<1>()? else { return None };
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (set_by, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let text = |octets| Some(std::str::from_utf8(octets).ok()?.to_owned());
        let (component, vhost, name) = place(component, vhost, name);
        Some(Self { component, vhost, name, value: text(value)?.into(), set_by: text(set_by)? })
    }
}

/// The record of a global parameter: `version u8 = 1 │ value`.
pub(crate) fn encode_global(value: &str) -> Vec<u8> {
    [&[VERSION], value.as_bytes()].concat()
}

/// Reads the record of a global parameter back.
pub(crate) fn decode_global(record: &[u8]) -> Option<Arc<str>> {
    let (&[VERSION, ..], value) = record.split_first_chunk::<1>()? else { return None };
    Some(std::str::from_utf8(value).ok()?.into())
}

fn place(component: &str, vhost: &str, name: &str) -> Place {
    (component.to_owned(), vhost.to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Parameter {
        Parameter {
            component: "shovel".into(),
            vhost: "/".into(),
            name: "s".into(),
            value: r#"{"src-uri":"amqp://ü"}"#.into(),
            set_by: "guest".into(),
        }
    }

    #[test]
    fn a_record_gives_the_same_parameter_back() {
        let record = sample().encode();
        assert_eq!(Parameter::decode("shovel", "/", "s", &record), Some(sample()));
        assert_eq!(decode_global(&encode_global("[1]")).as_deref(), Some("[1]"));
    }

    #[test]
    fn damaged_records_are_refused() {
        let record = sample().encode();
        for end in 0..1 + 4 + "guest".len() {
            assert_eq!(Parameter::decode("shovel", "/", "s", &record[..end]), None, "cut at {end}");
        }
        let newer = [&[2], &record[1..]].concat();
        assert_eq!(Parameter::decode("shovel", "/", "s", &newer), None);
        assert_eq!((decode_global(&[]), decode_global(&[2, b'1'])), (None, None));
    }

    #[test]
    fn what_is_printed_of_parameters_holds_no_value() {
        let parameters = Parameters::default();
        parameters.put(sample().into());
        assert!(!format!("{parameters:?} {:?}", sample()).contains("amqp"));
    }
}
