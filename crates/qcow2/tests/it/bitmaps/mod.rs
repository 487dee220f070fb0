//! Persistent bitmaps: what they record, in both directions against the reference, and what is left of them when
//! something goes wrong.

mod crash;
mod damage;
mod reference;
mod tracking;

use std::cell::Cell;
use std::ops::Range;
use std::process::{Command, Stdio};

use qemu_block::manage::{BitmapInfo, BitmapOps, NewBitmap};
use qemu_block::mem::MemDisk;
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;

use crate::mem::MemBench;
use crate::support::{Bench, block_on, oracle, qemu_io};

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;

/// The bitmaps of an open image.
fn ops(node: &Node) -> &dyn BitmapOps {
    node.bitmaps().expect("qcow2 has bitmaps")
}

/// Adds a bitmap that tracks writes.
fn add(node: &Node, name: &str, granularity: u64) {
    let new = NewBitmap { name: name.to_owned(), granularity: Some(granularity), enabled: true };
    block_on(ops(node).add(new)).expect("added");
}

/// What a bitmap marks.
fn marked(node: &Node, name: &str) -> Vec<Range<u64>> {
    block_on(ops(node).content(name)).expect("readable").ranges().collect()
}

/// A list of one range.
fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

fn list(node: &Node) -> Vec<BitmapInfo> {
    block_on(ops(node).list()).expect("readable")
}

/// The names of the bitmaps of the image `a`, with `!` in front of inconsistent ones and `-` in front of disabled ones.
fn names(bench: &MemBench) -> String {
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let shown = |bitmap: BitmapInfo| {
        let inconsistent = if bitmap.inconsistent { "!" } else { "" };
        format!("{inconsistent}{}{}", if bitmap.enabled { "" } else { "-" }, bitmap.name)
    };
    let names: Vec<String> = list(&node).into_iter().map(shown).collect();
    block_on(node.close()).expect("closed");
    names.join(" ")
}

/// What a bitmap of the image `a` marks on disk.
fn stored(bench: &MemBench, name: &str) -> Vec<Range<u64>> {
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let ranges = marked(&node, name);
    block_on(node.close()).expect("closed");
    ranges
}

/// The image `a` as a file for the reference.
struct Exported {
    files: Bench,
    n_servers: Cell<u32>,
}

impl Exported {
    fn new(bench: &MemBench) -> Self {
        let files = Bench::new();
        std::fs::write(files.path("image"), bench.disk().to_vec()).expect("written");
        Self { files, n_servers: Cell::new(0) }
    }

    fn path(&self) -> String {
        self.files.path("image")
    }

    /// Runs the reference's `qemu-img` with these words and the path of the image, which `IMAGE` stands for.
    fn run(&self, line: &str) -> String {
        let path = self.path();
        let words: Vec<&str> = line.split(' ').map(|word| if word == "IMAGE" { path.as_str() } else { word }).collect();
        let (code, text) = oracle(&words);
        assert_eq!(code, 0, "{line}: {text}");
        text
    }

    fn io(&self, commands: &[&str]) {
        qemu_io(&self.path(), commands);
    }

    /// Puts the image back into the disk `a`.
    fn import(&self, bench: &MemBench) {
        bench.insert("a", MemDisk::from_bytes(&std::fs::read(self.path()).expect("readable")));
    }

    /// What a bitmap marks according to the reference: as its server shows it to a backup program.
    fn marked(&self, name: &str) -> Vec<Range<u64>> {
        // Each server has a socket of its own, because one that ends removes its socket late.
        self.n_servers.set(self.n_servers.get() + 1);
        let (socket, path) = (self.files.path(&format!("socket{}", self.n_servers.get())), self.path());
        let mut server = Command::new("qemu-nbd");
        server.args(["--fork", "-r", "-k", &socket, "-f", "qcow2", "-B", name, &path]);
        let status = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("qemu-nbd is installed").success(), "{name}");
        // The server ends when its only client leaves.
        let target =
            format!("driver=nbd,export=,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}");
        let (code, text) = oracle(&["map", "--output=json", "--image-opts", &target]);
        assert_eq!(code, 0, "{text}");
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for line in text.lines().filter(|line| line.contains("\"data\": false")) {
            let (start, len) = (number(line, "\"start\": "), number(line, "\"length\": "));
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += len,
                _ => ranges.push(start..start + len),
            }
        }
        ranges
    }
}

/// The number behind a key.
fn number(line: &str, key: &str) -> u64 {
    let at = line.find(key).expect("the key is there") + key.len();
    let digits: String = line[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
