//! A broker on a disk that writes everything down, and what is left of it when the power goes.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::client::{Client, Ended};
use super::super::disks::{FileSystem, Mount, copy_sparse, succeed};
use super::super::drain::drain;
use super::super::journal::{Clock, Journal, Story};
use super::super::ledger::{Ending, Judgement};
use super::super::load::Load;
use super::super::message::declare_topology_of;
use super::super::verdict::Verdict;
use super::Tally;
use super::changes::{Answers, Changes};
use super::image::{Cut, Disk, cuts};
use super::recorder::Recorder;
use super::subject::{FirstSync, Running, Subject};
use super::write_log::WriteLog;

/// One after the other on the same disk, so that some cuts are in the recovery from a kill.
const LIVES: [Life; 8] =
    [Life::Busy, Life::Quiet, Life::Quiet, Life::Quiet, Life::Busy, Life::Quiet, Life::Quiet, Life::Quiet];
const BUSY_MS: std::ops::Range<u64> = 400..1200;
/// In each quiet life.
const QUIET_MESSAGES: usize = 3;
/// Few, for images that are drained in a moment.
const BACKLOG_MAX: i64 = 400;
/// So many images are checked at once, if that can be done in different places.
const LANES: usize = 2;
const KEPT_IMAGES_MAX: u64 = 10;
/// RabbitMQ has given to the kernel by then what it keeps to itself for half a second: which log is whose.
const KEEPS_TO_ITSELF: Duration = Duration::from_secs(5);

/// What happens to a broker until it is killed.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// As much as goes.
    Busy,
    /// Some messages, each when the one before is confirmed: a confirm is hardly ever in front of the next flush otherwise.
    Quiet,
}

/// What a broker wrote, and what its clients knew meanwhile.
pub(super) struct Recording {
    file_system: FileSystem,
    seed: u64,
    size_bytes: u64,
    log: WriteLog,
    story: Story,
    /// `None` for a broker whose transactions are not atomic.
    answers: Option<Answers>,
    /// The first entry behind which all queues were declared.
    from: usize,
    /// How many entries there were at the answers that are cut at: [`newborn`], and each confirm of a quiet life.
    answered: Vec<usize>,
    folder: PathBuf,
    /// What went wrong before any power was cut.
    verdict: Verdict,
}

impl Recording {
    /// Loads a broker on a new disk, again and again until it is killed.
    ///
    /// # Errors
    /// The disk cannot be made, or the broker not be started.
    pub(super) fn make(
        subject: &Subject,
        file_system: FileSystem,
        seed: u64,
        folder: &Path,
    ) -> Result<Recording> {
        let size_bytes = subject.disk_bytes();
        let mut random = Random::new(seed);
        let recorder = Recorder::start(file_system, size_bytes, folder)?;
        let data_dir = recorder.mount_point().join("data");
        let load = Load::with_backlog_max(seed, BACKLOG_MAX);
        let mut begun = None;
        let mut answered = Vec::new();
        for life in LIVES {
            let broker = subject.start(data_dir.clone(), folder)?;
            let address = broker.address();
            if begun.is_none() && subject.first_sync() == FirstSync::BeforeQueues {
                sync(&recorder)?;
            }
            declare_topology_of(&mut Client::open(address)?, subject.queue_arguments())?;
            if begun.is_none() {
                answered.extend(newborn(subject, &recorder)?);
                begun = Some(begin(subject, &recorder, &load, address)?);
            }
            let changes = begun.as_mut().and_then(|(_, changes)| changes.as_mut());
            let killed_at = match life {
                Life::Busy => be_busy(broker, &load, changes, &mut random)?,
                Life::Quiet => {
                    answered.extend(be_quiet(address, &load, recorder.clock()?).context("a quiet life")?);
                    kill(broker)?
                }
            };
            load.with_ledger(|ledger| ledger.ended(Ending::Killed, killed_at));
        }
        let mut ledger = load.into_ledger();
        let story = ledger.take_journal().context("a recording has a journal")?.close();
        let verdict = ledger.verdict().without_facts();
        let (from, changes) = begun.context("a recording has a life")?;
        let (log, folder) = (recorder.finish()?, folder.to_owned());
        let answers = changes.map(Changes::close);
        Ok(Recording { file_system, seed, size_bytes, log, story, answers, from, answered, folder, verdict })
    }

    /// Checks `count` images.
    ///
    /// # Errors
    /// They cannot be made. What is wrong with one is for the tally.
    pub(super) fn check_all(
        mut self,
        subject: &Subject,
        count: u64,
        tally: &mut Tally,
        keep_in: &Path,
    ) -> Result<()> {
        tally.recordings += 1;
        tally.entries += self.log.entries().len();
        tally.verdict.absorb(std::mem::take(&mut self.verdict));
        let mut random = Random::new(self.seed);
        let cuts = cuts(self.log.entries(), self.from, &self.answered, count, &mut random);
        let (recording, tally) = (&self, &Mutex::new(tally));
        std::thread::scope(|scope| {
            let lanes = if subject.stays_in_place() { 1 } else { LANES };
            let lanes = cuts.chunks(cuts.len().div_ceil(lanes).max(1)).enumerate();
            let lanes: Vec<_> = lanes
                .map(|(lane, cuts)| {
                    scope.spawn(move || recording.check_some(subject, lane, cuts, tally, keep_in))
                })
                .collect();
            lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane reports what is wrong"))
        })
    }

