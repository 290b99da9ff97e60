//! What of the API a listener offers, and to whom.

use crate::access::Access;
use crate::route::Route;

/// What is reached over a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Every route, each for those who may use it.
    Whole,
    /// The same, but metrics are for everybody.
    WholeWithOpenMetrics,
    /// Nothing but metrics, for everybody: what RabbitMQ serves on port 15692.
    Metrics,
}

impl Surface {
    /// Who may use a route here; `None`: it is not here.
    pub(crate) fn access(self, route: &Route) -> Option<Access> {
        match (self, route.access) {
            (Self::WholeWithOpenMetrics | Self::Metrics, Access::Scraping) => Some(Access::Open),
            (Self::Metrics, _) => None,
            (Self::Whole | Self::WholeWithOpenMetrics, access) => Some(access),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::routes;

    #[test]
    fn only_metrics_change_with_the_surface() {
        for route in routes() {
            let is_metrics = route.path.starts_with("/metrics");
            assert_eq!(route.access == Access::Scraping, is_metrics, "{route:?}");
            assert_eq!(Surface::Whole.access(route), Some(route.access), "{route:?}");
            let open = if is_metrics { Access::Open } else { route.access };
            assert_eq!(Surface::WholeWithOpenMetrics.access(route), Some(open), "{route:?}");
            assert_eq!(Surface::Metrics.access(route), is_metrics.then_some(Access::Open), "{route:?}");
        }
    }
}
