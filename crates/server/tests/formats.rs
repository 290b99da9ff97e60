//! Data directories of every format that was released, as `formats/make.sh` made them: each must be read, with everything in it.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::path::Path;

use leveret_server::Broker;
use leveret_testkit::scenario::{self, Target};

/// What `make.sh` put in, as a client finds it.
const CONTENT: &str = "scenario content
  a connect user=keeper password=kept
  1> basic.get queue=plain
  1< basic.get-ok delivery-tag=1 message-count=1 routing-key=plain props={delivery-mode=2} body=settled
  1> basic.get queue=plain
  1< basic.get-ok delivery-tag=2 exchange=topics routing-key=news.ohio props={delivery-mode=2} body=logged
  1> basic.get queue=first
  1< basic.get-ok delivery-tag=3 message-count=1 routing-key=first props={delivery-mode=2, priority=3} body=high
  1> basic.get queue=first
  1< basic.get-ok delivery-tag=4 routing-key=first props={delivery-mode=2, priority=1} body=low
  1> basic.get queue=counted
  1< basic.get-ok delivery-tag=5 redelivered routing-key=counted ...
  1> basic.get queue=filler
  1< basic.get-empty
  2: basic.qos prefetch-count=10
  2: basic.consume queue=kept consumer-tag=t arguments={x-stream-offset=first}
  2< basic.deliver consumer-tag=t delivery-tag=1 routing-key=kept props={delivery-mode=2, headers={x-stream-offset=l:0}} body=entry
  2< basic.deliver consumer-tag=t delivery-tag=2 routing-key=kept props={delivery-mode=2, headers={x-stream-offset=l:1}} body=\"another entry\"
";

/// Tests do not write to the tree.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

#[test]
fn every_released_format_is_read() {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let mut checked = 0;
    for entry in std::fs::read_dir(formats).unwrap() {
        let format = entry.unwrap().path();
        if !format.is_dir() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        copy(&format, folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let broker = Broker::builder().data_dir(folder.path()).any_port();
        let broker = runtime.block_on(broker.start()).unwrap();
        let (damage, clean) = (&broker.condition().damage, broker.condition().clean);
        assert!(damage.is_empty() && clean, "{}: {damage:?}", format.display());
        let target = Target::new(broker.addresses()[0], false);
        let content = scenario::parse("formats", CONTENT).unwrap();
        let played = scenario::check_and_leave(&content[0], &target, "x");
        played.unwrap_or_else(|failure| panic!("{}: {failure}", format.display()));
        runtime.block_on(broker.stop()).unwrap();
        checked += 1;
    }
    assert!(checked > 0, "no fixture");
}
