//! Looking at a queue, pausing it, and moving what waits in it.

use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::ops::transfer::{MoveTo, Moved, Stay};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_broker::{Batch, Channel, Connection, ConnectionPort, MessageView, QueueCondition, Refusal};
use leveret_store::{Disk, MemDisk};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties, ReplyCode};

use crate::support::{Bodies, KEPT, Life, TRANSIENT};

fn begin(queues: &[&str]) -> Life {
    let mut life = Life::begin(&MemDisk::new());
    queues.iter().for_each(|queue| life.queue(queue, &[]));
    life.commit();
    life
}

fn fill(life: &mut Life, queue: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        life.publish("", queue, None, if number % 3 == 0 { TRANSIENT } else { KEPT }, &number.to_string());
    }
}

fn numbers(range: std::ops::Range<u32>) -> Bodies {
    range.map(|number| number.to_string()).collect()
}

fn browse(life: &mut Life, queue: &str, offset: usize, count: usize) -> Bodies {
    let mut batch = Batch::at(life.now_ms);
    let browsed = life.channel.browse(queue, offset, count, &mut batch).unwrap();
    life.broker.finish(&mut batch);
    for (at, one) in browsed.iter().enumerate() {
        assert_eq!((one.offset, one.redelivered), (offset + at, false));
    }
    browsed.iter().map(|one| String::from_utf8(one.message.view().body.to_vec()).unwrap()).collect()
}

fn pause(life: &mut Life, queue: &str, is_paused: bool) {
    let mut batch = Batch::at(life.now_ms);
    life.channel.set_paused(queue, is_paused, &mut batch).unwrap();
    life.broker.finish(&mut batch);
}

fn condition(life: &Life, queue: &str) -> QueueCondition {
    life.connection.vhost.queue(queue).unwrap().record().condition
}

fn waiting(life: &Life, queue: &str) -> u64 {
    life.connection.vhost.queue(queue).unwrap().record().ready.messages
}

fn shift(life: &mut Life, queue: &str, to: MoveTo<'_>, count: u64) -> Moved {
    let mut batch = Batch::at(life.now_ms);
    let moved = life.channel.move_messages(queue, to, count, &mut batch).unwrap();
    life.broker.finish(&mut batch);
    moved
}

#[test]
fn browsing_shows_any_part_and_changes_nothing() {
    let mut life = begin(&["q"]);
    fill(&mut life, "q", 0..20);
    life.settle();
    fill(&mut life, "q", 20..40);
    for (offset, count, expected) in [(0, 3, 0..3), (0, 1_000, 0..40), (15, 10, 15..25), (39, 5, 39..40)] {
        assert_eq!(browse(&mut life, "q", offset, count), numbers(expected), "{offset} {count}");
    }
    assert_eq!(browse(&mut life, "q", 40, 5), Bodies::new());
    life.settle();
    assert_eq!(browse(&mut life, "q", 10, 20), numbers(10..30));
    let mut batch = Batch::at(life.now_ms);
    let got = life.channel.get("q", true, &mut batch).unwrap().unwrap();
    assert!(!got.redelivered);
    assert_eq!((got.message.view().body, got.remaining), (&b"0"[..], 39));
    assert_eq!(life.drain("q"), numbers(1..40));
}

#[test]
fn browsing_survives_a_restart_unnoticed() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[]);
    for number in 0..9 {
        life.publish("", "q", None, KEPT, &number.to_string());
    }
    life.settle();
    browse(&mut life, "q", 0, 5);
    life.commit();
    life.broker.close().unwrap();
    drop(life);
    let mut life = Life::begin(&disk);
    assert_eq!(browse(&mut life, "q", 0, 9), numbers(0..9));
    assert_eq!(life.drain("q"), numbers(0..9));
}

#[test]
fn what_is_asked_too_much_is_refused() {
    let mut life = begin(&["q"]);
    life.queue("s", &[("x-queue-type", FieldValue::LongString(b"stream".to_vec()))]);
    let mut batch = Batch::at(life.now_ms);
    let check = |outcome: Result<(), Refusal>, code: ReplyCode| {
        assert_eq!(outcome.unwrap_err().code, code);
    };
    let channel = &life.channel;
    check(channel.browse("q", 10_001, 1, &mut batch).map(drop), ReplyCode::PRECONDITION_FAILED);
    check(channel.browse("q", 0, 1_001, &mut batch).map(drop), ReplyCode::PRECONDITION_FAILED);
    check(channel.browse("nobody", 0, 1, &mut batch).map(drop), ReplyCode::NOT_FOUND);
    check(channel.browse("s", 0, 1, &mut batch).map(drop), ReplyCode::NOT_IMPLEMENTED);
    check(channel.set_paused("s", true, &mut batch), ReplyCode::NOT_IMPLEMENTED);
    let itself = channel.move_messages("q", MoveTo::Queue("q"), 1, &mut batch);
    check(itself.map(drop), ReplyCode::PRECONDITION_FAILED);
}

