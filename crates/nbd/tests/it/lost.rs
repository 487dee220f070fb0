//! Connections that are lost, and what comes after.

use std::future::Future;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use qemu_block::types::WriteFlags;

use crate::fake::{Fake, MULTI_CONN, Offer, accept};
use crate::support::{Bench, PATIENCE, Server, block_on, data, failure, pattern};

#[test]
fn without_a_delay_a_lost_connection_fails_everything() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        let asked = peer.read_request();
        peer.request().expect("a second one");
        // In the midst of a reply.
        peer.chunk_header(0, 1, asked.cookie, 8 + 100);
        peer.send(&asked.offset.to_be_bytes());
        peer.send(&[0; 50]);
    });
    block_on(async {
        let node = bench.open(&fake.options()).await.expect("it opens");
        let results = join_all([node.read_bytes(0, 4096), node.read_bytes(4096, 4096)]).await;
        results.into_iter().for_each(|result| assert_eq!(failure(result).chain(), "Input/output error"));
        assert_eq!(failure(node.flush().await).errno(), libc::EIO);
        node.close().await.expect("closing cannot fail");
        assert!(node.read_bytes(0, 512).await.is_err(), "it is closed");
    });
    fake.join();
}

#[test]
fn with_a_delay_requests_are_repeated_on_a_new_connection() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        let asked = peer.read_request();
        peer.request().expect("the write");
        // Half of an answer, then nothing: the whole must come again.
        let mut half = asked.offset.to_be_bytes().to_vec();
        half.resize(8 + 2048, 1);
        peer.chunk(0, 1, asked.cookie, &half);
        drop(peer);
        // A client that is refused once comes again.
        drop(accept(listener));
        accept(listener).negotiate(Offer::default()).expect("the client again").serve(9);
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=60", fake.options())).await.expect("it opens");
        let write = node.write(4096, data(&[3; 4096]), WriteFlags::empty());
        let (read, written) = futures_util::future::join(node.read_bytes(0, 4096), write).await;
        assert_eq!(&read.expect("it was repeated")[..], &[9; 4096]);
        written.expect("it was repeated, too");
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

#[test]
fn an_export_that_has_changed_is_not_taken_for_the_old_one() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        peer.read_request();
        drop(peer);
        let other = Offer { size: 1 << 21, ..Offer::default() };
        let peer = accept(listener).negotiate(other);
        assert!(peer.expect("a client").request().is_none(), "nothing is asked of another export");
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=60", fake.options())).await.expect("it opens");
        let error = failure(node.read_bytes(0, 512).await);
        assert!(error.chain().contains("the export has changed"), "{}", error.chain());
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

/// Numbers of contexts are the connection's own affair, and so is whether more connections are welcome.
#[test]
fn an_export_may_come_back_with_other_numbers() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer { context_id: 1, ..Offer::default() }).expect("a client");
        peer.request().expect("a question");
        drop(peer);
        let other = Offer { context_id: 2, flags: Offer::default().flags | MULTI_CONN, ..Offer::default() };
        let mut peer = accept(listener).negotiate(other).expect("a client");
        let asked = peer.request().expect("the question");
        peer.chunk(1, 5, asked.cookie, &[0, 0, 0, 2, 0, 0, 16, 0, 0, 0, 0, 3]);
        while peer.request().is_some() {}
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=60", fake.options())).await.expect("it opens");
        assert!(node.block_status(0, 4096).await.expect("a status").is_zero());
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

#[test]
fn the_delay_ends() {
    let bench = Bench::new();
    let path = bench.path("s");
    let gone = path.clone();
    let fake = Fake::new(&path, move |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        peer.read_request();
        std::fs::remove_file(gone).expect("nobody finds the server any more");
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=1", fake.options())).await.expect("it opens");
        let begun = Instant::now();
        assert_eq!(failure(node.read_bytes(0, 512).await).errno(), libc::EIO);
        assert!(begun.elapsed() >= Duration::from_millis(500), "it was tried for a while");
        assert!(node.read_bytes(0, 512).await.is_err(), "for good");
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

/// Each connection lives until the request comes again.
#[test]
fn a_request_that_kills_every_connection_is_given_up() {
    let bench = Bench::new();
    let (stop, stopped) = mpsc::channel::<()>();
    let fake = Fake::new(&bench.path("s"), move |listener| {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            if let Some(mut peer) = accept(listener).negotiate(Offer::default()) {
                peer.request();
            }
        }
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=1", fake.options())).await.expect("it opens");
        assert_eq!(failure(node.read_bytes(0, 512).await).errno(), libc::EIO);
        node.close().await.expect("closing cannot fail");
    });
    drop(stop);
    // The script may be waiting for one more client.
    drop(std::os::unix::net::UnixStream::connect(&fake.socket));
    fake.join();
}

#[test]
fn closing_ends_the_wait_for_a_server_that_does_not_come_back() {
    let bench = Bench::new();
    let path = bench.path("s");
    let gone = path.clone();
    let (lose, lost) = mpsc::channel();
    let fake = Fake::new(&path, move |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        peer.read_request();
        std::fs::remove_file(gone).expect("nobody finds the server any more");
        drop(peer);
        lose.send(()).expect("the test waits");
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=100000", fake.options())).await.expect("it opens");
        let mut read = Box::pin(node.read_bytes(0, 512));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(&mut nobody).is_pending());
        lost.recv_timeout(PATIENCE).expect("the connection is lost");
        assert!(read.as_mut().poll(&mut nobody).is_pending(), "it waits for another one");
        node.close().await.expect("closing cannot fail");
        assert_eq!(failure(read.await).errno(), libc::EIO);
    });
    fake.join();
}

