//! The power goes, block by block (P1, P3, P4, P6, P7): what was confirmed by then is on the disk, in whatever order the
//! disk wrote what it had not been told to flush.
//!
//! ```text
//!   recording   a broker under load on a disk that logs every write and flush      recorder.rs, write_log.rs
//!               what its clients were promised, and at which entry of that log     ../journal.rs, changes.rs
//!   cuts        hundreds of disks as that log allows them                          image.rs
//!   checks      each is mounted, the broker started, its queues drained            recording.rs
//! ```
//!
//! Passes if every file system can be mounted and is whole, every start succeeds, and the ledger has no complaint. Needs
//! root, `/dev/fuse`, loop devices, and Debian's qemu-system-common and xfsprogs.

mod changes;
mod image;
mod recorder;
mod recording;
mod subject;
mod write_log;

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use std::path::Path;
use std::time::Duration;

use super::disks::{FileSystem, Mount};
use super::ledger::Judgement;
use super::options::Plan;
use super::site::Site;
use super::verdict::Verdict;
use image::Cut;
use recording::Recording;
use subject::Subject;

/// The campaign's name, which others make exceptions for.
pub(super) const NAME: &str = "power-cut-blocks";
/// The same for the one that compares.
pub(super) const COMPARISON: &str = "power-cut-rabbitmq";
/// For each file system, at the three levels.
const IMAGES: [u64; 3] = [20, 300, 5000];
/// RabbitMQ takes seconds to start.
const IMAGES_TO_COMPARE: [u64; 3] = [4, 100, 100];
/// Of its images of ext4, one more on XFS for so many.
const XFS_OF: u64 = 5;
const IMAGES_PER_RECORDING: u64 = 100;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let subject = Subject::leveret(&site.launcher().binary, site.folder())?;
    let images = plan.images.unwrap_or(plan.rounds_at(IMAGES));
    let laboratory = Laboratory::open(site)?;
    for (file_system, name) in [(FileSystem::Ext4, "images of ext4"), (FileSystem::Xfs, "images of XFS")] {
        let tally = laboratory.examine(&subject, file_system, images, plan.seed)?;
        verdict.count(name, tally.images);
        verdict.count("acknowledged and redelivered", tally.came_back);
        verdict.fact(tally.fact(&subject, file_system));
        verdict.absorb(tally.verdict);
    }
    Ok(())
}

/// What RabbitMQ's queues make of the same: is anything confirmed lost, does every node start? It promised us nothing, so
/// whatever is found is a fact and not a fault.
pub(super) fn compare(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let images = plan.images.unwrap_or(plan.rounds_at(IMAGES_TO_COMPARE));
    let laboratory = &Laboratory::open(site)?;
    // Each of them checks one image at a time.
    let tallies = std::thread::scope(|scope| {
        let examine = |subject| scope.spawn(move || laboratory.examine_on_both(subject, images, plan.seed));
        let subjects = [Subject::RabbitMqClassic, Subject::RabbitMqQuorum, Subject::RabbitMqNewQuorum];
        let examined = subjects.map(examine);
        examined.map(|tallies| tallies.join().expect("who examines reports what is wrong"))
    });
    let mut examined = 0;
    for (subject, file_system, tally) in tallies.into_iter().flatten() {
        match tally {
            Ok(tally) => {
                examined += tally.images;
                report(&subject, file_system, &tally, verdict);
            }
            Err(error) => verdict.fact(format!("{} on {}: {error:#}", subject.name(), file_system.name())),
        }
    }
    ensure!(examined > 0, "nothing could be examined");
    Ok(())
}

fn report(subject: &Subject, file_system: FileSystem, tally: &Tally, verdict: &mut Verdict) {
    verdict.count(subject.images(), tally.images);
    verdict.fact(tally.fact(subject, file_system));
    for (kind, count) in tally.verdict.broken() {
        verdict.fact(format!("{} on {}: {count} × {kind}", subject.name(), file_system.name()));
    }
    for example in tally.verdict.examples() {
        println!("    {example}");
    }
}

/// Where disks are recorded, copied and looked at: in memory, but for those that are kept.
struct Laboratory<'a> {
    memory: Mount,
    kept: &'a Path,
}

impl<'a> Laboratory<'a> {
    fn open(site: &'a Site) -> Result<Laboratory<'a>> {
        super::install(&["qemu-system-common", "xfsprogs"])?;
        Ok(Laboratory { memory: Mount::memory(&site.folder().join("memory"), "75%")?, kept: site.folder() })
    }

    /// As many images as wanted of ext4, and some of XFS.
    fn examine_on_both(
        &self,
        subject: Subject,
        images: u64,
        seed: u64,
    ) -> [(Subject, FileSystem, Result<Tally>); 2] {
        let examine = |(file_system, images)| {
            let tally = self.examine(&subject, file_system, images, seed);
            // It takes long.
            if let Ok(tally) = &tally {
                println!("    {}", tally.fact(&subject, file_system));
            }
            (subject.clone(), file_system, tally)
        };
        [(FileSystem::Ext4, images), (FileSystem::Xfs, images.div_ceil(XFS_OF))].map(examine)
    }

    /// Makes recordings until there were as many images as wanted.
    fn examine(&self, subject: &Subject, file_system: FileSystem, images: u64, seed: u64) -> Result<Tally> {
        let mut tally = Tally::default();
        while tally.images < images {
            let count = IMAGES_PER_RECORDING.min(images - tally.images);
            let number = tally.recordings;
            let folder =
                self.memory.path().join(format!("{}-{}-{number}", subject.file_name(), file_system.name()));
            std::fs::create_dir_all(&folder)?;
            let seed = Random::new(seed ^ number << 8 ^ file_system as u64).next();
            let name = || format!("recording {number}: {} on {}", subject.name(), file_system.name());
            let recording = Recording::make(subject, file_system, seed, &folder).with_context(name)?;
            recording.check_all(subject, count, &mut tally, self.kept).with_context(name)?;
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(tally)
    }
}

/// What all images of a file system have shown.
#[derive(Default)]
struct Tally {
    recordings: u64,
    entries: usize,
    images: u64,
    at_flushes: u64,
    failed: u64,
    confirmed: u64,
    found: u64,
    came_back: u64,
    slowest: Duration,
    verdict: Verdict,
}

impl Tally {
    /// Whether the image failed.
    fn add(&mut self, cut: Cut, took: Duration, outcome: Result<Judgement>) -> bool {
        self.images += 1;
        self.at_flushes += u64::from(cut.is_at_flush());
        self.slowest = self.slowest.max(took);
        let failed = match outcome {
            Ok(Judgement { confirmed, found, came_back, verdict }) => {
                self.confirmed += confirmed;
                self.found += found;
                self.came_back += came_back;
                let failed = !verdict.passed();
                self.verdict.absorb(verdict);
                failed
            }
            Err(error) => {
                self.verdict.fault("the disk of no broker", format!("image {}: {error:#}", cut.number));
                true
            }
        };
        self.failed += u64::from(failed);
        failed
    }

    fn fact(&self, subject: &Subject, file_system: FileSystem) -> String {
        let Tally { recordings, entries, images, at_flushes, failed, .. } = self;
        let Tally { confirmed, found, came_back, slowest, .. } = self;
        format!(
            "{} on {}: {images} images of {recordings} recordings with {entries} writes and flushes, {at_flushes} at a flush and the \
             others between two: {failed} failed; {confirmed} confirms held against them, {found} messages found, {came_back} of \
             them acknowledged before; the slowest check took {} ms",
            subject.name(),
            file_system.name(),
            slowest.as_millis()
        )
    }
}
