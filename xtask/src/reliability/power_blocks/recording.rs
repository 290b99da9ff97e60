//! A broker on a disk that writes everything down, and what is left of it when the power goes.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::client::Client;
use super::super::disks::{FileSystem, Mount, copy_sparse, succeed};
use super::super::drain::drain;
use super::super::journal::{Journal, Story};
use super::super::ledger::{Ending, Judgement};
use super::super::load::Load;
use super::super::message::declare_topology_of;
use super::super::verdict::Verdict;
use super::Tally;
use super::changes::{Answers, Changes};
use super::image::{Cut, Disk, cuts};
use super::recorder::Recorder;
use super::subject::{Running, Subject};
use super::write_log::WriteLog;

/// A kill is in between, so that some cuts are in the recovery from it.
const LIVES: usize = 2;
const LIFE_MS: std::ops::Range<u64> = 400..1200;
/// Few, for images that are drained in a moment.
const BACKLOG_MAX: i64 = 400;
/// So many images are checked at once.
const LANES: usize = 2;
const KEPT_IMAGES_MAX: u64 = 10;

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
    folder: PathBuf,
    /// What went wrong before any power was cut.
    verdict: Verdict,
}

impl Recording {
    /// Loads a broker on a new disk, twice until it is killed.
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
        let mut verdict = Verdict::default();
        for life in 0..LIVES {
            let broker = subject.start(data_dir.clone(), folder)?;
            let address = broker.address();
            declare_topology_of(&mut Client::open(address)?, subject.queue_arguments())?;
            if begun.is_none() {
                begun = Some(begin(subject, &recorder, &load, address)?);
            }
            let changes = begun.as_mut().and_then(|(_, changes)| changes.as_mut());
            let pause = Duration::from_millis(LIFE_MS.start + random.below(LIFE_MS.end - LIFE_MS.start));
            let choices = Random::new(seed ^ life as u64);
            let (killed_at, changed) = std::thread::scope(|scope| {
                let changed =
                    scope.spawn(move || changes.map_or(Ok(()), |changes| changes.run(address, choices)));
                let killed_at = load.run(address, || kill_after(broker, pause));
                (killed_at, changed.join().expect("it reports what is wrong"))
            });
            if let Err(ended) = changed {
                verdict.fault("a client was let down", format!("who changes: {ended}"));
            }
            let killed_at = killed_at?;
            load.with_ledger(|ledger| ledger.ended(Ending::Killed, killed_at));
        }
        let mut ledger = load.into_ledger();
        let story = ledger.take_journal().context("a recording has a journal")?.close();
        verdict.absorb(ledger.verdict().without_facts());
        let (from, changes) = begun.context("a recording has a life")?;
        let (log, folder) = (recorder.finish()?, folder.to_owned());
        let answers = changes.map(Changes::close);
        Ok(Recording { file_system, seed, size_bytes, log, story, answers, from, folder, verdict })
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
        let cuts = cuts(self.log.entries(), self.from, count, &mut Random::new(self.seed));
        let (recording, tally) = (&self, &Mutex::new(tally));
        std::thread::scope(|scope| {
            let lanes = cuts.chunks(cuts.len().div_ceil(LANES).max(1)).enumerate();
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
                let name = format!("{}-{:x}-image-{}.img", self.file_system.name(), self.seed, cut.number);
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
        let broker = subject.start(mount.path().join("data"), folder)?;
        let load = Load::continued(self.seed, self.story.retell(cut.until));
        drain(broker.address(), &load).context("draining")?;
        let mut judgement = load.into_ledger().judgement();
        judgement.verdict.forgive(subject.never_promised());
        if let Some(answers) = &self.answers {
            answers.look_up(cut.until, broker.address(), &mut judgement.verdict).context("looking up")?;
        }
        broker.kill()?;
        drop(mount);
        self.file_system.check(image).context("not whole afterwards")?;
        Ok(judgement)
    }
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
    if subject.starts_unflushed() {
        succeed(Command::new("sync").arg("--file-system").arg(recorder.mount_point()))?;
    }
    let mut clock = recorder.clock()?;
    let from = clock();
    load.with_ledger(|ledger| ledger.keep_journal(Journal::new(clock)));
    Ok((from, changes))
}

/// The moment of the kill.
fn kill_after(broker: Running, pause: Duration) -> Result<Instant> {
    std::thread::sleep(pause);
    let killed_at = Instant::now();
    broker.kill()?;
    Ok(killed_at)
}
