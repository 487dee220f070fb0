//! Commands on exports of NBD servers: each program has a server of its own, on a copy of the same image.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use test_support::programs::{ours, reference, reference_speaks_our_version};
use test_support::servers::Server;

use crate::fixture::scratch_with_small_images;
use crate::side_by_side::{Rigour, seen};

/// How an image is served.
#[derive(Clone, Copy)]
enum Serve {
    /// By qemu-nbd, with these options.
    Qemu(&'static [&'static str]),
    /// By nbdkit, with these filters before and these parameters behind the plugin `file`.
    Nbdkit(&'static [&'static str], &'static [&'static str]),
}

/// A folder with the small images, one of which is served on the socket `s`.
struct Twin {
    // The server ends before its folder vanishes.
    _server: Server,
    dir: TempDir,
}

impl Twin {
    fn new(image: &str, serve: Serve) -> Self {
        let dir = scratch_with_small_images();
        // The image is served from a copy that commands do not name, as they could not lock it.
        let served = dir.path().join("served");
        fs::copy(dir.path().join(image), &served).expect("the image can be copied");
        let socket = dir.path().join("s");
        let server = match serve {
            Serve::Qemu(options) => Server::qemu(&socket, &served, options),
            Serve::Nbdkit(filters, parameters) => {
                let words = [filters, &["file", served.to_str().expect("UTF-8")], parameters].concat();
                Server::nbdkit(&socket, &words)
            }
        };
        Self { _server: server, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Runs the lines, in order, with both programs on twin servers of `image`, and compares what they say and what the
/// served image holds in the end.
#[track_caller]
fn check_served(image: &str, serve: Serve, lines: &str) {
    let (a, b) = (Twin::new(image, serve), Twin::new(image, serve));
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (ran_a, ran_b) = (ours().run(a.path(), line), reference().run(b.path(), line));
        if reference_speaks_our_version() {
            let (seen_a, seen_b) = (seen(&ran_a, a.path(), Rigour::Exact), seen(&ran_b, b.path(), Rigour::Exact));
            assert!(seen_a == seen_b, "=== {line}\n--- ours\n{seen_a}--- reference\n{seen_b}");
        } else {
            assert_eq!(ran_a.code(), ran_b.code(), "{line}");
        }
    }
    let served = |twin: &Twin| fs::read(twin.path().join("served")).expect("the image can be read");
    assert!(served(&a) == served(&b), "the served images differ");
}

#[test]
fn a_raw_export_is_read_as_the_reference_reads_it() {
    check_served(
        "raw.img",
        Serve::Qemu(&[]),
        "
        info nbd+unix:///?socket=s
        info --output=json nbd+unix:///?socket=s
        info -f raw nbd:unix:s
        info -f nbd nbd:unix:s
        info --image-opts driver=nbd,path=s
        info --image-opts driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=s
        info 'json:{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"s\"},\"export\":\"\"}'
        map nbd:unix:s
        map --output=json -f raw nbd:unix:s
        check -f raw nbd:unix:s
        measure -O qcow2 -f raw nbd:unix:s
        convert -f raw -O raw nbd:unix:s out.img
        convert -f raw -O qcow2 nbd+unix:///?socket=s out.qcow2
        resize -f raw nbd:unix:s 9M
        info nbd+unix:///x?socket=s
        info --image-opts driver=nbd,path=s,export=x
        info --image-opts driver=nbd,path=s,x-dirty-bitmap=b
        info --image-opts driver=nbd,path=s,foo=1
        ",
    );
}

#[test]
fn a_qcow2_image_is_read_through_a_server() {
    check_served(
        "snap.qcow2",
        Serve::Qemu(&["-x", "e p"]),
        "
        info 'nbd+unix:///e%20p?socket=s'
        info --output=json 'nbd:unix:s:exportname=e p'
        map --output=json 'nbd:unix:s:exportname=e p'
        map 'nbd:unix:s:exportname=e p'
        check 'nbd:unix:s:exportname=e p'
        check --output=json 'nbd:unix:s:exportname=e p'
        snapshot -l 'nbd:unix:s:exportname=e p'
        convert -O raw 'nbd:unix:s:exportname=e p' out.img
        convert -l before -O qcow2 'nbd:unix:s:exportname=e p' out.qcow2
        create -f qcow2 -F qcow2 -b 'nbd+unix:///e%20p?socket=s' new.qcow2
        info --backing-chain new.qcow2
        map --output=json new.qcow2
        convert -O raw new.qcow2 out2.img
        ",
    );
}

#[test]
fn an_export_is_written_as_the_reference_writes_it() {
    check_served(
        "raw.img",
        Serve::Qemu(&[]),
        "
        convert -n -f qcow2 -O raw snap.qcow2 nbd:unix:s
        convert -f qcow2 -O raw plain.qcow2 nbd:unix:s
        create -f raw nbd:unix:s 1M
        create -f raw nbd:unix:s 100M
        create -f raw -o help nbd:unix:s
        create -f raw -o preallocation=full nbd:unix:s 1M
        convert -n -f raw -O raw raw.img nbd:unix:s
        ",
    );
    check_served("raw.img", Serve::Qemu(&[]), "convert -f qcow2 -O qcow2 c512.qcow2 nbd:unix:s\ncheck nbd:unix:s");
    check_served("plain.qcow2", Serve::Qemu(&[]), "rebase -u -b '' nbd:unix:s\ncheck nbd:unix:s");
}

#[test]
fn nbdkit_is_served_as_well() {
    let lines = "
        info nbd+unix:///?socket=s
        map --output=json -f raw nbd:unix:s
        convert -f raw -O raw nbd:unix:s out.img
        convert -n -f qcow2 -O raw snap.qcow2 nbd:unix:s
        ";
    const POLICY: &[&str] = &[
        "blocksize-minimum=512",
        "blocksize-preferred=4096",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
    ];
    for serve in [
        Serve::Nbdkit(&[], &[]),
        Serve::Nbdkit(&["--no-sr"], &[]),
        Serve::Nbdkit(&["--filter=nozero", "--filter=noextents"], &[]),
        Serve::Nbdkit(&["--filter=blocksize-policy"], POLICY),
    ] {
        check_served("raw.img", serve, lines);
    }
}

#[test]
fn errors_of_a_server_are_told_alike() {
    check_served(
        "raw.img",
        Serve::Qemu(&["-r"]),
        "
        convert -n -f qcow2 -O raw snap.qcow2 nbd:unix:s
        convert -f qcow2 -O raw snap.qcow2 nbd:unix:s
        create -f raw nbd:unix:s 1M
        resize -f raw nbd:unix:s 1M
        bench -w -c 1 -f raw nbd:unix:s
        ",
    );
    check_served(
        "raw.img",
        Serve::Nbdkit(&["--filter=error"], &["error=ENOSPC", "error-pwrite-rate=100%", "error-zero-rate=100%"]),
        "
        convert -n -f raw -O raw raw.img nbd:unix:s
        info nbd:unix:s
        ",
    );
}

#[test]
fn names_that_lead_nowhere_are_told_alike() {
    super::check(
        "
        info nbd+unix:///?socket=none
        info nbd://127.0.0.1:9/
        info nbd://127.0.0.1:9/export
        info nbd:127.0.0.1:9
        info nbd:[::1]:9:exportname=a
        info nbd:
        info nbd:unix:
        info nbd://
        info nbd+unix://h/?socket=s
        info nbd+unix:///?socke=s
        info nbd+unix:///?socket=s&x=1
        info nbd:host
        info nbd:127.0.0.1:
        info nbd://h:99999/
        info nbd://h:x/
        info nbd://127.0.0.1?x=y
        info nbd:unix:s:exportname=
        info nbd+tls://x/
        info nbds://x/
        info NBD://127.0.0.1:9
        info nbd:a:b:c
        info --image-opts driver=nbd
        info --image-opts driver=nbd,host=a,path=b
        info --image-opts driver=nbd,port=3
        info --image-opts driver=nbd,path=s,port=3
        info --image-opts driver=nbd,path=s,server.type=unix
        info --image-opts driver=nbd,server.type=foo
        info --image-opts driver=nbd,server.path=foo
        info --image-opts driver=nbd,server.type=unix
        info --image-opts driver=nbd,server.type=inet
        info --image-opts driver=nbd,server.type=inet,server.host=x
        info --image-opts driver=nbd,server.type=unix,server.path=s,server.foo=1
        info --image-opts driver=nbd,path=s,reconnect-delay=x
        info --image-opts driver=nbd,path=none,open-timeout=1
        info --image-opts driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=9
        convert -O raw raw.img nbd+unix:///?socket=none
        convert -n -O raw raw.img nbd+unix:///?socket=none
        create -f qcow2 nbd+unix:///?socket=none 1M
        ",
    );
}
