//! A definitions file, as an operator imports it: JSON of any shape, put in force on a new broker.
//!
//! Finds: panics; a refused file that left something behind; memory beyond the size of the file.
#![no_main]

use std::sync::Arc;

use leveret_admin::definitions;
use leveret_broker::{Batch, Broker, Limits};
use leveret_store::{MemDisk, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let opened = Broker::open(Arc::new(MemDisk::new()), Options::default(), Limits::default());
    let broker = opened.expect("a new disk can be opened").broker;
    let counts = || (broker.vhosts().len(), broker.users.list().len());
    let before = counts();
    if let Err(error) = definitions::load(&broker, file, &mut Batch::at(0)) {
        assert!(!error.to_string().is_empty());
        assert_eq!(counts(), before, "all of it, or none");
    }
});
