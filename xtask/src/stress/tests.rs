//! That a hang is caught: with the defect that never writes the eventfd, natively, on a small image.

use std::time::{Duration, Instant};

use super::disk::Disk;
use super::options::Options;
use super::session::Session;
use super::subject::Subject;
use super::summary::Ending;
use crate::process::build_qemu_img_with;

/// What the whole session may take: a calm run, the time without progress, the debugger, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_program_that_never_writes_the_eventfd_is_caught_within_seconds() {
    let args = "--native --mutant notify-never-writes --iterations 3 --jobs 1 --seed 7 --content-mib 8 --disk-mib 80";
    let args = test_support::words::split(args);
    let mut options = Options::parse(&args).expect("right").expect("no help");
    // Under a name of its own: the tests that run beside this one use the binary without the feature.
    let built = build_qemu_img_with(&["--features=mutants".to_owned(), "--bin=qemu-img-mutants".to_owned()], &[]);
    options.binary = Some(built.expect("qemu-img can be built"));
    let dir = tempfile::tempdir().expect("a folder can be made");

    let started = Instant::now();
    let subject = Subject::prepare(&options, dir.path()).expect("the binary is there");
    let disk = Disk::prepare(&options, dir.path(), &subject).expect("the image can be made");
    let session = Session::new(&options, subject, disk, dir.path()).expect("the processors can be counted");
    let (results, _) = session.run().expect("the runs can be started");
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());

    assert_eq!((results.endings.len(), results.hangs()), (1, 1), "{results:?}");
    let Ending::Hung(autopsy) = &results.endings[0].1 else { panic!("{results:?}") };
    let verdict = &autopsy.verdict[0];
    assert!(verdict.contains("notify_me is 2 and the eventfd is not readable: lost wake-up"), "{}", autopsy.report);
    for part in
        ["iteration 0, its seed", "--seed 7 --first 0", "ppoll, no time-out", "notify_me=2", "pool: name=block-io"]
    {
        assert!(autopsy.report.contains(part), "{part} is missing:\n{}", autopsy.report);
    }
}
