//! Write-ahead log, segment files and recovery, over a disk behind a trait.
//!
//! The store keeps opaque bytes for numbered queues and knows nothing of AMQP. Everything that must survive
//! a crash is a *record* in one log, so one sync covers every queue:
//!
//! ```text
//!  publish / ack / meta / transaction            (any thread: one short lock, one copy)
//!        │
//!        ▼
//!   gather buffer ──commit()──▶ log/0000002a.log   one batch, one write, one fdatasync; then durable() moves
//!                                    │  full: rotated
//!                                    ▼
//!                        what is still alive is copied     (block_writer … finish, flush_acks)
//!                                    ▼
//!            q/<queue>/<number>.seg                        then retire(): checkpoint, file removed
//! ```
//!
//! * A [`MessageId`] is the position of the record in the endless log stream. One rule for everything that was
//!   appended: it is durable when [`Store::durable`] is **greater** than its position.
//! * There are no threads and no clock in here. A committer calls [`Store::commit`], a settler calls
//!   [`Store::file_to_settle`] … [`Store::retire`]; a simulator does both from one thread.
//! * A failed sync, or a failed write other than a full disk, latches: see [`StoreFailed`].
//!
//! Every byte on disk is drawn in `docs/format.md`; the reasons are in
//! `docs/adr/0001-storage-shape-and-durability.md`.

mod append;
mod batch;
mod bitmap;
mod block_walk;
mod block_writer;
mod bytes;
mod checkpoint;
mod checksum;
mod commit;
mod cursor;
mod disk;
mod error;
mod format_file;
mod gather;
mod guard;
mod log_file;
mod log_reader;
mod log_window;
mod mem_disk;
mod meta;
mod place;
mod queue_folders;
mod read;
mod real_disk;
mod record;
mod recovered_queue;
mod recovery;
mod segment;
mod segment_files;
mod segment_reader;
mod segment_table;
mod segments;
mod settle;
mod store;
mod window;

pub use append::TxPublish;
pub use block_writer::BlockWriter;
pub use disk::{Disk, DiskFile};
pub use error::{CommitError, OpenError, ReadError, StoreFailed};
pub use log_window::LogWindow;
pub use mem_disk::MemDisk;
pub use meta::MetaChange;
pub use place::{Attributes, LogFileNumber, LogSpan, MessageId, Place, Position, QueueId};
pub use real_disk::RealDisk;
pub use recovered_queue::{RecoveredMessage, RecoveredQueue};
pub use recovery::{Damage, Recovery};
pub use segment::{NewBlocks, SegmentTail};
pub use segment_reader::{SegmentReader, SegmentSpan};
pub use segments::{SegmentHead, Segments};
pub use store::{Options, Store, Urgency};
