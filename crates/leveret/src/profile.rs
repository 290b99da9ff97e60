//! The names of the wire profile; `docs/features/profile.md` says what they mean.

/// Durable headers exchange: requests come back to their callers through it.
pub(crate) const BOUNCE_EXCHANGE: &str = "rpc.bounce";
/// Durable topic exchange: cancellation and discovery.
pub(crate) const CONTROL_EXCHANGE: &str = "rpc.ctl";

/// Absolute deadline, Unix milliseconds.
pub(crate) const DEADLINE: &str = "rpc-deadline";
/// Reply queue of the caller, for bounces.
pub(crate) const CALLER: &str = "rpc-caller";
/// Which attempt this is, from 1.
pub(crate) const ATTEMPT: &str = "rpc-attempt";
/// Code of an answer; its presence marks a message as one.
pub(crate) const STATUS: &str = "rpc-status";
/// How many answers of a stream may be on their way.
pub(crate) const STREAM: &str = "rpc-stream";
/// Number of an answer in its stream, from 0.
pub(crate) const SEQUENCE: &str = "rpc-seq";
/// Marks the last message of a stream.
pub(crate) const END: &str = "rpc-end";
/// Queue that takes credit for a stream.
pub(crate) const CREDIT_TO: &str = "rpc-credit-to";
/// How many more answers the caller can take.
pub(crate) const CREDIT: &str = "rpc-credit";
/// Why a message was parked.
pub(crate) const PARKED_REASON: &str = "rpc-parked-reason";
/// The queue a parked message came from.
pub(crate) const PARKED_QUEUE: &str = "rpc-parked-queue";
/// Content types the caller understands, comma separated.
pub(crate) const ACCEPT: &str = "rpc-accept";

/// `delivery-mode` of what must survive a restart.
pub(crate) const PERSISTENT: u8 = 2;
/// Who answered: `service/instance`.
pub(crate) const WORKER: &str = "rpc-worker";
/// Status of a message that only says that work goes on.
pub(crate) const IN_PROGRESS: &str = "IN_PROGRESS";
/// Status of an answer.
pub(crate) const OK: &str = "OK";
/// A worker had the request that comes back.
pub(crate) const DELIVERED: &str = "rpc-delivered";