    /// One lane: a folder of its own, and one broker at a time.
    fn check_some(
        &self,
        subject: &Subject,
        lane: usize,
        cuts: &[Cut],
        tally: &Mutex<&mut Tally>,
        keep_in: &Path,
    ) -> Result<()> {
        let folder = self.folder.join(format!("lane-{lane}"));
        std::fs::create_dir_all(&folder)?;
        let mut disk = Disk::empty(&self.log, self.size_bytes, folder.join("disk.img"))?;
        let [pristine, image] = ["pristine.img", "image.img"].map(|name| folder.join(name));
        for cut in cuts {
            disk.cut(*cut, &mut Random::new(self.seed ^ cut.number << 32), &pristine)?;
            copy_sparse(&pristine, &image)?;
            let begin = Instant::now();
            let outcome = self.check(subject, *cut, &image, &folder);
            let mut tally = tally.lock().expect("a tally is only added to");
            if tally.add(*cut, begin.elapsed(), outcome) && tally.failed <= KEPT_IMAGES_MAX {
                let [who, file_system] = [subject.file_name(), self.file_system.name()];
                let name = format!("{who}-{file_system}-{:x}-image-{}.img", self.seed, cut.number);
                let kept = keep_in.join(name);
                copy_sparse(&pristine, &kept)?;
                let case = format!("{} {cut:?}; look: mount -o loop, serve --data-dir data", kept.display());
                tally.verdict.fault("an image is kept", case);
            }
        }
        Ok(())
    }

    /// What a broker finds on a disk.
    fn check(&self, subject: &Subject, cut: Cut, image: &Path, folder: &Path) -> Result<Judgement> {
        let mount = Mount::new(self.file_system, image, &folder.join("mnt")).context("not mounted")?;
        let home = if subject.stays_in_place() { &self.folder } else { folder };
        let broker = subject.start(mount.path().join("data"), home)?;
        let load = Load::continued(self.seed, self.story.retell(cut.until));
        drain(broker.address(), &load).context("draining")?;
        let mut judgement = load.into_ledger().judgement();
        judgement.verdict.forgive(subject.never_promised());
        let begun = cut.until >= self.from;
        if let Some(answers) = self.answers.as_ref().filter(|_| begun) {
            answers.look_up(cut.until, broker.address(), &mut judgement.verdict).context("looking up")?;
        }
        broker.kill()?;
        drop(mount);
        self.file_system.check(image).context("not whole afterwards")?;
        Ok(judgement)
    }
}

/// The moment when all queues of a new data directory have been declared. So little fits into the block that the header of
/// the first log file was flushed with, and ext4 does not write down a file's name when it is told to flush such a block
/// again: who forgets to flush the folder is found out here. Later the next checkpoint hides it in a moment.
fn newborn(subject: &Subject, recorder: &Recorder) -> Result<Option<usize>> {
    if subject.first_sync() != FirstSync::Never {
        return Ok(None);
    }
    let mut clock = recorder.clock()?;
    Ok(Some(clock()))
}

/// Starts to write down what clients know; returns the first entry of which that is all.
fn begin(
    subject: &Subject,
    recorder: &Recorder,
    load: &Load,
    address: SocketAddr,
) -> Result<(usize, Option<Changes>)> {
    let mut changes = subject.promises_changes().then(|| recorder.clock().map(Changes::new)).transpose()?;
    if let Some(changes) = &mut changes {
        changes.begin(address).context("the first token")?;
    }
    if subject.first_sync() == FirstSync::AfterQueues {
        sync(recorder)?;
    }
    let mut clock = recorder.clock()?;
    let from = clock();
    load.with_ledger(|ledger| ledger.keep_journal(Journal::new(clock)));
    Ok((from, changes))
}

/// Has the kernel write down all that it was given.
fn sync(recorder: &Recorder) -> Result<()> {
    std::thread::sleep(KEEPS_TO_ITSELF);
    succeed(Command::new("sync").arg("--file-system").arg(recorder.mount_point())).map(drop)
}

/// As much load as goes, for a while; returns the moment of the kill.
fn be_busy(
    broker: Running,
    load: &Load,
    changes: Option<&mut Changes>,
    random: &mut Random,
) -> Result<Instant> {
    let address = broker.address();
    let pause = Duration::from_millis(BUSY_MS.start + random.below(BUSY_MS.end - BUSY_MS.start));
    let choices = Random::new(random.next());
    let (killed_at, changed) = std::thread::scope(|scope| {
        let changed = scope.spawn(move || changes.map_or(Ok(()), |changes| changes.run(address, choices)));
        let killed_at = load.run(address, || {
            std::thread::sleep(pause);
            kill(broker)
        });
        (killed_at, changed.join().expect("it reports what is wrong"))
    });
    if let Err(ended) = changed {
        load.with_ledger(|ledger| ledger.fault("a client was let down", format!("who changes: {ended}")));
    }
    killed_at
}

/// A few messages, each when the one before is confirmed; returns how many entries the disk's log had then.
fn be_quiet(address: SocketAddr, load: &Load, mut clock: Clock) -> Result<Vec<usize>, Ended> {
    let mut client = Client::open(address)?;
    client.select_confirms()?;
    let mut publish = || load.publish_and_wait(&mut client).map(|()| clock());
    (0..QUIET_MESSAGES).map(|_| publish()).collect()
}

/// Returns the moment.
fn kill(broker: Running) -> Result<Instant> {
    let killed_at = Instant::now();
    broker.kill()?;
    Ok(killed_at)
}
