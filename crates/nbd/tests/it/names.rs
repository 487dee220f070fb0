//! Names and options that lead to an export, and what is said when they do not.

use std::io::{Read, Write};
use std::net::TcpListener;

use qemu_block::types::OpenFlags;

use crate::fake::{Fake, Offer, READ_ONLY, accept};
use crate::support::{Bench, Server, block_on, failure, pattern};

#[test]
fn all_names_of_an_export_lead_to_it_and_it_has_one_name() {
    let bench = Bench::new();
    let file = bench.path("disk");
    std::fs::write(&file, pattern(1, 8192)).expect("space");
    let server = Server::qemu(&bench.path("s"), &file, &["-x", "e p"]);
    let socket = server.socket().display();
    let canonical = format!("nbd+unix:///e p?socket={socket}");
    block_on(async {
        for name in [
            format!("nbd+unix:///e%20p?socket={socket}"),
            format!("nbd:unix:{socket}:exportname=e p"),
            canonical.clone(),
        ] {
            let node = bench.open_name(&name).await.expect(&name);
            assert_eq!((node.filename(), node.len()), (canonical.as_str(), 8192), "{name}");
            node.close().await.expect("closing cannot fail");
        }
        for options in [
            format!("driver=nbd,server.type=unix,server.path={socket},export=e p"),
            format!("driver=raw,file.driver=nbd,file.path={socket},file.export=e p"),
        ] {
            let node = bench.open(&options).await.expect(&options);
            assert_eq!((node.filename(), node.len()), (canonical.as_str(), 8192), "{options}");
            node.close().await.expect("closing cannot fail");
        }
    });
}

#[test]
fn what_cannot_be_reached_is_named() {
    let bench = Bench::new();
    let file = bench.path("disk");
    std::fs::write(&file, pattern(1, 8192)).expect("space");
    let server = Server::qemu(&bench.path("s"), &file, &["-r"]);
    let socket = server.socket().display();
    let none = bench.path("none");
    let none = none.display();
    block_on(async {
        for (name, text) in [
            (
                format!("nbd+unix:///?socket={none}"),
                format!("Failed to connect to '{none}': No such file or directory"),
            ),
            (
                format!("nbd+unix:///x?socket={socket}"),
                "Requested export not available\nserver reported: export 'x' not present".to_owned(),
            ),
            ("nbd://127.0.0.1:9/".to_owned(), "Failed to connect to '127.0.0.1:9': Connection refused".to_owned()),
            ("nbd:".to_owned(), "NBD server address missing".to_owned()),
            ("nbd+tls://h/".to_owned(), "Unknown protocol 'nbd+tls'".to_owned()),
            ("file+nbd:x".to_owned(), "Unknown protocol 'file+nbd'".to_owned()),
            (
                "nbd:127.0.0.1:x".to_owned(),
                "address resolution failed for 127.0.0.1:x: Servname not supported for ai_socktype".to_owned(),
            ),
            (format!("nbd:unix:{socket}"), "Could not open image: Permission denied".to_owned()),
        ] {
            assert_eq!(failure(bench.open_name(&name).await).chain(), text, "{name}");
        }
        let long = "x".repeat(200);
        let error = failure(bench.open(&format!("driver=nbd,path={long}")).await);
        assert!(error.chain().starts_with("UNIX socket path 'xxx"), "{}", error.chain());
        let error = failure(bench.open_with(&format!("driver=nbd,path={socket},foo=1"), OpenFlags::empty()).await);
        assert_eq!(error.chain(), "Block protocol 'nbd' doesn't support the option 'foo'");
        let bitmap = bench.open_with(&format!("driver=nbd,path={socket},x-dirty-bitmap=b"), OpenFlags::empty()).await;
        assert_eq!(failure(bitmap).chain(), "Could not open image: Invalid argument");
    });
}

#[test]
fn a_read_only_export_is_opened_for_reading() {
    let bench = Bench::new();
    let fake = Fake::new(&bench.path("s"), |listener| {
        let offer = Offer { flags: READ_ONLY, ..Offer::default() };
        assert!(accept(listener).negotiate(offer).expect("a client").request().is_none(), "refused");
        accept(listener).negotiate(offer).expect("a client").serve(1);
    });
    block_on(async {
        assert_eq!(failure(bench.open(&fake.options()).await).errno(), libc::EACCES);
        let node = bench.open_with(&fake.options(), OpenFlags::empty()).await.expect("for reading");
        assert_eq!(&node.read_bytes(0, 4).await.expect("readable")[..], &[1; 4]);
        node.close().await.expect("closing cannot fail");
    });
    fake.join();
}

#[test]
fn a_server_in_the_network_is_reached_by_name_and_number() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a client");
            // An oldstyle server: 4096 bytes, read-only.
            stream.write_all(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0\0\0\0\0\x10\0\0\0\0\x03").expect("sent");
            stream.write_all(&[0; 124]).expect("sent");
            let mut request = [0; 28];
            stream.read_exact(&mut request).expect("a read");
            let mut reply = b"\x67\x44\x66\x98\0\0\0\0".to_vec();
            reply.extend(&request[8..16]);
            reply.extend([6; 512]);
            stream.write_all(&reply).expect("sent");
            // Until the client leaves.
            drop(stream.read_to_end(&mut Vec::new()));
        }
    });
    block_on(async {
        for options in [
            format!("driver=nbd,host=127.0.0.1,port={port}"),
            format!("driver=nbd,server.type=inet,server.host=localhost,server.port={port},server.ipv4=on"),
        ] {
            let node = bench.open_with(&options, OpenFlags::empty()).await.expect(&options);
            // A server that says nothing about blocks is asked for sectors only.
            assert_eq!((node.limits().request_alignment, node.len()), (512, 4096));
            assert_eq!(&node.read_bytes(10, 20).await.expect("readable")[..], &[6; 20]);
            node.close().await.expect("closing cannot fail");
        }
    });
    server.join().expect("the server found what it expects");
}
