//! Meets the deadlines of queues that nobody uses. Sleeps without a timer while no message can expire.

use std::sync::Arc;
use std::time::Duration;

use leveret_broker::Batch;
use tokio::sync::Notify;

use crate::shared::{Shared, now_us};

/// Deadlines closer together than this are met together.
const GRAIN: Duration = Duration::from_millis(1);

/// Runs until the broker stops.
pub(crate) async fn keep_time(shared: Arc<Shared>) {
    let earlier = Arc::new(Notify::new());
    let wake = earlier.clone();
    shared.broker.deadlines.on_earlier(move || wake.notify_one());
    let mut stopping = shared.stopping.clone();
    loop {
        let wait = shared
            .broker
            .deadlines
            .next_ms()
            .map(|at| Duration::from_millis(at.saturating_sub(now_us() / 1000)));
        tokio::select! {
            () = earlier.notified() => continue,
            () = tokio::time::sleep(wait.unwrap_or_default().max(GRAIN)), if wait.is_some() => {}
            _ = stopping.changed() => return,
        }
        let mut batch = Batch::at_us(now_us());
        shared.broker.meet_deadlines(&mut batch);
        shared.finish(&mut batch);
    }
}
