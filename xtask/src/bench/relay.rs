//! A broker without rules: what is published to a queue's name goes to its one consumer, and is gone if there is
//! none. It keeps nothing and checks nothing. Nobody can be faster than this over two sockets, so beside a broker
//! it shows how much the broker adds; and it shows that the generator is not what is measured.
//!
//! Confirms come at once and mean nothing; workloads that leave messages waiting cannot run on it.

use anyhow::Result;
use leveret_bench::frames::{
    BODY, CHANNEL, FRAME_MAX, Frame, FrameReader, HEADER, MethodId, id, short_string, write_ack, write_frame,
    write_method, write_short_string,
};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Serves on `address` until the process is ended.
pub(super) fn serve(address: &str) -> Result<()> {
    let consumers = Arc::new(Consumers::default());
    for stream in TcpListener::bind(address)?.incoming() {
        let consumers = Arc::clone(&consumers);
        let stream = stream?;
        // A connection ends when its client goes: that is all an error here can mean.
        std::thread::spawn(move || converse(stream, consumers));
    }
    Ok(())
}

fn converse(mut stream: TcpStream, consumers: Arc<Consumers>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; 8])?;
    let reader = FrameReader::new(stream.try_clone()?);
    Relay::new(stream, consumers).run(reader)
}

/// By queue. A queue declared without a name gets a number.
#[derive(Default)]
struct Consumers {
    by_queue: Mutex<HashMap<Vec<u8>, Arc<Consumer>>>,
    names: AtomicU64,
}

struct Consumer {
    stream: SharedStream,
    tags: AtomicU64,
}

/// A connection's own answers and others' deliveries must not cut into each other.
#[derive(Clone)]
struct SharedStream(Arc<Mutex<TcpStream>>);

impl SharedStream {
    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

/// One client. What one read brought leaves in one write per destination.
struct Relay {
    stream: SharedStream,
    consumers: Arc<Consumers>,
    answers: Vec<u8>,
    confirms: bool,
    published: u64,
    queue: Vec<u8>,
    destination: Option<Arc<Consumer>>,
    deliveries: Vec<u8>,
}

impl Relay {
    fn new(stream: TcpStream, consumers: Arc<Consumers>) -> Relay {
        Relay {
            stream: SharedStream(Arc::new(Mutex::new(stream))),
            consumers,
            answers: Vec::new(),
            confirms: false,
            published: 0,
            queue: Vec::new(),
            destination: None,
            deliveries: Vec::new(),
        }
    }

    fn run(mut self, mut reader: FrameReader) -> Result<()> {
        self.answer(0, id::CONNECTION_START, |out| {
            out.extend([0, 9, 0, 0, 0, 0]);
            out.extend([0, 0, 0, 5]);
            out.extend(b"PLAIN");
            out.extend([0; 4]);
        });
        loop {
            self.stream.write(&self.answers)?;
            self.answers.clear();
            reader.fill()?;
            let published = self.published;
            while let Some(frame) = reader.next_buffered()? {
                self.take(frame)?;
            }
            self.flush();
            if self.confirms && self.published > published {
                write_ack(&mut self.answers, self.published);
            }
        }
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<()> {
        match frame.method() {
            Some((id::BASIC_PUBLISH, args)) => {
                let (_exchange, rest) = short_string(behind_ticket(args))?;
                self.deliver(short_string(rest)?.0);
                Ok(())
            }
            Some((id, args)) => self.control(id, args),
            None if frame.kind == HEADER || frame.kind == BODY => {
                if self.destination.is_some() {
                    write_frame(&mut self.deliveries, frame.kind, CHANNEL, |out| out.extend(frame.payload));
                }
                self.published += u64::from(frame.kind == BODY);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn deliver(&mut self, queue: &[u8]) {
        if self.queue != queue || self.destination.is_none() {
            self.flush();
            let by_queue = self.consumers.by_queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.destination = by_queue.get(queue).cloned();
            self.queue = queue.to_vec();
        }
        if let Some(consumer) = &self.destination {
            let tag = 1 + consumer.tags.fetch_add(1, Ordering::Relaxed);
            write_method(&mut self.deliveries, CHANNEL, id::BASIC_DELIVER, |out| {
                write_short_string(out, b"bench");
                out.extend(tag.to_be_bytes());
                out.extend([0, 0]);
                write_short_string(out, queue);
            });
        }
    }

    fn flush(&mut self) {
        if let Some(consumer) = &self.destination
            && consumer.stream.write(&self.deliveries).is_err()
        {
            self.destination = None; // the consumer is gone, the publisher is not to blame
        }
        self.deliveries.clear();
    }

    fn control(&mut self, id: MethodId, args: &[u8]) -> Result<()> {
        match id {
            id::CONNECTION_START_OK => self.answer(0, id::CONNECTION_TUNE, |out| {
                out.extend([0x07, 0xff]);
                out.extend(FRAME_MAX.to_be_bytes());
                out.extend([0, 0]);
            }),
            id::CONNECTION_OPEN => self.answer(0, id::CONNECTION_OPEN_OK, |out| out.push(0)),
            id::CONNECTION_CLOSE => self.answer(0, id::CONNECTION_CLOSE_OK, |_| {}),
            id::CHANNEL_OPEN => self.answer(CHANNEL, id::CHANNEL_OPEN_OK, |out| out.extend([0; 4])),
            id::QUEUE_DECLARE => {
                let name = self.name(short_string(behind_ticket(args))?.0);
                self.answer(CHANNEL, id::QUEUE_DECLARE_OK, |out| {
                    write_short_string(out, &name);
                    out.extend([0; 8]);
                });
            }
            id::QUEUE_DELETE => self.answer(CHANNEL, id::QUEUE_DELETE_OK, |out| out.extend([0; 4])),
            id::BASIC_QOS => self.answer(CHANNEL, id::BASIC_QOS_OK, |_| {}),
            id::BASIC_CONSUME => self.consume(short_string(behind_ticket(args))?.0),
            id::CONFIRM_SELECT => {
                self.confirms = true;
                self.answer(CHANNEL, id::CONFIRM_SELECT_OK, |_| {});
            }
            _ => {}
        }
        Ok(())
    }

    fn consume(&mut self, queue: &[u8]) {
        self.answer(CHANNEL, id::BASIC_CONSUME_OK, |out| write_short_string(out, b"bench"));
        let consumer = Consumer { stream: self.stream.clone(), tags: AtomicU64::new(0) };
        let mut by_queue = self.consumers.by_queue.lock().unwrap_or_else(PoisonError::into_inner);
        by_queue.insert(queue.to_vec(), Arc::new(consumer));
    }

    fn name(&self, wanted: &[u8]) -> Vec<u8> {
        match wanted {
            b"" => format!("relay-{}", self.consumers.names.fetch_add(1, Ordering::Relaxed)).into_bytes(),
            name => name.to_vec(),
        }
    }

    fn answer(&mut self, channel: u16, id: MethodId, args: impl FnOnce(&mut Vec<u8>)) {
        write_method(&mut self.answers, channel, id, args);
    }
}

/// Arguments begin with two reserved bytes, once an access ticket.
fn behind_ticket(args: &[u8]) -> &[u8] {
    args.get(2..).unwrap_or_default()
}
