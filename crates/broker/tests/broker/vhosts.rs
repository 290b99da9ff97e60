//! What is said of virtual hosts, and what it does.

use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::settings::QueueKind;
use leveret_broker::{Batch, ParameterError, VHostMetadata};
use leveret_store::MemDisk;
use leveret_wire::FieldTable;

use crate::support::Life;

#[test]
fn a_protected_virtual_host_cannot_be_deleted() {
    let disk = MemDisk::new();
    let life = Life::begin(&disk);
    life.broker.add_vhost("v").unwrap();
    let said = VHostMetadata { description: "d".into(), is_protected: true, ..VHostMetadata::default() };
    life.broker.describe_vhost("v", said.clone()).unwrap();
    life.commit();
    drop(life);
    let life = Life::begin(&disk);
    assert_eq!(*life.broker.vhost("v").unwrap().metadata(), said);
    let refused = life.broker.delete_vhost("v", &mut Batch::default());
    assert_eq!(refused, Err(ParameterError::Protected("v".into())));
    life.broker.describe_vhost("v", VHostMetadata { is_protected: false, ..said }).unwrap();
    assert_eq!(life.broker.delete_vhost("v", &mut Batch::default()), Ok(()));
}

#[test]
fn durable_queues_that_name_no_type_have_the_virtual_hosts() {
    let mut life = Life::begin(&MemDisk::new());
    let said = VHostMetadata { default_queue_type: Some("quorum".into()), ..VHostMetadata::default() };
    life.broker.describe_vhost("/", said).unwrap();
    let mut check =
        |name: &str, durable: bool, auto_delete: bool, arguments: FieldTable, expected: QueueKind| {
            for _ in 0..2 {
                let arguments = arguments.clone();
                let declare =
                    DeclareQueue { name, passive: false, durable, exclusive: false, auto_delete, arguments };
                life.channel.declare_queue(declare, &mut Batch::default()).unwrap();
            }
            assert_eq!(life.broker.vhost("/").unwrap().queue(name).unwrap().kind, expected, "{name}");
        };
    check("durable", true, false, FieldTable::new(), QueueKind::Quorum);
    check("stream", true, false, FieldTable::from([("x-queue-type", "stream")]), QueueKind::Stream);
    check("transient", false, false, FieldTable::new(), QueueKind::Classic);
    check("auto-delete", true, true, FieldTable::new(), QueueKind::Classic);
}
