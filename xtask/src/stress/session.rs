//! All iterations: one calm run to measure by, then the others, several at a time.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use test_support::cloud::CloudSpec;

use super::autopsy;
use super::disk::Disk;
use super::options::Options;
use super::plan::Plan;
use super::subject::{Running, Subject};
use super::summary::{Ending, Results};
use super::watchdog::{Times, Watchdog};
use crate::process::say;

/// How often a run is looked at. The end of a run is noticed at once, as far as people are concerned.
const LOOK: Duration = Duration::from_millis(5);

/// The watchdog looks less often: it reads a file for every thread.
const WATCH: Duration = Duration::from_millis(100);

/// A line of progress at most so often.
const TELL: Duration = Duration::from_secs(10);

/// The target of each conversion, in a folder of its own.
const TARGET: &str = "target.qcow2";

/// Everything that the iterations share.
#[derive(Debug)]
pub(super) struct Session<'a> {
    options: &'a Options,
    subject: Subject,
    disk: Disk,
    dir: &'a Path,
    times: Times,
    processors: Vec<usize>,
    /// Whether the file system of `dir` knows `O_DIRECT`.
    direct: bool,
}

/// What the jobs change.
struct Shared {
    next: u32,
    stopped: bool,
    results: Results,
    told: Instant,
}