#[test]
fn a_paused_queue_takes_messages_and_hands_out_none() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[]);
    pause(&mut life, "q", true);
    life.publish("", "q", None, KEPT, "kept");
    assert_eq!(life.drain("q"), Bodies::new());
    assert_eq!(
        (browse(&mut life, "q", 0, 9), condition(&life, "q")),
        (vec!["kept".to_owned()], QueueCondition::Paused)
    );
    life.commit();
    drop(life);

    let mut life = Life::begin(&disk);
    assert_eq!((life.drain("q"), condition(&life, "q")), (Bodies::new(), QueueCondition::Paused));
    pause(&mut life, "q", false);
    life.commit();
    drop(life);

    let mut life = Life::begin(&disk);
    assert_eq!((life.drain("q"), condition(&life, "q")), (vec!["kept".to_owned()], QueueCondition::Running));
}

#[test]
fn a_deleted_queue_is_not_paused_when_it_comes_again() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[]);
    pause(&mut life, "q", true);
    let mut batch = Batch::at(life.now_ms);
    life.channel.delete_queue("q", false, false, &mut batch).unwrap();
    life.broker.finish(&mut batch);
    life.queue("q", &[]);
    assert_eq!(condition(&life, "q"), QueueCondition::Running);
    life.commit();
    drop(life);
    assert_eq!(condition(&Life::begin(&disk), "q"), QueueCondition::Running);
}

#[test]
fn messages_move_to_a_queue_and_through_an_exchange() {
    let mut life = begin(&["from", "to", "bound"]);
    life.exchange("x", "direct", &[]);
    life.bind("x", "bound", "key");
    fill(&mut life, "from", 0..9);
    pause(&mut life, "from", true);
    let moved = shift(&mut life, "from", MoveTo::Queue("to"), 3);
    assert!((moved.moved, moved.stayed, moved.why) == (3, 0, None) && moved.position > 0);
    let through = |routing_key| MoveTo::Exchange { name: "x", routing_key };
    let stuck = shift(&mut life, "from", through(None), 2);
    assert_eq!((stuck.moved, stuck.stayed, stuck.why), (0, 2, Some(Stay::Unroutable)));
    assert_eq!(browse(&mut life, "from", 0, 99), numbers(3..9));
    assert_eq!(shift(&mut life, "from", through(Some("key")), 4).moved, 4);
    assert_eq!(shift(&mut life, "from", MoveTo::Queue("to"), 99).moved, 2);
    assert_eq!(life.drain("bound"), numbers(3..7));
    assert_eq!(life.drain("to"), ["0", "1", "2", "7", "8"]);
    assert_eq!(waiting(&life, "from"), 0);
}

#[test]
fn what_a_full_queue_refuses_stays() {
    let mut life = begin(&["from"]);
    let overflow = FieldValue::LongString(b"reject-publish".to_vec());
    life.queue("full", &[("x-max-length", FieldValue::I64(2)), ("x-overflow", overflow)]);
    fill(&mut life, "from", 0..5);
    let moved = shift(&mut life, "from", MoveTo::Queue("full"), 5);
    assert_eq!((moved.moved, moved.stayed, moved.why), (2, 3, Some(Stay::NotTaken)));
    assert_eq!((life.drain("full"), life.drain("from")), (numbers(0..2), numbers(2..5)));
}

/// Refuses everything that waits in a queue.
fn reject_all(life: &mut Life, queue: &str) {
    let mut batch = Batch::at(life.now_ms);
    while let Some(got) = life.channel.get(queue, false, &mut batch).unwrap() {
        life.channel.settle(got.delivery_tag, false, Settlement::Discard, &mut batch).unwrap();
    }
    life.broker.finish(&mut batch);
}

