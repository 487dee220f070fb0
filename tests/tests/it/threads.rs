//! Threads that the system refuses are done without, and no other process is ever made.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use test_support::programs::{Program, ours, reference};

use crate::fixture::scratch_with_small_images;

/// A user that no process of the machine belongs to: the limit counts all threads of a user, and does not bind root.
const NOBODY_ELSE: &str = "64321";

#[test]
fn a_conversion_that_gets_few_threads_converts_the_same_or_refuses_to_begin() {
    let dir = scratch_with_small_images();
    let open = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
    open(dir.path().to_owned(), 0o777);
    // The other user may not be able to go where the binary is built.
    let program = dir.path().join("program");
    fs::copy(ours().path(), &program).expect("the binary can be copied");
    open(program.clone(), 0o755);
    let root = nix::unistd::geteuid().is_root();
    let identity = format!("--reuid={NOBODY_ELSE}");
    let group = format!("--regid={NOBODY_ELSE}");
    for n_threads in [1, 2, 3, 8] {
        let limit = format!("--nproc={n_threads}:{n_threads}");
        let mut wrapper = vec!["prlimit", &limit];
        if root {
            wrapper.splice(0..0, ["setpriv", &identity, &group, "--clear-groups"]);
        }
        for (format, target) in [("raw", "target.raw"), ("qcow2", "target.qcow2"), ("qcow2 -c", "packed.qcow2")] {
            let line = format!("convert -O {format} plain.qcow2 {target}");
            let run = Program::at(&program).invoke(dir.path()).words(&line).through(&wrapper).run();
            // The thread that waits for signals is not done without: who cannot be stopped must not begin. For a user
            // with other processes all these limits mean "no thread at all".
            if n_threads == 1 || !root {
                let run = run.fails(1);
                assert!(run.stderr.contains("Could not start a thread"), "it says why: {run}");
                assert!(!dir.path().join(target).exists(), "it has begun");
            } else {
                run.ok();
                reference().run(dir.path(), &format!("compare plain.qcow2 {target}")).ok();
                fs::remove_file(dir.path().join(target)).expect("the target is there");
            }
        }
    }
}

/// Functions of the C library that make a process or replace it.
const FORKING: [&str; 12] = [
    "fork",
    "vfork",
    "_Fork",
    "clone",
    "clone3",
    "posix_spawn",
    "posix_spawnp",
    "execve",
    "execvp",
    "execv",
    "system",
    "popen",
];

/// The names that an ELF file asks the dynamic linker for, or offers to it.
fn dynamic_names(elf: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize, len: usize| {
        let bytes = elf[at..at + len].iter().rev();
        bytes.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (sections, size, n_sections) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let headers: Vec<usize> = (0..n_sections).map(|n| sections + n * size).collect();
    // The section of dynamic symbols has the type 11, and links to the one with their names.
    let symbols = headers.iter().find(|header| number(**header + 4, 4) == 11).expect("it is linked dynamically");
    let names = headers[number(symbols + 0x28, 4)];
    let start = number(names + 0x18, 8);
    elf[start..start + number(names + 0x20, 8)].split(|byte| *byte == 0).collect()
}

#[test]
fn the_binary_cannot_make_another_process() {
    let binary = fs::read(ours().path()).expect("the binary can be read");
    // What the dynamic linker is not asked for cannot be called.
    let names = dynamic_names(&binary);
    let is_imported = |name: &str| names.contains(&name.as_bytes());
    assert!(is_imported("pthread_create"), "the names are not where this test looks for them");
    let found: Vec<_> = FORKING.into_iter().filter(|name| is_imported(name)).collect();
    assert!(found.is_empty(), "the binary imports {found:?}");
}
