//! A message that can no longer be read takes its queue out of service, for as long as the queue exists (P7).

use leveret_broker::Batch;
use leveret_store::{Disk, MemDisk};

use crate::support::{KEPT, Life};

const LOG: &str = "log/00000001.log";

/// Two queues with a message each, which are in the log; the process is gone.
fn two_queues() -> MemDisk {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    for (queue, body) in [("hit", "rotten"), ("spared", "sound")] {
        life.queue(queue, &[]);
        life.publish("", queue, None, KEPT, body);
        // Each in a batch of its own: damage in the last one looks like a torn end.
        life.commit();
    }
    disk
}

/// Flips a bit of the first place where `bytes` lie.
fn flip(disk: &MemDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(path).unwrap();
    let mut content = vec![0; file.len().unwrap() as usize];
    let mut filled = 0;
    while filled < content.len() {
        filled += file.read_at(&mut content[filled..], filled as u64).unwrap();
    }
    let at = content.windows(bytes.len()).position(|window| window == bytes).unwrap();
    file.write_at(&[content[at] ^ 1], at as u64).unwrap();
}

fn is_offline(life: &mut Life, queue: &str) -> bool {
    let got = life.channel.get(queue, true, &mut Batch::at(life.now_ms));
    got.is_err_and(|refusal| refusal.explanation.contains("is offline: log/00000001.log"))
}

#[test]
fn a_damaged_queue_stays_offline_when_its_log_file_is_retired() {
    let disk = two_queues();
    flip(&disk, LOG, b"rotten");
    for start in 0..4 {
        let mut life = Life::begin(&disk);
        assert!(is_offline(&mut life, "hit"), "start {start}");
        assert_eq!(life.drain("spared"), ["sound"], "start {start}");
        life.publish("", "spared", None, KEPT, "sound");
        life.settle();
        assert!(disk.list("log").unwrap().iter().any(|name| name == "damaged-00000001.log"));
    }
}

#[test]
fn a_damaged_queue_that_is_deleted_can_be_made_anew() {
    let disk = two_queues();
    flip(&disk, LOG, b"rotten");
    let mut life = Life::begin(&disk);
    life.settle();
    life.channel.delete_queue("hit", false, false, &mut Batch::at(life.now_ms)).unwrap();
    life.queue("hit", &[]);
    life.publish("", "hit", None, KEPT, "new");
    life.settle();
    drop(life);
    assert_eq!(Life::begin(&disk).drain("hit"), ["new"]);
}
