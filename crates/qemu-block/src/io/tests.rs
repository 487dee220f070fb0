//! Requests against a disk that insists on its limits, compared with a plain array of bytes.

use std::future::Future;
use std::sync::Arc;

use proptest::prelude::*;
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use super::block_status_above;
use super::test_disk::{Behaviour, node};
use crate::driver::DriverKind;
use crate::error::ErrorKind;
use crate::node::{ChildRole, Edge, Node};
use crate::types::{BlockLimits, OpenFlags, PreallocMode, StatusFlags, WriteFlags, ZeroFlags};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn limits(align: u32, memory_alignment: u32, growable: bool) -> BlockLimits {
    BlockLimits {
        request_alignment: align,
        memory_alignment,
        transfer_max: 9000,
        zero_alignment: 1024,
        discard_alignment: align,
        growable,
    }
}

fn disk(len: usize, limits: BlockLimits) -> (Arc<Node>, super::test_disk::SharedState) {
    node(vec![0; len], Behaviour { limits, ..Behaviour::default() }, OpenFlags::WRITE | OpenFlags::UNMAP)
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| seed.wrapping_add(u8::try_from(i % 249).unwrap())).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Read(usize, usize),
    Write(usize, usize, u8),
    Zero(usize, usize, bool),
    Truncate(usize),
}

const LEN_MAX: usize = 40_000;

fn op() -> impl Strategy<Value = Op> {
    let range = || (0..LEN_MAX, prop_oneof![0..600_usize, 0..20_000_usize]);
    prop_oneof![
        range().prop_map(|(at, len)| Op::Read(at, len)),
        (range(), any::<u8>()).prop_map(|((at, len), seed)| Op::Write(at, len, seed)),
        (range(), any::<bool>()).prop_map(|((at, len), only_cheap)| Op::Zero(at, len, only_cheap)),
        (1..LEN_MAX).prop_map(Op::Truncate),
    ]
}

/// Applies one operation to both sides. What the model cannot do must fail on the node as well.
async fn apply(node: &Node, model: &mut Vec<u8>, op: &Op, growable: bool, odd_slices: bool) {
    match *op {
        Op::Read(at, len) => {
            // Slices at odd addresses make the node use bounce buffers.
            let mut buf = IoBuf::zeroed(len + 1);
            let skip = usize::from(odd_slices);
            let mut vec = IoVecMut::from(buf.split_off(skip));
            drop(vec.split_off(len.min(vec.len())));
            let result = node.read(at as u64, vec).await;
            match model.get(at..at + len) {
                Some(expected) => assert_eq!(result.unwrap().to_vec(), expected, "read {at}+{len}"),
                None => assert_eq!(result.unwrap_err().kind(), ErrorKind::BadRequest),
            }
        }
        Op::Write(at, len, seed) => {
            let data = bytes(seed, len);
            let mut vec = IoVec::from(IoBuf::copy_of(&data[..len / 3]));
            vec.append(IoVec::from(IoBuf::copy_of(&data[len / 3..])));
            let result = node.write(at as u64, vec, WriteFlags::empty()).await;
            if at + len > model.len() && !growable {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::BadRequest);
                return;
            }
            result.unwrap();
            if len > 0 {
                model.resize(model.len().max(at + len), 0);
                model[at..at + len].copy_from_slice(&data);
            }
        }
        Op::Zero(at, len, only_cheap) => {
            let flags = if only_cheap { ZeroFlags::NO_FALLBACK } else { ZeroFlags::MAY_UNMAP };
            match node.write_zeroes(at as u64, len as u64, flags).await {
                Ok(()) if len > 0 => {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].fill(0);
                }
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => assert!(only_cheap),
                Err(error) => {
                    assert!(at + len > model.len() && !growable, "{error}");
                }
            }
        }
        Op::Truncate(len) => {
            node.truncate(len as u64, PreallocMode::Off).await.unwrap();
            model.resize(len, 0);
        }
    }
    assert_eq!(node.len(), model.len() as u64, "after {op:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_request_works_on_any_alignment(
        ops in prop::collection::vec(op(), 1..40),
        len in 1..LEN_MAX,
        align in prop::sample::select(vec![1_u32, 512, 4096]),
        direct in any::<bool>(),
        growable in any::<bool>(),
        zeroes in any::<bool>(),
    ) {
        run(async {
            let limits = limits(align, if direct { align } else { 1 }, growable);
            let behaviour = Behaviour { limits, zeroes, ..Behaviour::default() };
            let (node, state) = node(vec![0; len], behaviour, OpenFlags::WRITE);
            let mut model = vec![0; len];
            for op in &ops {
                apply(&node, &mut model, op, growable, direct).await;
            }
            assert!(state.lock().bytes == model);
        });
    }
}

