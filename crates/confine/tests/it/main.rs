//! What a confined process can still do, and what it cannot.
//!
//! A process cannot become free again, so each test runs this program once more, with a role to play.

#![expect(clippy::print_stdout, reason = "the confined process tells its parent what it found")]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use confine::{Confinement, Limits, Network, Report};

const ROLE: &str = "CONFINE_ROLE";
const FOLDER: &str = "CONFINE_FOLDER";

/// Plays `role` in a new process with a folder that has the files `named`, `other` and `target`; what it says is
/// returned, line by line.
fn play(role: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["named", "other", "target"] {
        fs::write(dir.path().join(name), name).expect("a file");
    }
    fs::create_dir(dir.path().join("empty")).expect("a folder");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "the_role_of_a_confined_process", "--nocapture"]);
    let output = command.env(ROLE, role).env(FOLDER, dir.path()).stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complaints}", output.status);
    said.lines().filter_map(|line| line.split_once("> ").map(|(_, line)| line.to_owned())).collect()
}

/// Says something that [`play`] finds between the lines of the test harness.
fn say(what: &str, result: io::Result<()>) {
    let how = result.map_or_else(|error| format!("{:?}", error.kind()), |()| "ok".to_owned());
    println!("\n> {what}: {how}");
}

fn at(name: &str) -> PathBuf {
    PathBuf::from(env::var_os(FOLDER).expect("the folder is named")).join(name)
}

fn confine(confinement: Confinement) -> Report {
    confinement.apply().expect("limits can be set")
}

/// Not a test of its own: what the processes of the other tests do.
#[test]
fn the_role_of_a_confined_process() {
    match env::var(ROLE).as_deref() {
        Ok("files") => files(),
        Ok("folder") => folder(),
        Ok("calls") => calls(),
        Ok("network") => network(),
        Ok("threads") => threads(),
        Ok("limits") => limits(),
        Ok(other) => panic!("no role {other}"),
        Err(_) => {}
    }
}

fn open_to_write(name: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(at(name)).map(drop)
}

fn files() {
    let report = confine(Confinement::new().reads(at("named")).creates(at("target")));
    println!("\n> landlock: {}", report.landlock.is_some());
    say("read named", fs::read(at("named")).map(drop));
    say("read other", fs::read(at("other")).map(drop));
    say("read password file", File::open("/etc/passwd").map(drop));
    say("write named", open_to_write("named"));
    say("write target", fs::write(at("target"), "x"));
    say("make new", fs::write(at("new"), "x"));
    say("remove target", fs::remove_file(at("target")));
}

fn folder() {
    confine(Confinement::new().replaces(at("empty/new")).reads(at("missing")));
    say("make", fs::write(at("empty/temporary"), "x"));
    say("rename", fs::rename(at("empty/temporary"), at("empty/new")));
    say("make elsewhere", fs::write(at("new"), "x"));
    say("rename elsewhere", fs::rename(at("empty/new"), at("new")));
}

fn calls() {
    let report = confine(Confinement::new());
    println!("\n> seccomp: {}", report.seccomp);
    say("program", Command::new("/bin/true").status().map(drop));
    say("tcp", TcpStream::connect("127.0.0.1:9").map(drop));
    say("udp", UdpSocket::bind("127.0.0.1:0").map(drop));
    say("unix", UnixStream::connect("/nonexistent").map(drop));
    say("folder", fs::create_dir(at("made")));
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    for line in status.lines().filter(|line| line.starts_with("Seccomp:") || line.starts_with("NoNewPrivs:")) {
        println!("\n> {}", line.replace('\t', " "));
    }
}

fn network() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("bound");
    confine(Confinement::new().network(Network::Allowed));
    say("connect", TcpStream::connect(address).map(drop));
    say("listen", TcpListener::bind("127.0.0.1:0").map(drop));
}

fn threads() {
    let work = || (File::open("/etc/passwd").map(drop), UdpSocket::bind("127.0.0.1:0").map(drop));
    let report = confine(Confinement::new());
    println!("\n> landlock: {}", report.landlock.is_some());
    let workers: Vec<_> = (0..8).map(|_| thread::spawn(work)).collect();
    for worker in workers {
        let (file, socket) = worker.join().expect("no panic");
        say("file", file);
        say("socket", socket);
    }
}

fn limits() {
    const MIB: usize = 1 << 20;
    confine(Confinement::new().limits(Limits { memory: Some(256 << 20), cpu_seconds: Some(100) }));
    let mut room: Vec<u8> = Vec::new();
    say("a little", room.try_reserve_exact(16 * MIB).map_err(io::Error::other));
    say("a lot", Vec::<u8>::new().try_reserve_exact(512 * MIB).map_err(|_| io::ErrorKind::OutOfMemory.into()));
    say("threads", thread::spawn(|| {}).join().map_err(|_| io::ErrorKind::Other.into()));
    let limits = fs::read_to_string("/proc/self/limits").expect("readable");
    for line in limits.lines().filter(|line| line.starts_with("Max cpu") || line.starts_with("Max core")) {
        println!("\n> {}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn only_named_files_are_opened_and_only_as_named() {
    let said = play("files");
    if said.iter().any(|line| line == "landlock: false") {
        return; // This kernel has none, or does not let us use it.
    }
    let expected = [
        "landlock: true",
        "read named: ok",
        "read other: PermissionDenied",
        "read password file: PermissionDenied",
        "write named: PermissionDenied",
        "write target: ok",
        "make new: PermissionDenied",
        "remove target: ok",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_new_file_may_be_made_in_its_folder_only() {
    let expected = ["make: ok", "rename: ok", "make elsewhere: PermissionDenied", "rename elsewhere: PermissionDenied"];
    let said = play("folder");
    // Without Landlock nothing is refused. Leaving a folder is `CrossesDevices` before its second version.
    if said.iter().any(|line| line.ends_with("PermissionDenied")) {
        assert_eq!(said, expected);
    }
}

#[test]
fn no_program_and_no_socket_is_left() {
    let expected = [
        "seccomp: true",
        "program: PermissionDenied",
        "tcp: PermissionDenied",
        "udp: PermissionDenied",
        "unix: PermissionDenied",
        "folder: PermissionDenied",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ];
    assert_eq!(play("calls"), expected);
}

#[test]
fn who_needs_the_network_may_connect_but_not_listen() {
    let said = play("network");
    assert_eq!(said[0], "connect: ok");
    // Landlock guards this since its fourth version.
    assert!(["listen: PermissionDenied", "listen: ok"].contains(&said[1].as_str()), "{said:?}");
}

#[test]
fn threads_that_start_later_are_confined_too() {
    let said = play("threads");
    let count = |line: &str| said.iter().filter(|said| *said == line).count();
    assert_eq!(count("socket: PermissionDenied"), 8, "{said:?}");
    if said[0] == "landlock: true" {
        assert_eq!(count("file: PermissionDenied"), 8, "{said:?}");
    }
}

#[test]
fn memory_is_limited_by_what_is_used() {
    let said = play("limits");
    assert_eq!(said[..3], ["a little: ok", "a lot: OutOfMemory", "threads: ok"]);
    assert!(said[3].starts_with("Max cpu time 100 105 "), "{said:?}");
    assert!(said[4].starts_with("Max core file size 0 0 "), "{said:?}");
}