#[test]
fn closing_ends_requests_that_are_not_answered() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        while peer.request().is_some() {}
    });
    block_on(async {
        let node = bench.open(&fake.options()).await.expect("it opens");
        let mut read = Box::pin(node.read_bytes(0, 512));
        let mut dropped = Box::pin(node.read_bytes(512, 512));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(&mut nobody).is_pending());
        assert!(dropped.as_mut().poll(&mut nobody).is_pending());
        drop(dropped);
        node.close().await.expect("closing cannot fail");
        assert!(matches!(read.as_mut().poll(&mut nobody), Poll::Ready(Err(_))), "closing has ended it");
    });
    fake.join();
}

#[test]
fn closing_ends_a_write_that_the_server_does_not_take() {
    let bench = Bench::new();
    let (leave, left) = mpsc::channel::<()>();
    let fake = Fake::new(&bench.path("s"), move |listener| {
        let peer = accept(listener).negotiate(Offer { size: 64 << 20, ..Offer::default() }).expect("a client");
        // Nothing is read: the socket is full after some 100 KiB.
        let _over = left.recv();
        drop(peer);
    });
    block_on(async {
        let node = bench.open(&fake.options()).await.expect("it opens");
        let mut write = Box::pin(node.write(0, data(&vec![1; 32 << 20]), WriteFlags::empty()));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(write.as_mut().poll(&mut nobody).is_pending());
        node.close().await.expect("closing cannot fail");
        assert!(failure(write.await).errno() == libc::EIO);
    });
    drop(leave);
    fake.join();
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    let bench = Bench::new();
    let (socket, file) = (bench.path("s"), bench.path("disk"));
    std::fs::write(&file, pattern(1, 1 << 20)).expect("space");
    let server = Server::qemu(&socket, &file, &[]);
    let options = format!("{},reconnect-delay=60", server.options());
    block_on(async {
        let node = bench.open(&options).await.expect("it opens");
        node.write(4096, data(&[5; 4096]), WriteFlags::empty()).await.expect("written");
        node.flush().await.expect("durable");
        server.kill();
        // Nobody is there now; a server comes while the request waits.
        let mut read = Box::pin(node.read_bytes(0, 8192));
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let _server = Server::qemu(&socket, &file, &[]);
        let bytes = read.await.expect("it was repeated");
        assert_eq!((&bytes[..4096], &bytes[4096..]), (&pattern(1, 4096)[..], &[5; 4096][..]));
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn several_connections_are_used_and_the_loss_of_one_is_made_up_for() {
    let bench = Bench::new();
    let offer = Offer { flags: MULTI_CONN, ..Offer::default() };
    let (come, here) = mpsc::channel();
    let fake = Fake::new(&bench.path("s"), move |listener| {
        // Nobody is answered before all four connections are there.
        let peer = || {
            let peer = accept(listener).negotiate(offer).expect("a client");
            come.send(()).expect("the test waits");
            peer
        };
        let (first, more) = (peer(), [peer(), peer(), peer()]);
        drop(first);
        std::thread::scope(|scope| {
            more.into_iter().for_each(|peer| drop(scope.spawn(|| peer.serve(4))));
        });
    });
    block_on(async {
        let node = bench.open(&format!("{},reconnect-delay=60", fake.options())).await.expect("it opens");
        let deadline = Instant::now() + PATIENCE;
        let (mut reads, mut connections) = (Vec::new(), 0);
        while connections < 4 {
            assert!(Instant::now() < deadline, "only {connections} connections");
            // A request that finds all connections busy asks for one more.
            if reads.len() < 1000 {
                let mut read = Box::pin(node.read_bytes(0, 4096));
                assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                reads.push(read);
            }
            connections += here.recv_timeout(Duration::from_millis(5)).iter().count();
        }
        for result in join_all(reads).await {
            assert_eq!(&result.expect("answered by another connection")[..], &[4; 4096]);
        }
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}
