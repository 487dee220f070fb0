//! Servers that break the protocol: every request fails, at once and from then on, and nothing hangs.

use crate::fake::{Asked, Fake, Offer, Peer, accept};
use crate::support::{Bench, block_on, failure};

/// What a server does with the first read, of 4096 bytes at 8192.
type Misdeed = fn(&mut Peer, &Asked);

fn place(offset: u64, more: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_be_bytes().to_vec();
    payload.extend(more);
    payload
}

const DONE: u16 = 1;
const DATA: u16 = 1;
const HOLE: u16 = 2;
const STATUS: u16 = 5;
const ERROR: u16 = 1 << 15 | 1;

/// Misdeeds, and what is said about them.
const MISDEEDS: [(&str, Misdeed); 20] = [
    ("invalid magic", |peer, _| peer.send(&[b'x'; 64])),
    ("unexpected cookie", |peer, asked| peer.chunk(DONE, DATA, asked.cookie + 100, &place(8192, &[0; 4096]))),
    ("unexpected cookie", |peer, asked| {
        peer.give(asked, 1);
        peer.give(asked, 1);
    }),
    ("exceeding requested region", |peer, asked| peer.chunk(DONE, DATA, asked.cookie, &place(8191, &[0; 4096]))),
    ("exceeding requested region", |peer, asked| peer.chunk(DONE, DATA, asked.cookie, &place(0, &[0; 4096]))),
    ("exceeding requested region", |peer, asked| peer.chunk(DONE, DATA, asked.cookie, &place(12287, &[0; 2]))),
    ("exceeding requested region", |peer, asked| peer.chunk_header(DONE, DATA, asked.cookie, u32::MAX)),
    ("exceeding requested region", |peer, asked| peer.chunk(DONE, HOLE, asked.cookie, &place(8192, &[0, 0, 16, 1]))),
    ("exceeding requested region", |peer, asked| peer.chunk(DONE, HOLE, asked.cookie, &place(u64::MAX, &[0xff; 4]))),
    ("invalid payload", |peer, asked| peer.chunk(DONE, HOLE, asked.cookie, &[0; 13])),
    ("invalid payload", |peer, asked| peer.chunk(DONE, DATA, asked.cookie, &[0; 8])),
    ("did not send all bytes", |peer, asked| peer.chunk(DONE, DATA, asked.cookie, &place(8192, &[0; 4095]))),
    ("did not send all bytes", |peer, asked| peer.chunk(DONE, 0, asked.cookie, b"")),
    ("the same bytes twice", |peer, asked| {
        peer.chunk(0, DATA, asked.cookie, &place(8192, &[0; 100]));
        peer.chunk(DONE, DATA, asked.cookie, &place(8292 - 1, &[0; 100]));
    }),
    ("DONE flag", |peer, asked| peer.chunk(0, 0, asked.cookie, b"")),
    ("simple reply when structured", |peer, asked| peer.simple(0, asked.cookie)),
    ("simple reply when structured", |peer, asked| {
        peer.chunk(0, DATA, asked.cookie, &place(8192, &[0; 100]));
        peer.simple(5, asked.cookie);
    }),
    ("Unexpected reply type", |peer, asked| peer.chunk(DONE, STATUS, asked.cookie, &[0; 12])),
    ("invalid payload", |peer, asked| peer.chunk_header(DONE, ERROR, asked.cookie, 1 << 24)),
    ("message size", |peer, asked| peer.chunk(DONE, ERROR, asked.cookie, &[0, 0, 0, 5, 0xff, 0xff, b'x'])),
];

#[test]
fn a_broken_protocol_fails_all_requests_for_good() {
    let bench = Bench::new();
    for (at, (complaint, misdeed)) in MISDEEDS.into_iter().enumerate() {
        let fake = Fake::new(&bench.path(&format!("s{at}")), move |listener| {
            let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
            let asked = peer.read_request();
            misdeed(&mut peer, &asked);
            // The client leaves by itself.
            while peer.request().is_some() {}
        });
        block_on(async {
            // A violation is not a lost connection: nothing is tried again.
            let node = bench.open(&format!("{},reconnect-delay=1000", fake.options())).await.expect("it opens");
            // Two requests: when the first is answered before the misdeed, the second still fails.
            let (first, second) = (node.read_bytes(8192, 4096), node.read_bytes(0, 512));
            let (first, second) = futures_util::future::join(first, second).await;
            let error = failure(first.and(second));
            assert_eq!(error.errno(), libc::EIO, "{complaint}");
            let later = failure(node.read_bytes(0, 512).await);
            assert!(later.chain().contains(complaint), "{complaint}: {}", later.chain());
            node.close().await.expect("closing cannot fail");
        });
        fake.join();
    }
}

#[test]
fn a_status_that_makes_no_sense_is_refused() {
    let bench = Bench::new();
    let statuses: [(&str, &[u8]); 4] = [
        ("unexpected context id", &[0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0]),
        ("zero length", &[0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("invalid payload", &[0, 0, 0, 0x2a, 0, 0]),
        ("did not reply with any status", b""),
    ];
    for (at, (complaint, payload)) in statuses.into_iter().enumerate() {
        let fake = Fake::new(&bench.path(&format!("s{at}")), move |listener| {
            let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
            let asked = peer.request().expect("a request");
            let kind = if payload.is_empty() { 0 } else { STATUS };
            peer.chunk(DONE, kind, asked.cookie, payload);
            while peer.request().is_some() {}
        });
        block_on(async {
            let node = bench.open(&fake.options()).await.expect("it opens");
            assert_eq!(failure(node.block_status(0, 4096).await).errno(), libc::EIO);
            let later = failure(node.read_bytes(0, 512).await);
            assert!(later.chain().contains(complaint), "{}", later.chain());
            node.close().await.expect("closing cannot fail");
        });
        fake.join();
    }
}

#[test]
fn an_extent_longer_than_asked_for_is_cut() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        let asked = peer.request().expect("a request");
        peer.chunk(DONE, STATUS, asked.cookie, &[0, 0, 0, 0x2a, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3]);
        while peer.request().is_some() {}
    });
    block_on(async {
        let node = bench.open(&fake.options()).await.expect("it opens");
        let status = node.block_status(512, 4096).await.expect("a status");
        assert_eq!((status.len, status.is_zero(), status.host_offset), (4096, true, Some(512)));
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

#[test]
fn an_error_with_a_text_fails_one_request_only() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let mut peer = accept(listener).negotiate(Offer::default()).expect("a client");
        let asked = peer.read_request();
        peer.chunk(0, DATA, asked.cookie, &place(asked.offset, &[1; 100]));
        peer.chunk(DONE, ERROR, asked.cookie, b"\0\0\0\x1c\0\x05wrong");
        let asked = peer.read_request();
        peer.simple(1, asked.cookie);
        peer.serve(7);
    });
    block_on(async {
        let node = bench.open(&fake.options()).await.expect("it opens");
        assert_eq!(failure(node.read_bytes(0, 4096).await).errno(), libc::ENOSPC);
        assert_eq!(failure(node.read_bytes(0, 4096).await).errno(), libc::EPERM);
        assert_eq!(&node.read_bytes(0, 4096).await.expect("it goes on")[..], &[7; 4096]);
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}
