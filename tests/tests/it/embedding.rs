//! The crates without the command: nodes run under any executor.

use std::fs;
use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::node::Node;
use qemu_block::registry::OpenSpec;
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBytes, IoVec};
use test_support::programs::reference;

use crate::fixture::{SMALL_BYTES, scratch_with_small_images};
use crate::model::context;

fn spec(path: &std::path::Path, flags: OpenFlags) -> OpenSpec {
    OpenSpec::file(path.to_string_lossy()).with_driver(Some("qcow2")).with_flags(flags)
}

fn pattern(byte: u8) -> IoVec {
    IoVec::from(IoBytes::copy_of(&vec![byte; 70_000]))
}

/// Sixteen writes at once from tasks of their own.
async fn write_from_many_tasks(node: &Arc<Node>) {
    let mut tasks = Vec::new();
    for n in 0..16_u8 {
        let node = Arc::clone(node);
        let write = async move { node.write(u64::from(n) * 80_000, pattern(n + 1), WriteFlags::default()).await };
        tasks.push(tokio::spawn(write));
    }
    for task in tasks {
        task.await.expect("the task ends").expect("the write succeeds");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_runs_under_tokio() {
    let dir = scratch_with_small_images();
    let path = dir.path().join("over2.qcow2");
    let node = context().open(spec(&path, OpenFlags::WRITE)).await.expect("the image opens");
    assert_eq!(node.len(), SMALL_BYTES);
    write_from_many_tasks(&node).await;
    node.write_zeroes(100, 50, ZeroFlags::default()).await.expect("zeroes are written");
    let read = node.read_bytes(80_000 * 3, 70_000).await.expect("the read succeeds");
    assert!(read.iter().all(|byte| *byte == 4));
    let read = node.read_bytes(50, 200).await.expect("the read succeeds");
    assert!(
        read[..50].iter().chain(&read[100..]).all(|byte| *byte == 1) && read[50..100].iter().all(|byte| *byte == 0)
    );
    node.flush().await.expect("the flush succeeds");
    node.close().await.expect("the close succeeds");
    drop(node);
    reference().run(dir.path(), "check over2.qcow2").ok();
}

#[tokio::test(flavor = "current_thread")]
async fn giving_up_requests_never_damages_the_image() {
    let dir = scratch_with_small_images();
    let path = dir.path().join("over2.qcow2");
    let node = context().open(spec(&path, OpenFlags::WRITE)).await.expect("the image opens");
    for n in 0..64_u64 {
        let write = node.write(n * 20_000, pattern(7), WriteFlags::default());
        // The runtime drops the write as soon as the other branch is ready, wherever the write stands then.
        let patience = async {
            for _ in 0..n % 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; done = write => done.unwrap_or_else(only_cancelled), () = patience => {} }
    }
    node.write(0, pattern(9), WriteFlags::default()).await.unwrap_or_else(only_cancelled);
    node.close().await.unwrap_or_else(only_cancelled);
    drop(node);
    // Clusters may leak when a request is given up; nothing may be damaged.
    let check = reference().run(dir.path(), "check over2.qcow2");
    assert!(matches!(check.code(), Some(0 | 3)), "{check}");
}

/// Once a request was given up while it wrote metadata, the image refuses further writes, and says why.
fn only_cancelled(error: BlockError) {
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn requests_outside_the_device_and_writes_to_read_only_nodes_are_refused() {
    let dir = scratch_with_small_images();
    let path = dir.path().join("plain.qcow2");
    let before = fs::read(&path).expect("the image can be read");
    let node = context().open(spec(&path, OpenFlags::empty())).await.expect("the image opens");
    let error = node.read_bytes(SMALL_BYTES - 1, 2).await.expect_err("it ends outside");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    node.read_bytes(u64::MAX, 2).await.expect_err("the end overflows");
    node.write(0, pattern(1), WriteFlags::default()).await.expect_err("it is read-only");
    node.write_zeroes(0, 512, ZeroFlags::default()).await.expect_err("it is read-only");
    node.close().await.expect("the close succeeds");
    assert!(before == fs::read(&path).expect("the image can be read"), "a read-only image was changed");
}
