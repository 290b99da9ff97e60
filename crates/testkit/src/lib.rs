//! Simulator, faulty disk, raw client and supervisors; for tests only.

pub mod conformance;
pub mod rabbitmq;
pub mod raw_client;
pub mod scenario;
