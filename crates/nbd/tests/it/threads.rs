//! The threads of the driver end with the node.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::fake::{Fake, Offer, accept};
use crate::support::{Bench, PATIENCE, Server, block_on, failure};

/// How many threads of the process are the driver's.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a process has threads");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.filter_map(Result::ok).filter(|task| task.path().exists()).map(name).filter(|n| n.starts_with("nbd-")).count()
}

/// Nobody waits for the threads of a node that was dropped, but they end.
fn wait_until_none_is_left() {
    let deadline = Instant::now() + PATIENCE;
    while threads() > 0 {
        assert!(Instant::now() < deadline, "{} threads are left", threads());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_node_that_is_closed_or_dropped_leaves_no_thread() {
    Bench::alone(|bench| {
        let server = Server::nbdkit(&bench.path("k"), &["memory", "16M"]);
        block_on(async {
            let node = bench.open(&server.options()).await.expect("it opens");
            let reads = (0..64).map(|at| node.read_bytes(at * 65536, 65536));
            join_all(reads).await.into_iter().for_each(|read| drop(read.expect("read")));
            assert!(threads() >= 2);
            node.close().await.expect("closing cannot fail");
            assert_eq!(threads(), 0, "closing waits for them");

            let node = bench.open(&server.options()).await.expect("it opens");
            node.read_bytes(0, 512).await.expect("read");
            drop(node);
            wait_until_none_is_left();
        });
    });
}

#[test]
fn an_open_that_is_given_up_leaves_no_thread() {
    Bench::alone(|bench| {
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let fake = Fake::new(&bench.path("s"), move |listener| {
            // Whoever comes is kept waiting.
            let waiting = (accept(listener), accept(listener));
            let _over = left.recv();
            drop(waiting);
        });
        block_on(async {
            let options = fake.options();
            let mut open = Box::pin(bench.open(&options));
            assert!(open.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(open);
            wait_until_none_is_left();
            let error = failure(bench.open(&format!("{options},open-timeout=1")).await);
            assert_eq!(error.chain(), "Failed to read initial magic: Connection timed out");
            assert_eq!(threads(), 0);
        });
        drop(leave);
        // The first client may have left before it was connected.
        drop(std::os::unix::net::UnixStream::connect(&fake.socket));
        fake.join();
    });
}

#[test]
fn opening_is_tried_until_there_is_a_server() {
    let bench = Bench::new();
    let path = bench.path("s");
    let options = format!("driver=nbd,path={},open-timeout=60", path.display());
    block_on(async {
        let mut open = Box::pin(bench.open(&options));
        assert!(open.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let fake = Fake::new(&path, |listener| {
            accept(listener).negotiate(Offer::default()).expect("a client").serve(1);
        });
        let node = open.await.expect("it was tried again");
        node.close().await.expect("closing cannot fail");
        fake.join();
    });
}
