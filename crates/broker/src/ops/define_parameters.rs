//! Parameters of definitions: all are checked before anything is set, on behalf of whoever acts, with the permissions that the same
//! definitions give.

use std::sync::Arc;

use super::parameter::SetParameter;
use crate::broker::Broker;
use crate::definitions::{DefinedParameter, Definitions, DefinitionsError};
use crate::parameters::{Component, Parameter};
use crate::users::{Permissions, User};

/// Parameters that their components take, and those components.
pub(super) struct Checked {
    pub(super) list: Vec<Arc<Parameter>>,
    components: Vec<Arc<dyn Component>>,
}

impl Checked {
    /// The parameters are set: whoever they are for looks at them.
    pub(super) fn tell(&self) {
        self.components.iter().for_each(|component| component.changed());
    }
}

impl Broker {
    /// Asks the components about all parameters.
    ///
    /// # Errors
    /// There is no such component, it refuses one, or nobody can act.
    pub(super) fn check_parameters(
        &self,
        definitions: &Definitions,
        by: Option<&str>,
    ) -> Result<Checked, DefinitionsError> {
        let mut checked = Checked { list: Vec::new(), components: Vec::new() };
        if definitions.parameters.is_empty() {
            return Ok(checked);
        }
        let nobody = || DefinitionsError::NoUser(by.unwrap_or("an administrator").to_owned());
        let user = self.acting(definitions, by).ok_or_else(nobody)?;
        for DefinedParameter { component, vhost, name, value } in &definitions.parameters {
            let set = SetParameter { component, vhost, name, value };
            let (owner, parameter) = self.check_parameter(&set, &user).map_err(|error| {
                let what = format!("parameter '{name}' of {component} in vhost '{vhost}'");
                DefinitionsError::invalid(what, &error)
            })?;
            checked.list.push(parameter.into());
            if !checked.components.iter().any(|known| known.name() == owner.name()) {
                checked.components.push(owner);
            }
        }
        Ok(checked)
    }

    /// Whoever acts, as it will be when the definitions are in force: the caller, or else the first administrator of the definitions,
    /// or else of those who are there.
    fn acting(&self, definitions: &Definitions, by: Option<&str>) -> Option<User> {
        let is_administrator = |tags: &[String]| tags.iter().any(|tag| tag == "administrator");
        let defined = |name: &str| definitions.users.iter().find(|user| user.name == name);
        let name = by.map(str::to_owned).or_else(|| {
            let to_be = definitions.users.iter().find(|user| is_administrator(&user.tags));
            let there = || self.users.list().into_iter().find(|user| is_administrator(&user.tags));
            to_be.map(|user| user.name.clone()).or_else(|| there().map(|user| user.name.clone()))
        })?;
        let there = self.users.find(&name).map(|user| (*user).clone());
        let to_be = defined(&name);
        let mut user = there.or_else(|| to_be.map(|_| User::new(&name, Vec::new())))?;
        if let Some(to_be) = to_be {
            user.tags.clone_from(&to_be.tags);
        }
        let new =
            definitions.vhosts.iter().map(|(vhost, _)| vhost).filter(|vhost| self.vhost(vhost).is_none());
        if by.is_some() {
            new.for_each(|vhost| user.permit(vhost, Permissions::all()));
        }
        let own = definitions.permissions.iter().filter(|of| of.user == name);
        own.for_each(|of| user.permit(&of.vhost, of.permissions.clone()));
        Some(user)
    }
}
