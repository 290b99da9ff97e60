//! Setting and clearing parameters.

use std::sync::Arc;

use leveret_store::MetaChange;

use crate::broker::Broker;
use crate::parameter_error::ParameterError;
use crate::parameters::{
    Component, GlobalParameter, NAME_MAX_BYTES, Parameter, Parameters, VALUE_MAX_BYTES, encode_global,
};
use crate::records::Key;
use crate::users::User;

/// A parameter to be set.
#[derive(Clone, Copy)]
pub struct SetParameter<'a> {
    /// Whose it is.
    pub component: &'a str,
    /// The virtual host.
    pub vhost: &'a str,
    /// Its name, 1 to 255 octets.
    pub name: &'a str,
    /// JSON text of at most 64 KiB. The door has parsed it.
    pub value: &'a str,
}

impl Broker {
    /// Adds a component, whose parameters can be set from now on. It replaces one of the same name.
    pub fn add_component(&self, component: Arc<dyn Component>) {
        self.parameters.add_component(component);
    }

    /// Sets a parameter on behalf of a user, or replaces the one of that name; its component hears of it. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host or component, it is too long, its component refuses it, or the log failed; nothing
    /// has changed then.
    pub fn set_parameter(&self, set: SetParameter<'_>, user: &User) -> Result<(), ParameterError> {
        let (owner, parameter) = self.check_parameter(&set, user)?;
        let vhost = set.vhost;
        let change = self.parameters.changes.lock();
        if self.vhost(vhost).is_none() {
            return Err(ParameterError::NoVHost(vhost.to_owned()));
        }
        self.keep(&key_of(&parameter), Some(parameter.encode()))?;
        self.parameters.put(parameter.into());
        drop(change);
        owner.changed();
        Ok(())
    }

    /// Asks a component about a parameter without setting it.
    pub(crate) fn check_parameter(
        &self,
        set: &SetParameter<'_>,
        user: &User,
    ) -> Result<(Arc<dyn Component>, Parameter), ParameterError> {
        let SetParameter { component, vhost, name, value } = *set;
        let unknown = || ParameterError::Invalid(format!("component {component} not found"));
        let owner = self.parameters.component(component).ok_or_else(unknown)?;
        check_lengths(name, value)?;
        let parameter = Parameter {
            component: component.to_owned(),
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            value: value.into(),
            set_by: user.name.clone(),
        };
        owner.check(&parameter, user).map_err(ParameterError::Invalid)?;
        Ok((owner, parameter))
    }

    /// Clears a parameter; its component hears of it. Durable once [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such parameter, or the log failed; nothing has changed then.
    pub fn clear_parameter(&self, component: &str, vhost: &str, name: &str) -> Result<(), ParameterError> {
        let change = self.parameters.changes.lock();
        let parameter = self.parameter(component, vhost, name).ok_or(ParameterError::Missing)?;
        self.forget(&[parameter])?;
        drop(change);
        tell(&self.parameters, component);
        Ok(())
    }

    /// Clears all parameters in a virtual host that is being deleted. To be called when nobody finds the virtual host any
    /// more, so that none is set afterwards.
    ///
    /// # Errors
    /// The log failed.
    pub fn clear_parameters_in(&self, vhost: &str) -> Result<(), ParameterError> {
        let change = self.parameters.changes.lock();
        let gone = self.parameters_in(vhost);
        self.forget(&gone)?;
        drop(change);
        for of_component in gone.chunk_by(|a, b| a.component == b.component) {
            tell(&self.parameters, &of_component[0].component);
        }
        Ok(())
    }

    /// All parameters, in the order of component, virtual host and name.
    pub fn parameters(&self) -> Vec<Arc<Parameter>> {
        self.parameters.list(|_| true)
    }

    /// The parameters of a component.
    pub fn parameters_of(&self, component: &str) -> Vec<Arc<Parameter>> {
        self.parameters.list(|parameter| parameter.component == component)
    }

    /// The parameters in a virtual host.
    pub fn parameters_in(&self, vhost: &str) -> Vec<Arc<Parameter>> {
        self.parameters.list(|parameter| parameter.vhost == vhost)
    }

    /// One parameter.
    pub fn parameter(&self, component: &str, vhost: &str, name: &str) -> Option<Arc<Parameter>> {
        self.parameters.find(component, vhost, name)
    }

    /// Sets a global parameter, or replaces it. Its value is JSON text that the door has parsed. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// It is too long, or the log failed; nothing has changed then.
    pub fn set_global_parameter(&self, name: &str, value: &str) -> Result<(), ParameterError> {
        check_lengths(name, value)?;
        let _change = self.parameters.changes.lock();
        self.keep(&Key::GlobalParameter(name.to_owned()), Some(encode_global(value)))?;
        self.parameters.put_global(name, value.into());
        Ok(())
    }

    /// Clears a global parameter. Durable once [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such parameter, or the log failed; nothing has changed then.
    pub fn clear_global_parameter(&self, name: &str) -> Result<(), ParameterError> {
        let _change = self.parameters.changes.lock();
        self.global_parameter(name).ok_or(ParameterError::Missing)?;
        self.keep(&Key::GlobalParameter(name.to_owned()), None)?;
        self.parameters.remove_global(name);
        Ok(())
    }

    /// All global parameters, by name.
    pub fn global_parameters(&self) -> Vec<GlobalParameter> {
        self.parameters.globals()
    }

    /// One global parameter.
    pub fn global_parameter(&self, name: &str) -> Option<GlobalParameter> {
        self.parameters.global(name)
    }

    fn forget(&self, gone: &[Arc<Parameter>]) -> Result<(), ParameterError> {
        let deletions: Vec<_> =
            gone.iter().map(|parameter| MetaChange::Delete(key_of(parameter).encode())).collect();
        self.log_meta(&deletions).map_err(|failed| ParameterError::Failed(failed.into()))?;
        gone.iter().for_each(|parameter| self.parameters.remove(parameter));
        Ok(())
    }
}

fn tell(parameters: &Parameters, component: &str) {
    if let Some(component) = parameters.component(component) {
        component.changed();
    }
}

pub(super) fn key_of(parameter: &Parameter) -> Key {
    let Parameter { component, vhost, name, .. } = parameter;
    Key::Parameter(component.clone(), vhost.clone(), name.clone())
}

pub(super) fn check_lengths(name: &str, value: &str) -> Result<(), ParameterError> {
    let invalid = |reason: String| Err(ParameterError::Invalid(reason));
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return invalid(format!("a parameter's name has 1 to {NAME_MAX_BYTES} octets"));
    }
    if value.len() > VALUE_MAX_BYTES {
        return invalid(format!("a parameter's value has at most {VALUE_MAX_BYTES} octets"));
    }
    Ok(())
}