#[test]
fn dead_letters_go_back_to_where_they_died() {
    let mut life = begin(&["dead"]);
    let text = |text: &str| FieldValue::LongString(text.as_bytes().to_vec());
    let letters = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    life.queue("work", &letters);
    life.queue("other", &[]);
    life.exchange("x", "fanout", &[]);
    life.bind("x", "work", "");
    life.bind("x", "other", "");
    life.publish("x", "a.key", None, KEPT, "job");
    reject_all(&mut life, "work");
    life.publish("", "dead", None, KEPT, "stranger");
    assert_eq!((waiting(&life, "dead"), life.drain("other")), (2, vec!["job".to_owned()]));
    let moved = shift(&mut life, "dead", MoveTo::WhereTheyDied, 9);
    assert_eq!((moved.moved, moved.stayed, moved.why), (1, 1, Some(Stay::NoHistory)));
    // The other queue has had it.
    assert_eq!((waiting(&life, "other"), waiting(&life, "work")), (0, 1));
    let mut batch = Batch::at(life.now_ms);
    let got = life.channel.get("work", true, &mut batch).unwrap().unwrap();
    let view = got.message.view();
    assert_eq!((view.exchange, view.routing_key, view.body), ("x", "a.key", &b"job"[..]));
    assert_eq!(life.drain("dead"), ["stranger"]);
}

#[test]
fn forged_deaths_lead_nowhere() {
    let mut life = begin(&["dead"]);
    let text = |text: &str| FieldValue::LongString(text.as_bytes().to_vec());
    let death = |queue: &str, exchange: &str| {
        FieldValue::Table(FieldTable(vec![
            ("queue".into(), text(queue)),
            ("exchange".into(), text(exchange)),
        ]))
    };
    for (deaths, why) in [
        (FieldValue::Array(vec![]), Stay::NoHistory),
        (FieldValue::Array(vec![FieldValue::I64(1)]), Stay::NoHistory),
        (text("x"), Stay::NoHistory),
        (FieldValue::Array(vec![death("gone", "")]), Stay::NoQueue("gone".into())),
        (FieldValue::Array(vec![death("dead", "")]), Stay::DiedHere),
        (FieldValue::Array(vec![death("dead", &"x".repeat(256))]), Stay::NoHistory),
    ] {
        let headers = FieldTable(vec![("x-death".into(), deaths.clone())]);
        let properties = Properties { headers: Some(headers), ..Default::default() }.encode().unwrap();
        let properties = RawProperties::parse(&properties).unwrap();
        let message = MessageView { exchange: "", routing_key: "dead", properties, body: b"m" };
        let mut batch = Batch::at(life.now_ms);
        life.channel.publish(Publish { message, mandatory: false, immediate: false }, &mut batch).unwrap();
        life.broker.finish(&mut batch);
        let moved = shift(&mut life, "dead", MoveTo::WhereTheyDied, 9);
        assert_eq!((moved.moved, moved.why), (0, Some(why)), "{deaths:?}");
        assert_eq!(life.drain("dead"), ["m"]);
    }
}

#[test]
fn whoever_holds_a_message_is_named() {
    let mut life = begin(&["q"]);
    fill(&mut life, "q", 0..3);
    let mut batch = Batch::at(life.now_ms);
    let held: Vec<_> = (0..2).map(|_| life.channel.get("q", false, &mut batch).unwrap().unwrap()).collect();
    let unsettled = life.channel.unsettled("q", &mut batch).unwrap();
    assert_eq!(unsettled.len(), 2);
    assert!(unsettled.iter().all(|one| one.holder.is_none() && one.handed_out.since_ms == life.now_ms));
    life.channel.settle(held[0].delivery_tag, false, Settlement::Ack, &mut batch).unwrap();
    assert_eq!(life.channel.unsettled("q", &mut batch).unwrap().len(), 1);
}

/// A client of a user who may configure, write and read what these patterns match.
fn with_rights(life: &Life, [configure, write, read]: [&str; 3]) -> Channel {
    let broker = &life.broker;
    let users = &broker.users;
    if users.find("u").is_none() {
        users.add("u", PasswordHash::new_public(b"p").unwrap(), Vec::new()).unwrap();
    }
    users.set_permissions("u", "/", Permissions::new(configure, write, read).unwrap()).unwrap();
    let port = ConnectionPort::new(broker.next_connection_id(), Box::new(life.heard.clone()));
    let connection = Connection::open(broker.clone(), port, users.find("u").unwrap(), "/", true).unwrap();
    Channel::open(connection, 1).unwrap()
}

