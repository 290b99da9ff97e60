//! Asking what is known of services, and telling their statistics what happens.

use std::sync::Arc;

use super::dead_letter::Letter;
use crate::broker::Broker;
use crate::message::MessageView;
use crate::port::Batch;
use crate::queue::{Dead, DeathReason};
use crate::services::{Asked, GivenUp, ServiceSnapshot};
use crate::vhost::Queue;

impl Broker {
    /// The services of a virtual host: its queues that a request has come to since the process began, in the order in
    /// which they were declared. `now_us` is µs since 1970. Empty when `Limits::request_statistics` is off.
    pub fn services(&self, vhost: &str, now_us: u64) -> Vec<ServiceSnapshot> {
        self.statistics.sweep(now_us);
        let queues = self.vhost(vhost).map(|vhost| vhost.queues()).unwrap_or_default();
        queues.iter().filter_map(|queue| queue.service.get()).map(|one| one.snapshot(now_us)).collect()
    }

    /// What services beyond [`SERVICES_MAX`](crate::services::SERVICES_MAX) have in common, over all virtual hosts; `None`:
    /// there are no more.
    pub fn other_services(&self, now_us: u64) -> Option<ServiceSnapshot> {
        self.statistics.other(now_us)
    }

    /// Sets the counters of a virtual host's services back. Requests in flight stay in flight.
    pub fn reset_services(&self, vhost: &str, now_us: u64) {
        let queues = self.vhost(vhost).map(|vhost| vhost.queues()).unwrap_or_default();
        queues.iter().filter_map(|queue| queue.service.get()).for_each(|one| one.reset(now_us));
    }

    /// A message is about to be given to these queues, or to nobody.
    #[inline]
    pub(crate) fn count_published(
        &self,
        vhost: &Arc<str>,
        message: &MessageView<'_>,
        queues: &[Arc<Queue>],
        batch: &Batch,
    ) {
        let asked = || queues.iter().filter(|queue| !queue.spec.internal);
        self.statistics.replied(vhost, message, asked().next().is_some(), batch.now_us);
        let asked = asked().map(|queue| Asked { name: &queue.name, slot: &queue.service });
        self.statistics.asked(vhost, message, asked, batch.now_us);
    }

    /// A queue has given up a message, and this is what became of it. A request that another queue has may still be
    /// answered.
    pub(super) fn count_buried(&self, queue: &Queue, dead: &Dead, letter: Letter) {
        let Some(message) = &dead.message else { return };
        let is_over = match letter {
            Letter::Taken => dead.reason == DeathReason::Orphaned,
            Letter::ToCaller => true,
            Letter::NotTaken => dead.dying.is_none(),
        };
        if is_over {
            self.count_given_up(queue, &message.view(), dead.reason);
        }
    }

    /// Nobody will answer this message, if it is a request.
    pub(crate) fn count_given_up(&self, queue: &Queue, message: &MessageView<'_>, reason: DeathReason) {
        if queue.spec.internal {
            return;
        }
        let why = match reason {
            DeathReason::Expired => GivenUp::Expired,
            DeathReason::Orphaned => GivenUp::Orphaned,
            DeathReason::Rejected | DeathReason::MaxLen | DeathReason::DeliveryLimit => GivenUp::Refused,
        };
        self.statistics.gave_up(&queue.vhost, message, why, &queue.service);
    }
}
