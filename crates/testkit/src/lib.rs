//! Simulator, faulty disk, raw client and supervisors; for tests only.
