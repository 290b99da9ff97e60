//! Simulator, faulty disk, fault proxy, raw client and supervisors; for tests only.

pub mod allocations;
pub mod broker_sim;
pub mod conformance;
pub mod differential;
pub mod fault_proxy;
pub mod faulty_disk;
pub mod postgres;
pub mod rabbitmq;
pub mod rabbitmq_cluster;
pub mod random;
pub mod raw_client;
pub mod scenario;
pub mod store_sim;
pub mod supervisor;
