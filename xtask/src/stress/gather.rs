//! What can be learned of a process that hangs: its threads from the kernel, their stacks from a debugger, and the state
//! of the loop from the program itself.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use super::syscalls;

/// How long a debugger on a native process may take.
const DEBUGGER_PATIENCE: Duration = Duration::from_secs(60);

/// What the kernel says about a thread.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) tid: String,
    pub(super) name: String,
    /// `S (sleeping)` and the like.
    pub(super) state: String,
    /// Where in the kernel it waits.
    pub(super) wchan: String,
    /// The system call it is in, in words.
    pub(super) syscall: String,
    /// Its stack in the kernel, if we may see it.
    pub(super) stack: Vec<String>,
}

/// The threads of a process, the first one first. Those that end meanwhile are left out.
pub(super) fn threads(pid: Pid) -> Vec<Thread> {
    let folder = format!("/proc/{pid}/task");
    let mut tids: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    tids.sort_by_key(|tid| tid.parse::<u32>().unwrap_or(u32::MAX));
    let look = |tid: &String| look_at(&Path::new(&folder).join(tid), tid);
    tids.iter().filter_map(look).collect()
}

fn look_at(folder: &Path, tid: &str) -> Option<Thread> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    let wchan = read("wchan");
    Some(Thread {
        tid: tid.to_owned(),
        name: read("comm").trim_end().to_owned(),
        state: state.unwrap_or("?").trim().to_owned(),
        wchan: if matches!(wchan.as_str(), "" | "0") { "-".to_owned() } else { wchan },
        syscall: syscalls::in_words(read("syscall").trim_end()),
        // `[<0>] do_futex+0x10e/0x1a0`
        stack: read("stack").lines().map(|line| line.split(' ').next_back().unwrap_or(line).to_owned()).collect(),
    })
}

/// The debugger's word on a process of this machine.
///
/// # Errors
/// If the debugger cannot be run.
pub(super) fn native_backtraces(pid: Pid, gdb: &Path) -> io::Result<String> {
    let mut command = Command::new(gdb);
    command.args(["-nx", "-batch", "-p", &pid.to_string(), "-ex", "thread apply all backtrace"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    output_within(child, DEBUGGER_PATIENCE)
}

/// What `child` writes to its standard output, which is a pipe; it is killed when it takes longer than `limit`.
///
/// # Errors
/// If the output cannot be read.
pub(super) fn output_within(mut child: Child, limit: Duration) -> io::Result<String> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(String::new()) };
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes);
        // The receiver is gone when the time is up.
        sender.send(()).ok();
        read.map(|_| bytes)
    });
    if receiver.recv_timeout(limit).is_err() {
        child.kill()?;
    }
    child.wait()?;
    let bytes = reader.join().map_err(|_| io::Error::other("the reader of a pipe has panicked"))??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The part of a debugger's output that is worth reading: the threads and their frames, without arguments and without
/// the frames of the language's runtime.
pub(super) fn frames(output: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for line in output.lines() {
        if line.starts_with("Thread ") {
            kept.push(line.trim_end_matches(':').to_owned());
        } else if line.starts_with('#') && !is_runtime(line) {
            kept.push(format!("  {}", shortened(line)));
        }
    }
    kept
}

fn is_runtime(frame: &str) -> bool {
    ["/library/std/", "/library/core/", "/library/alloc/", "library/std/src", "library/core/src", "library/alloc/src"]
        .iter()
        .any(|part| frame.contains(part))
}

/// A frame without its generic arguments, and of a path no more than the last folders.
fn shortened(frame: &str) -> String {
    let mut text = String::new();
    let mut depth = 0_u32;
    for c in frame.chars() {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    match text.rsplit_once(" at ") {
        Some((what, place)) => {
            let parts: Vec<&str> = place.split('/').collect();
            format!("{what} at {}", parts[parts.len().saturating_sub(3)..].join("/"))
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lose_what_nobody_reads() {
        let output = "noise\nThread 1 (LWP 7):\n#0  0x01 in ppoll () from libc.so.6\n\
                      #4  unwrap_or_else<a::B<C; 4]>, d> () at /usr/src/rustc/library/core/src/option.rs:1067\n\
                      #6  block_on<x::{async_fn_env#0}> () at some/crates/qemu-util/src/task/block_on.rs:53\n";
        let expected = [
            "Thread 1 (LWP 7)",
            "  #0  0x01 in ppoll () from libc.so.6",
            "  #6  block_on () at src/task/block_on.rs:53",
        ];
        assert_eq!(frames(output), expected);
    }

    #[test]
    fn our_own_threads_are_seen() {
        let threads = threads(Pid::this());
        assert!(!threads.is_empty());
        assert_eq!(threads[0].tid, Pid::this().to_string());
    }
}
