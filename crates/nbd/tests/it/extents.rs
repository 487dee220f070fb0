//! Where data is, as servers tell it.

use crate::support::{Bench, Server, block_on};

#[test]
fn holes_of_a_file_are_seen_through_the_server() {
    let bench = Bench::new();
    let file = bench.path("disk");
    let made = std::fs::File::create(&file).expect("a file");
    made.set_len(1 << 20).expect("a hole");
    std::os::unix::fs::FileExt::write_all_at(&made, &[1; 65536], 131_072).expect("space");
    drop(made);
    for (at, server) in [
        Server::qemu(&bench.path("q"), &file, &[]),
        Server::nbdkit(&bench.path("k"), &["file", file.to_str().expect("UTF-8")]),
    ]
    .into_iter()
    .enumerate()
    {
        block_on(async {
            let node = bench.open(&server.options()).await.expect("it opens");
            let mut found = Vec::new();
            let mut offset = 0;
            while offset < node.len() {
                let status = node.block_status(offset, node.len() - offset).await.expect("a status");
                found.push((offset, status.len, status.is_zero(), status.host_offset));
                offset += status.len;
            }
            let expected = [
                (0, 131_072, true, Some(0)),
                (131_072, 65536, false, Some(131_072)),
                (196_608, (1 << 20) - 196_608, true, Some(196_608)),
            ];
            assert_eq!(found, expected, "server {at}");
            node.close().await.expect("closing cannot fail");
        });
    }
}

#[test]
fn a_server_that_does_not_tell_has_data_everywhere() {
    let bench = Bench::new();
    let server = Server::nbdkit(&bench.path("k"), &["--filter=noextents", "memory", "1M"]);
    block_on(async {
        let node = bench.open(&server.options()).await.expect("it opens");
        let status = node.block_status(0, 1 << 20).await.expect("a status");
        assert_eq!((status.len, status.is_data()), (1 << 20, true));
        node.close().await.expect("closing cannot fail");
    });
    let plain = Server::nbdkit(&bench.path("n"), &["--no-sr", "memory", "1M"]);
    block_on(async {
        let node = bench.open(&plain.options()).await.expect("it opens");
        let status = node.block_status(512, 1024).await.expect("a status");
        assert_eq!((status.len, status.is_data(), status.host_offset), (1024, true, Some(512)));
        assert_eq!(&node.read_bytes(0, 512).await.expect("a simple reply")[..], &[0; 512]);
        node.close().await.expect("closing cannot fail");
    });
}
