//! Names that nobody else has.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Random text: 64 bits from the kernel as hexadecimal digits.
pub(crate) fn random_id() -> String {
    format!("{:016x}", random_u64())
}

/// A message id: unique in the world, cheap to make.
pub(crate) fn message_id() -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let process = PROCESS.get_or_init(|| format!("{}{}", random_id(), random_id()));
    [process.as_str(), ".", &NEXT.fetch_add(1, Ordering::Relaxed).to_string()].concat()
}

/// 64 random bits. A kernel without randomness gives the time and a counter, which is enough for a name.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        static FALLBACK: AtomicU64 = AtomicU64::new(0);
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
        nanos ^ (FALLBACK.fetch_add(1, Ordering::Relaxed) << 48)
    })
}
