//! The one authorization function. Every door asks it: AMQP for what a connection does, HTTP for what a route shows or changes.
//!
//! ```text
//!   administrator ─┬─▶ monitoring ──┐
//!                  └─▶ policymaker ─┴─▶ management          tags, each with what the ones behind it may
//!   permissions of a virtual host: configure, write, read   patterns over names
//! ```

use leveret_wire::ReplyCode;

use crate::connection::Resource;
use crate::error::{Refusal, exchange_in, queue_in};
use crate::users::{Operation, User};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// An operation on a queue or an exchange.
    Resource {
        /// Where it is.
        vhost: &'a str,
        /// What is done to it.
        operation: Operation,
        /// Which.
        resource: Resource<'a>,
    },
    /// A routing key of a topic exchange: published (`Write`) or bound (`Read`). The exchange must be allowed as well.
    Topic {
        /// Where it is.
        vhost: &'a str,
        /// Its name.
        exchange: &'a str,
        /// What is done to it.
        operation: Operation,
        /// The key.
        routing_key: &'a str,
    },
    /// To be in a virtual host at all.
    Enter(&'a str),
    /// To see what is in a virtual host.
    See(&'a str),
    /// To set policies and parameters of a virtual host.
    MakePolicies(&'a str),
    /// To set policies and parameters somewhere.
    MakeAnyPolicies,
    /// To use the management surface.
    Management,
    /// To see all connections and what the node is about.
    Monitoring,
    /// Everything else.
    Administration,
}

/// May `user` do that?
///
/// # Errors
/// 403 with RabbitMQ's text: its AMQP text for [`Right::Resource`] and [`Right::Topic`], its HTTP reason for the others.
#[rustfmt::skip] // one line each: the mutation check removes it
pub fn authorize(user: &User, right: Right<'_>) -> Result<(), Refusal> {
    let refusal = || Refusal::new(ReplyCode::ACCESS_REFUSED, refused(user, right));
    if !allows(user, right) { return Err(refusal()); } // mutation: permission
    Ok(())
}

fn allows(user: &User, right: Right<'_>) -> bool {
    let any = |tags: &[&str]| tags.iter().any(|tag| user.has_tag(tag));
    match right {
        Right::Resource { vhost, operation, resource } => user.allows(vhost, operation, resource.name()),
        Right::Topic { vhost, exchange, operation, routing_key } => {
            user.allows_topic(vhost, exchange, operation, routing_key)
        }
        Right::Enter(vhost) => user.permissions(vhost).is_some(),
        Right::See(vhost) => allows(user, Right::Monitoring) || allows(user, Right::Enter(vhost)),
        Right::MakePolicies(vhost) => {
            allows(user, Right::Administration)
                || (allows(user, Right::MakeAnyPolicies) && allows(user, Right::Enter(vhost)))
        }
        Right::MakeAnyPolicies => any(&["policymaker", "administrator"]),
        Right::Management => any(&["management", "policymaker", "monitoring", "administrator"]),
        Right::Monitoring => any(&["monitoring", "administrator"]),
        Right::Administration => any(&["administrator"]),
    }
}

fn refused(user: &User, right: Right<'_>) -> String {
    let user = &user.name;
    match right {
        Right::Resource { vhost, operation, resource } => {
            let described = match resource {
                Resource::Exchange(_) => exchange_in(resource.name(), vhost),
                Resource::Queue(name) => queue_in(name, vhost),
            };
            format!("{} access to {described} refused for user '{user}'", operation.name())
        }
        Right::Topic { vhost, exchange, operation, routing_key } => format!(
            "{} access to topic '{routing_key}' in {} refused for user '{user}'",
            operation.name(),
            exchange_in(exchange, vhost)
        ),
        Right::Enter(_) | Right::See(_) => "User not authorised to access virtual host".to_owned(),
        Right::MakePolicies(_) | Right::MakeAnyPolicies => "User not authorised to access object".to_owned(),
        Right::Management => "Not management user".to_owned(),
        Right::Monitoring => "Not monitor user".to_owned(),
        Right::Administration => "Not administrator user".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{PasswordHash, Permissions, Users};

    /// What each tag may: management, policies, monitoring, administration.
    #[test]
    fn each_tag_includes_the_weaker_ones() {
        let check = |tags: &[&str], expected: [bool; 4]| {
            let users = Users::default();
            let password = PasswordHash::new_public(b"p").unwrap();
            users.add("u", password, tags.iter().map(ToString::to_string).collect()).unwrap();
            let user = users.find("u").unwrap();
            let rights =
                [Right::Management, Right::MakeAnyPolicies, Right::Monitoring, Right::Administration];
            assert_eq!(rights.map(|right| authorize(&user, right).is_ok()), expected, "{tags:?}");
        };
        check(&[], [false; 4]);
        check(&["impersonator"], [false; 4]);
        check(&["management"], [true, false, false, false]);
        check(&["policymaker"], [true, true, false, false]);
        check(&["monitoring"], [true, false, true, false]);
        check(&["administrator"], [true; 4]);
        check(&["Administrator"], [false; 4]);
    }

    #[test]
    fn seeing_is_not_entering() {
        let users = Users::default();
        for (name, tag) in [("m", "monitoring"), ("p", "policymaker")] {
            users.add(name, PasswordHash::new_public(b"p").unwrap(), vec![tag.into()]).unwrap();
            users.set_permissions(name, "own", Permissions::new("", "", "").unwrap()).unwrap();
        }
        let check = |name: &str, right: Right<'_>, expected: bool| {
            let user = users.find(name).unwrap();
            assert_eq!(authorize(&user, right).is_ok(), expected, "{name} {right:?}");
        };
        check("m", Right::See("foreign"), true);
        check("m", Right::Enter("foreign"), false);
        check("m", Right::Enter("own"), true);
        check("p", Right::See("foreign"), false);
        check("p", Right::MakePolicies("foreign"), false);
        check("p", Right::MakePolicies("own"), true);
    }
}
