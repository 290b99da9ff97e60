//! Who may use a route. Declared with the route, judged before its handler runs, and nowhere else.

use leveret_broker::authority::{Right, authorize};

use crate::error::ApiError;
use crate::request::Request;

/// Who may use a route. What its handler then does to queues, exchanges and messages is judged again, by the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a login.
    Open,
    /// Whoever may use the management surface at all. Lists show what the caller may see.
    Management,
    /// Whoever has permissions in the virtual host of the path.
    VHost,
    /// Whoever may look into the virtual host of the path: has permissions in it, or may see everything.
    VHostSight,
    /// Policymakers with permissions in the virtual host of the path, if it names one.
    PolicyMaking,
    /// Whoever may see everything.
    Monitoring,
    /// The same; where the listener hands metrics to whoever reaches it, everybody ([`Surface`](crate::Surface)).
    Scraping,
    /// Administrators.
    Administration,
}

impl Access {
    /// Refuses with 401, in RabbitMQ's words.
    pub(crate) fn check(self, request: &Request) -> Result<(), ApiError> {
        if self == Self::Open {
            return Ok(());
        }
        let user = request.caller()?;
        let allowed = |right: Right<'_>| authorize(&user, right).map_err(ApiError::from);
        allowed(Right::Management)?;
        match (self, request.param_if("vhost")) {
            (Self::Open | Self::Management, _) | (Self::VHost | Self::VHostSight, None) => Ok(()),
            (Self::VHost, Some(vhost)) => allowed(Right::Enter(vhost)),
            (Self::VHostSight, Some(vhost)) => allowed(Right::See(vhost)),
            (Self::PolicyMaking, Some(vhost)) => allowed(Right::MakePolicies(vhost)),
            (Self::PolicyMaking, None) => allowed(Right::MakeAnyPolicies),
            (Self::Monitoring | Self::Scraping, _) => allowed(Right::Monitoring),
            (Self::Administration, _) => allowed(Right::Administration),
        }
    }
}