#[test]
fn each_action_wants_its_rights_and_no_others() {
    type Act = fn(&Channel, &mut Batch) -> Result<(), Refusal>;
    let mut life = begin(&["from", "to"]);
    life.exchange("x", "fanout", &[]);
    life.bind("x", "to", "");
    let letters = FieldValue::LongString(b"from".to_vec());
    let nowhere = ("x-dead-letter-exchange", FieldValue::LongString(Vec::new()));
    life.queue("died", &[nowhere, ("x-dead-letter-routing-key", letters)]);
    let rows: [([&str; 3], Act); 6] = [
        (["", "", "from"], |channel, batch| channel.browse("from", 0, 1, batch).map(drop)),
        (["", "", "from"], |channel, batch| channel.unsettled("from", batch).map(drop)),
        (["from", "", ""], |channel, batch| channel.set_paused("from", false, batch)),
        (["", "to", "from"], |channel, batch| {
            channel.move_messages("from", MoveTo::Queue("to"), 1, batch).map(drop)
        }),
        (["", "x", "from"], |channel, batch| {
            let to = MoveTo::Exchange { name: "x", routing_key: None };
            channel.move_messages("from", to, 1, batch).map(drop)
        }),
        (["", "died", "from"], |channel, batch| {
            channel.move_messages("from", MoveTo::WhereTheyDied, 1, batch).map(drop)
        }),
    ];
    for (row, (rights, act)) in rows.into_iter().enumerate() {
        for missing in std::iter::once(None).chain((0..3).filter(|at| !rights[*at].is_empty()).map(Some)) {
            life.publish("", "died", None, KEPT, "m");
            reject_all(&mut life, "died");
            // Everything but the one that is missing.
            let held = std::array::from_fn(|at| match missing {
                Some(missing) if missing == at => "",
                Some(_) => ".*",
                None => rights[at],
            });
            let channel = with_rights(&life, held);
            let mut batch = Batch::at(life.now_ms);
            let code = act(&channel, &mut batch).err().map(|refusal| refusal.code);
            life.broker.finish(&mut batch);
            let expected = missing.map(|_| ReplyCode::ACCESS_REFUSED);
            assert_eq!(code, expected, "row {row}, without {missing:?}");
            assert_eq!(waiting(&life, "from"), if code.is_none() && row > 2 { 0 } else { 1 }, "row {row}");
            ["from", "to", "died"].into_iter().for_each(|queue| drop(life.drain(queue)));
        }
    }
}

/// A process that is killed while it moves messages, with the log written up to any octet: every message is in one of the
/// queues, and at most the one that was on its way is in both.
#[test]
fn a_kill_at_any_octet_of_a_move_loses_nothing() {
    const MESSAGES: u32 = 6;
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("from", &[]);
    life.queue("to", &[]);
    for number in 0..MESSAGES {
        life.publish("", "from", None, KEPT, &number.to_string());
    }
    life.commit();
    let before = copy(&disk, &|_, content| content);
    assert_eq!(shift(&mut life, "from", MoveTo::Queue("to"), 99).moved, u64::from(MESSAGES));
    life.commit();
    drop(life);
    let (path, from, to) = written_since(&before, &disk);
    assert!(to - from > 100, "nothing was logged");
    for end in from..=to {
        let torn = copy(&disk, &|name, mut content: Vec<u8>| {
            if name == path {
                content[end..].fill(0);
            }
            content
        });
        let mut life = Life::begin(&torn);
        let (left, moved) = (life.drain("from"), life.drain("to"));
        assert!(left.len() + moved.len() <= MESSAGES as usize + 1, "cut at {end}: {left:?} {moved:?}");
        let mut all: Vec<_> = left.into_iter().chain(moved).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, numbers(0..MESSAGES), "cut at {end}");
    }
}

/// Another disk with the same files, changed.
fn copy(disk: &MemDisk, change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> MemDisk {
    let to = MemDisk::new();
    to.create_dir("").unwrap();
    copy_dir(disk, &to, "", change);
    to
}

fn copy_dir(from: &MemDisk, to: &MemDisk, dir: &str, change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) {
    for name in from.list(dir).unwrap() {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match content(from, &path) {
            Some(content) => to.create(&path).unwrap().write_at(&change(&path, content), 0).unwrap(),
            None => {
                to.create_dir(&path).unwrap();
                copy_dir(from, to, &path, change);
            }
        }
    }
}

/// `None`: it is a directory.
fn content(disk: &MemDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(path).ok()?;
    let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut content, 0).unwrap();
    Some(content)
}

/// The log file that was written, and from where to where.
fn written_since(before: &MemDisk, now: &MemDisk) -> (String, usize, usize) {
    for name in now.list("log").unwrap() {
        let path = format!("log/{name}");
        let (old, new) = (content(before, &path).unwrap_or_default(), content(now, &path).unwrap());
        let differs = |at: &usize| old.get(*at).copied().unwrap_or(0) != new[*at];
        if let Some(from) = (0..new.len()).find(differs) {
            let to = (from..new.len()).rev().find(differs).unwrap() + 1;
            return (path, from, to);
        }
    }
    panic!("no log file was written");
}
