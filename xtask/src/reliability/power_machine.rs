//! The power of a whole machine goes, again and again, on the same disk (P1, P3, P4, P6, P7).
//!
//! ```text
//!   load and ledger  ──TCP──►  QEMU: Linux, busybox, leveret  ──virtio──►  disk.img
//!   on the host                └────────── kill -9 ─────────┘
//! ```
//!
//! What the guest's kernel had not written goes with it, its page cache and all: what only looked durable to the broker is
//! lost here, unlike with a killed process. The order in which a disk writes is the business of `power_blocks.rs`. Needs root
//! (packages, modules of the guest's kernel); the processor is emulated, so that it runs where there is no KVM.

mod guest;
mod machine;

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::client::Client;
use super::disks::FileSystem;
use super::drain::drain;
use super::ledger::Ending;
use super::load::Load;
use super::message::declare_topology;
use super::options::Plan;
use super::site::Site;
use super::verdict::Verdict;
use guest::Guest;
use machine::Machine;

/// The campaign's name, which others make exceptions for.
pub(super) const NAME: &str = "power-cut-machine";
const CUTS: [u64; 3] = [4, 50, 200];
/// Each with a machine and a disk of its own.
const LANES: u64 = 2;
const LOAD_MS: std::ops::Range<u64> = 200..4000;
const BACKLOG_MAX: i64 = 1000;
const DISK_BYTES: u64 = 512 << 20;
const PACKAGES: [&str; 4] = ["qemu-system-x86", "busybox-static", "kmod", "binutils"];

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&PACKAGES)?;
    let guest = Guest::build(&site.launcher().binary, site.folder())?;
    let cuts = plan.cuts.unwrap_or(plan.rounds_at(CUTS));
    let lanes: Vec<Result<Lane>> = std::thread::scope(|scope| {
        let start = |lane: u64| {
            let (guest, seed, mine) =
                (&guest, plan.seed ^ lane << 32, cuts / LANES + u64::from(lane < cuts % LANES));
            let folder = site.folder().join(format!("lane-{lane}"));
            scope.spawn(move || Lane::open(seed, folder)?.cut_again_and_again(guest, mine))
        };
        let lanes: Vec<_> = (0..LANES).map(start).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane reports what is wrong")).collect()
    });
    let mut slowest = Duration::ZERO;
    for lane in lanes {
        let lane = lane?;
        verdict.count("cuts", lane.cuts);
        slowest = slowest.max(lane.slowest_boot);
        verdict.absorb(lane.load.into_verdict());
    }
    verdict.fact(format!(
        "guest: {}, ext4, virtio, cache=writeback, emulated processor; the slowest start took {} s",
        guest.kernel,
        slowest.as_secs()
    ));
    Ok(())
}

struct Lane {
    load: Load,
    random: Random,
    disk: PathBuf,
    serial: PathBuf,
    cuts: u64,
    slowest_boot: Duration,
}

impl Lane {
    fn open(seed: u64, folder: PathBuf) -> Result<Lane> {
        std::fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.img");
        std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
        FileSystem::Ext4.make(&disk)?;
        let load = Load::with_backlog_max(seed, BACKLOG_MAX);
        let serial = folder.join("serial.log");
        let random = Random::new(seed);
        Ok(Lane { load, random, disk, serial, cuts: 0, slowest_boot: Duration::ZERO })
    }

    fn cut_again_and_again(mut self, guest: &Guest, cuts: u64) -> Result<Lane> {
        for cut in 0..cuts {
            let machine = self.boot(guest).with_context(|| format!("before cut {cut}"))?;
            let address = machine.address();
            let pause = LOAD_MS.start + self.random.below(LOAD_MS.end - LOAD_MS.start);
            let killed_at = self.load.run(address, || {
                std::thread::sleep(Duration::from_millis(pause));
                let killed_at = Instant::now();
                machine.kill()?;
                Ok(killed_at)
            })?;
            self.load.with_ledger(|ledger| ledger.ended(Ending::Killed, killed_at));
            self.cuts += 1;
        }
        self.boot(guest).context("after the last cut")?.kill()?;
        Ok(self)
    }

    /// Starts the machine and takes out everything that the cut has left.
    fn boot(&mut self, guest: &Guest) -> Result<Machine> {
        let begin = Instant::now();
        let machine = Machine::boot(guest, &self.disk, &self.serial)?;
        self.slowest_boot = self.slowest_boot.max(begin.elapsed());
        declare_topology(&mut Client::open(machine.address())?).context("declaring")?;
        drain(machine.address(), &self.load).context("draining")?;
        Ok(machine)
    }
}