impl<'a> Session<'a> {
    /// # Errors
    /// If the processors cannot be counted.
    pub(super) fn new(options: &'a Options, subject: Subject, disk: Disk, dir: &'a Path) -> io::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let processors = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        let probe = dir.join("probe");
        fs::write(&probe, "")?;
        let direct = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&probe).is_ok();
        Ok(Self { options, subject, disk, dir, times: Times::default(), processors, direct })
    }

    /// Runs all of it.
    ///
    /// # Errors
    /// If a run cannot be started or examined, and if the calm one goes wrong.
    pub(super) fn run(mut self) -> io::Result<(Results, Times)> {
        self = self.measure()?;
        let Options { iterations, jobs, seed, first, .. } = self.options;
        say(&format!(
            "{iterations} iterations from {first}, {jobs} at a time, seed {seed}; a run without progress for {:.0} s \
             counts as hanging.",
            self.times.stall_limit().as_secs_f64()
        ));
        let shared = Shared { next: 0, stopped: false, results: Results::default(), told: Instant::now() };
        let shared = Mutex::new(shared);
        let outcome: io::Result<()> = thread::scope(|scope| {
            let (session, shared) = (&self, &shared);
            let jobs: Vec<_> = (0..*jobs).map(|job| scope.spawn(move || session.job(job, shared))).collect();
            let ends = jobs.into_iter().map(|job| job.join().map_err(|_| io::Error::other("a job has panicked"))?);
            ends.collect()
        });
        outcome?;
        let mut results = shared.into_inner().unwrap_or_else(PoisonError::into_inner).results;
        results.endings.sort_by_key(|(plan, _)| plan.iteration);
        Ok((results, self.times))
    }

    /// One run without pressure and without a mutant says how long a run takes.
    fn measure(mut self) -> io::Result<Self> {
        let mutant;
        (self.subject, mutant) = self.subject.without_mutant();
        let ending = self.iterate(&Plan::calm(), None, &self.folder("calm")?)?;
        match ending {
            Ending::Right(time) => say(&format!("A run takes {:.2} s.", time.as_secs_f64())),
            Ending::Wrong(how) | Ending::Failed(how) => return Err(io::Error::other(how)),
            Ending::Hung(autopsy) => return Err(io::Error::other(autopsy.report)),
        }
        self.subject = self.subject.with_mutant(mutant);
        Ok(self)
    }

    fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// One of several threads that take iterations until there are no more.
    fn job(&self, number: usize, shared: &Mutex<Shared>) -> io::Result<()> {
        let folder = self.folder(&format!("job{number}"))?;
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut state = lock();
            if state.stopped || state.next == self.options.iterations {
                return Ok(());
            }
            let iteration = self.options.first + state.next;
            state.next += 1;
            drop(state);
            let plan = Plan::new(self.options.seed, iteration, &self.processors, self.direct);
            let pressure = self.options.pressure.then_some(plan.seed);
            let ending = self.iterate(&plan, pressure, &folder).inspect_err(|_| lock().stopped = true)?;
            if let Ending::Hung(autopsy) = &ending {
                say(autopsy.report.trim_end());
            }
            let mut state = lock();
            state.stopped |= !matches!(ending, Ending::Right(_)) && !self.options.keep_going;
            state.results.endings.push((plan, ending));
            let done = state.results.endings.len();
            if state.told.elapsed() >= TELL {
                state.told = Instant::now();
                say(&format!("{done} of {}, {} hung", self.options.iterations, state.results.hangs()));
            }
        }
    }

    /// One iteration, in a folder of its own.
    fn iterate(&self, plan: &Plan, pressure: Option<u64>, folder: &Path) -> io::Result<Ending> {
        let target = folder.join(TARGET);
        if target.exists() {
            fs::remove_file(&target)?;
        }
        let source = self.disk.source.to_str().ok_or_else(|| io::Error::other("the image's name is no text"))?;
        let args = plan.arguments(source, TARGET);
        let spinning = self.disturb(plan)?;
        let started = Instant::now();
        let running = self.subject.start(&args, folder, pressure);
        self.use_processors(&self.processors)?;
        let mut running = running?;
        let status = self.watch(&mut running, &target)?;
        drop(spinning);
        let status = match status {
            Ok(status) => status,
            Err(why) => {
                let line = self.subject.line(&args, pressure);
                let what = [plan.to_string(), self.repeat(plan), line, why];
                return Ok(Ending::Hung(autopsy::examine(&self.subject, running, &what, &folder.join("errors"))));
            }
        };
        let time = started.elapsed();
        if !status.success() {
            let said = fs::read_to_string(folder.join("errors")).unwrap_or_default();
            return Ok(Ending::Failed(format!("{status}: {}", said.trim_end())));
        }
        Ok(match self.disk.difference(&target, &self.subject)? {
            Some(how) => Ending::Wrong(how),
            None => {
                self.times.add(time);
                Ending::Right(time)
            }
        })
    }

    /// The command that does this iteration again.
    fn repeat(&self, plan: &Plan) -> String {
        let Options { seed, mutant, native, pressure, .. } = self.options;
        let image = match &self.options.image {
            Some(image) => format!("--image {}", image.display()),
            None => {
                let CloudSpec { content_mib, disk_mib } = self.options.spec;
                format!("--content-mib {content_mib} --disk-mib {disk_mib}")
            }
        };
        let mut line =
            format!("cargo xtask stress-aarch64 --seed {seed} --first {} --iterations 1 {image}", plan.iteration);
        line.push_str(if *native { " --native" } else { "" });
        line.push_str(if *pressure { " --pressure" } else { "" });
        line.push_str(&mutant.as_ref().map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default());
        line
    }

    /// Waits for the end of a run: its status, or why it counts as hanging.
    fn watch(&self, running: &mut Running, target: &Path) -> io::Result<Result<std::process::ExitStatus, String>> {
        let pid = Pid::from_raw(running.child.id().cast_signed());
        let mut watchdog = Watchdog::new(&self.times, pid, target);
        let mut watched = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait()? {
                return Ok(Ok(status));
            }
            if watched.elapsed() >= WATCH {
                watched = Instant::now();
                if let Some(why) = watchdog.look() {
                    return Ok(Err(why));
                }
            }
            thread::sleep(LOOK);
        }
    }

    /// Restricts this thread to the processors of the plan, and what it starts from now on; and starts threads that spin
    /// there until the result is dropped.
    fn disturb(&self, plan: &Plan) -> io::Result<Vec<mpsc::Sender<()>>> {
        if !plan.cpus.is_empty() {
            self.use_processors(&plan.cpus)?;
        }
        Ok((0..plan.spinners).map(|_| spin()).collect())
    }

    fn use_processors(&self, cpus: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }
}

/// A thread that takes processor time until the sender is dropped. Now and then it offers its turn to others, so that
/// the times at which it stands in their way vary.
fn spin() -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while receiver.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            (0..20_000).for_each(|_| std::hint::spin_loop());
            thread::yield_now();
        }
    });
    sender
}