#[test]
fn concurrent_unaligned_writes_lose_nothing() {
    run(async {
        let (node, state) = disk(8192, limits(4096, 1, false));
        let write = |at: usize, seed: u8| {
            let node = &node;
            async move {
                let data = IoVec::from(IoBuf::copy_of(&[seed; 100]));
                node.write(at as u64, data, WriteFlags::empty()).await.unwrap();
            }
        };
        // All of them share blocks with others, and the disk lets others run inside each step.
        let all = (0..80_u8).map(|i| write(usize::from(i) * 100, i + 1));
        futures_util::future::join_all(all).await;
        let state = state.lock();
        assert!(state.bytes[..8000].iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / 100 + 1));
    });
}

/// Disjoint writes of all kinds in any order: one that is padded must not cut off what another appended meanwhile.
async fn grow_concurrently(cuts: &[(usize, u8)], order: &[usize]) {
    let (node, state) = disk(100, limits(4096, 4096, true));
    let mut parts = Vec::new();
    let mut model = vec![0; 100];
    for &(len, seed) in cuts {
        // Some of the parts are whole blocks, so that plain writes take part too.
        let start = if len.is_multiple_of(4096) { model.len().next_multiple_of(4096) } else { model.len() };
        model.resize(start, 0);
        model.extend(bytes(seed, len));
        parts.push(start..start + len);
    }
    let (node, model) = (&node, &model);
    let write = |part: std::ops::Range<usize>| async move {
        if model[part.clone()].iter().all(|byte| *byte == 0) {
            node.write_zeroes(part.start as u64, part.len() as u64, ZeroFlags::empty()).await.unwrap();
            return;
        }
        let data = IoVec::from(IoBuf::copy_of(&model[part.clone()]));
        node.write(part.start as u64, data, WriteFlags::empty()).await.unwrap();
    };
    let mut parts: Vec<_> = parts.into_iter().zip(order.iter().chain(std::iter::repeat(&0))).collect();
    parts.sort_by_key(|(_, key)| **key);
    futures_util::future::join_all(parts.into_iter().map(|(part, _)| write(part))).await;
    assert_eq!(node.len(), model.len() as u64);
    assert!(state.lock().bytes == *model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn concurrent_growing_writes_lose_nothing(
        cuts in prop::collection::vec(
            (prop_oneof![1..9000_usize, Just(4096_usize), Just(8192_usize)], any::<u8>()), 2..20
        ),
        order in prop::collection::vec(0..100_usize, 20),
    ) {
        run(grow_concurrently(&cuts, &order));
    }
}

#[test]
fn a_padded_write_does_not_cut_off_what_others_append() {
    // The last part is written first, and the padded one before it finds a short device when it begins.
    run(grow_concurrently(&[(4096, 1), (5000, 2), (4096, 3)], &[2, 1, 0]));
    run(grow_concurrently(&[(1000, 1), (8192, 2), (5, 3)], &[2, 1, 0]));
}

#[test]
fn drivers_are_offered_the_edges_of_zeros() {
    run(async {
        let (node, state) = disk(8000, limits(512, 1, false));
        node.write_zeroes(100, 4000, ZeroFlags::empty()).await.unwrap();
        let counts = state.lock().counts;
        // 1024 to 4096 in whole units; the edge before it was offered, refused, and written.
        assert_eq!((counts.zeroes, counts.zeroes_refused, counts.writes), (1, 2, 2));
        node.write_zeroes(1024, 8000 - 1024, ZeroFlags::empty()).await.unwrap();
        let counts = state.lock().counts;
        assert_eq!((counts.zeroes, counts.zeroes_refused, counts.writes), (2, 2, 2), "the end counts as aligned");
        let refused = node.write_zeroes(100, 700, ZeroFlags::NO_FALLBACK).await.unwrap_err();
        assert_eq!((refused.kind(), state.lock().counts.writes), (ErrorKind::Unsupported, 2));
    });
}

#[test]
fn copies_of_nothing_succeed() {
    run(async {
        let (node, _) = disk(8000, limits(512, 1, false));
        node.copy_range(8000, &node, 8000, 0).await.unwrap();
        assert_eq!(node.copy_range(8001, &node, 0, 0).await.unwrap_err().kind(), ErrorKind::BadRequest);
        assert_eq!(node.copy_source(0, 0).await.unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn aligned_requests_are_passed_on_untouched() {
    run(async {
        let (node, state) = disk(8192, limits(512, 512, false));
        node.write(512, IoBuf::copy_of(&[7; 1024]).into(), WriteFlags::empty()).await.unwrap();
        let mut buf = IoVecMut::from(IoBuf::zeroed(512));
        buf = node.read(512, buf).await.unwrap();
        assert_eq!(buf.to_vec(), [7; 512]);
        let counts = state.lock().counts;
        assert_eq!((counts.reads, counts.writes), (1, 1));
    });
}

#[test]
fn absurd_ranges_are_refused() {
    run(async {
        let (node, _) = disk(8192, limits(512, 1, true));
        for (offset, len) in [(8192, 1), (u64::MAX, 2), (u64::MAX - 1, 1), (i64::MAX as u64, 1)] {
            let read = node.read(offset, IoBuf::zeroed(len).into()).await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::BadRequest, "{offset}+{len}");
        }
        for offset in [u64::MAX, i64::MAX as u64] {
            let write = node.write(offset, IoBuf::zeroed(2).into(), WriteFlags::empty()).await;
            assert_eq!(write.unwrap_err().kind(), ErrorKind::BadRequest);
            assert!(node.write_zeroes(offset, u64::MAX, ZeroFlags::empty()).await.is_err());
            assert!(node.discard(offset, u64::MAX).await.is_err());
        }
        assert!(node.truncate(u64::MAX, PreallocMode::Off).await.is_err());
        assert!(node.read_bytes(0, usize::MAX).await.is_err());
        assert!(node.read_bytes(8192, 0).await.unwrap().is_empty());
    });
}

#[test]
fn read_only_and_closed_nodes_refuse() {
    run(async {
        let (read_only, state) = node(vec![1; 512], Behaviour::default(), OpenFlags::empty());
        let error = read_only.write(0, IoBuf::zeroed(1).into(), WriteFlags::empty()).await.unwrap_err();
        assert_eq!((error.errno(), error.message()), (libc::EPERM, "Block node is read-only"));
        assert!(read_only.write_zeroes(0, 1, ZeroFlags::empty()).await.is_err());
        assert!(read_only.discard(0, 1).await.is_err());
        assert!(read_only.truncate(0, PreallocMode::Off).await.is_err());
        read_only.flush().await.unwrap();
        read_only.close().await.unwrap();
        read_only.close().await.unwrap();
        assert_eq!(state.lock().counts.closes, 1);
        assert!(read_only.read_bytes(0, 1).await.is_err());
        assert!(read_only.flush().await.is_err());
        assert!(read_only.block_status(0, 1).await.is_err());
    });
}

#[test]
fn discards_are_clipped_inward_but_reach_the_end() {
    run(async {
        let (node, state) = disk(8000, limits(512, 1, false));
        node.discard(100, 1000).await.unwrap();
        node.discard(100, 500).await.unwrap();
        node.discard(0, 8000).await.unwrap();
        assert_eq!(state.lock().discarded, [512..1024, 0..8000]);
    });
}

#[test]
fn backends_keep_to_the_device_and_write_through() {
    use crate::backend::BlockBackend;
    run(async {
        let behaviour = Behaviour { limits: limits(1, 1, true), ..Behaviour::default() };
        let (node, state) = node(vec![0; 1000], behaviour, OpenFlags::WRITE | OpenFlags::WRITE_THROUGH);
        let backend = BlockBackend::new(node);
        let write = |at| backend.write(at, IoBuf::zeroed(10).into(), WriteFlags::empty());
        assert_eq!(write(995).await.unwrap_err().kind(), ErrorKind::BadRequest);
        assert_eq!(state.lock().counts.flushes, 0);
        write(990).await.unwrap();
        assert_eq!(state.lock().counts.flushes, 1);
        backend.close().await.unwrap();
        let counts = state.lock().counts;
        assert_eq!((counts.flushes, counts.closes), (2, 1));
    });
}

#[test]
fn zeros_in_what_is_written_are_found_if_asked_for() {
    run(async {
        for (has_cheap_zeros, expected) in [(true, (1, 1)), (false, (2, 0))] {
            let behaviour = Behaviour { zeroes: has_cheap_zeros, ..Behaviour::default() };
            let (node, state) = node(vec![7; 4096], behaviour, OpenFlags::WRITE | OpenFlags::DETECT_ZEROES);
            node.write(0, IoVec::from(IoBuf::zeroed(2048)), WriteFlags::empty()).await.unwrap();
            node.write(2048, IoVec::from(IoBuf::copy_of(&[1; 1024])), WriteFlags::empty()).await.unwrap();
            let state = state.lock();
            assert_eq!((state.counts.writes, state.counts.zeroes), expected);
            assert!(state.bytes[..2048].iter().all(|byte| *byte == 0) && state.bytes[2048..3072] == [1; 1024]);
        }
    });
}

fn layer(len: usize, extents: &[(u64, StatusFlags)], children: Vec<Edge>) -> Arc<Node> {
    let extents = extents.to_vec();
    let behaviour = Behaviour { kind: DriverKind::Format, extents, children, ..Behaviour::default() };
    node(vec![0; len], behaviour, OpenFlags::empty()).0
}

fn backing(node: &Arc<Node>) -> Edge {
    Edge { name: "backing", role: ChildRole::Backing, node: Arc::clone(node) }
}

#[test]
fn status_follows_the_chain_and_sees_short_backing_files() {
    run(async {
        let none = StatusFlags::empty();
        let base = layer(600, &[(100, StatusFlags::DATA), (600, none)], Vec::new());
        let middle = layer(1000, &[(50, StatusFlags::ZERO), (1000, none)], vec![backing(&base)]);
        let top = layer(2000, &[(2000, none)], vec![backing(&middle)]);
        let mut found = Vec::new();
        let mut at = 0;
        while at < 2000 {
            let seen = block_status_above(&top, None, at, 2000 - at).await.unwrap();
            let flags = seen.status.flags & (StatusFlags::DATA | StatusFlags::ZERO);
            found.push((at, seen.status.len, flags, seen.depth));
            at += seen.status.len;
        }
        let (data, zero) = (StatusFlags::DATA, StatusFlags::ZERO);
        // Middle's zeros; base's data; nothing below base; beyond the end of base; beyond the end of middle.
        let expected =
            [(0, 50, zero, 1), (50, 50, data, 2), (100, 500, zero, 2), (600, 400, zero, 2), (1000, 1000, zero, 1)];
        assert_eq!(found, expected);

        let above = block_status_above(&top, Some(&middle), 50, 100).await.unwrap();
        assert!(above.node.is_none() && !above.status.is_allocated());
        let above = block_status_above(&top, Some(&base), 0, 100).await.unwrap();
        assert!(Arc::ptr_eq(&above.node.unwrap(), &middle));
    });
}

#[test]
fn data_in_holes_of_the_storage_is_zero() {
    run(async {
        let holes = [(512, StatusFlags::DATA), (1024, StatusFlags::ZERO)];
        let file =
            node(vec![0; 1024], Behaviour { extents: holes.to_vec(), ..Behaviour::default() }, OpenFlags::empty());
        let edge = Edge { name: "file", role: ChildRole::Storage, node: file.0 };
        let format = layer(1024, &[(1024, StatusFlags::DATA | StatusFlags::RECURSE)], vec![edge]);
        let first = format.block_status(100, 900).await.unwrap();
        assert_eq!((first.len, first.is_data(), first.host_offset), (412, true, Some(100)));
        let second = format.block_status(512, 512).await.unwrap();
        assert!(second.is_zero() && second.is_allocated());
        assert_eq!(format.block_status(1024, 5).await.unwrap().len, 0);
        assert_eq!(format.block_status(u64::MAX, 5).await.unwrap().len, 0);
    });
}
