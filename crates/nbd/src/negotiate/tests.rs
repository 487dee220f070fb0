//! Negotiations with a server that says what a test makes it say.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const CONTEXT: &str = "base:allocation";

/// A stream that has all answers ready and remembers what it was told.
struct Script {
    answers: VecDeque<u8>,
    told: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.answers.read(buf)
    }
}

impl Write for Script {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.told.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    let len = u32::try_from(data.len()).expect("short");
    [option, kind, len].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend(data);
    bytes
}

const UNSUPPORTED: u32 = 0x8000_0001;

fn export_info(size: u64, flags: u16) -> Vec<u8> {
    let mut data = vec![0, 0];
    data.extend(size.to_be_bytes());
    data.extend(flags.to_be_bytes());
    reply(7, 3, &data)
}

fn talk(parts: &[&[u8]], export: &str) -> (Result<Export, String>, Vec<u8>) {
    let mut script = Script { answers: parts.concat().into(), told: Vec::new() };
    let result = negotiate(&mut script, Wanted { export, context: CONTEXT });
    (result.map_err(|error| error.chain()), script.told)
}

fn complaint(parts: &[&[u8]], export: &str) -> String {
    talk(parts, export).0.expect_err("refused")
}

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

#[test]
fn a_modern_server_says_everything() {
    let blocks = reply(7, 3, &[0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 2, 0, 0, 0]);
    let (export, told) = talk(
        &[
            GREETING,
            &reply(8, 1, b""),
            &reply(10, 4, b"\0\0\0\x05base:allocation"),
            &reply(10, 1, b""),
            &reply(7, 3, b"\0\x01name"),
            &blocks,
            &export_info(4096, 0b1_0000_1101),
            &reply(7, 1, b""),
        ],
        "e",
    );
    let export = export.expect("accepted");
    assert_eq!((export.size, export.structured, export.context), (4096, true, Some(5)));
    assert_eq!(export.blocks.map(|blocks| blocks.minimum), Some(512));
    assert!(export.flags.contains(ExportFlags::MULTI_CONN | ExportFlags::FUA));
    assert!(told.starts_with(b"\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0IHAVEOPT\0\0\0\x0a"));
}

#[test]
fn older_servers_are_understood() {
    let no_go = [&reply(8, UNSUPPORTED, b"")[..], &reply(7, UNSUPPORTED, b"")].concat();
    let list = [reply(3, 2, b"\0\0\0\x01edesc"), reply(3, 1, b"")].concat();
    let size = b"\0\0\0\0\0\0\x10\0\0\x03";
    let (export, _) = talk(&[GREETING, &no_go, &list, size], "e");
    let export = export.expect("accepted");
    assert_eq!((export.size, export.structured, export.context), (4096, false, None));

    let newstyle = talk(&[b"NBDMAGICIHAVEOPT\0\0", size, &[0; PADDING]], "");
    assert_eq!(newstyle.0.map(|export| export.size), Ok(4096));
    assert!(newstyle.1.ends_with(b"IHAVEOPT\0\0\0\x01\0\0\0\0"), "the name is asked for at once");

    let oldstyle = b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0\0\0\0\0\x10\0\0\0\0\x03";
    assert_eq!(talk(&[oldstyle, &[0; PADDING]], "").0.map(|export| export.size), Ok(4096));
    assert_eq!(complaint(&[oldstyle], "x"), "Server does not support non-empty export names");
}

#[test]
fn what_is_no_server_is_recognised() {
    let eof = "Unexpected end-of-file before all data were read";
    assert_eq!(complaint(&[b""], ""), format!("Failed to read initial magic: {eof}"));
    assert_eq!(complaint(&[b"SSH-2.0-OpenSSH"], ""), "Bad initial magic received: 0x5353482d322e302d");
    assert_eq!(complaint(&[b"NBDMAGICxxxxxxxx"], ""), "Bad server magic received: 0x7878787878787878");
    assert_eq!(complaint(&[GREETING], ""), format!("Failed to read option reply: {eof}"));
    assert_eq!(complaint(&[GREETING, &[b'x'; 20]], ""), "Unexpected option reply magic");
}

#[test]
fn refusals_are_told_in_the_servers_words_which_cannot_do_harm() {
    let start = [GREETING, &reply(8, UNSUPPORTED, b"")].concat();
    for (error, text) in [
        (2, "Denied by server for option 7 (go)"),
        (5, "TLS negotiation required before option 7 (go)\nDid you forget a valid tls-creds?"),
        (6, "Requested export not available"),
        (7, "Server shutting down before option 7 (go)"),
        (8, "Server requires INFO_BLOCK_SIZE for option 7 (go)"),
        (99, "Unknown error code when asking for option 7 (go)"),
    ] {
        let refusal = reply(7, 0x8000_0000 + error, b"no\x1b[2J");
        let expected = format!("{text}\nserver reported: no\\x1b[2J");
        assert_eq!(complaint(&[&start, &refusal], ""), expected);
    }
    let (_, told) = talk(&[&start, &reply(7, 0x8000_0006, b"")], "");
    assert!(told.ends_with(b"IHAVEOPT\0\0\0\x02\0\0\0\0"), "an abort, as a courtesy");
}

#[test]
fn an_unknown_export_is_named_if_there_is_a_list() {
    let no_go = [&reply(8, UNSUPPORTED, b"")[..], &reply(7, UNSUPPORTED, b"")].concat();
    let list = [reply(3, 2, b"\0\0\0\x01e"), reply(3, 1, b"")].concat();
    assert_eq!(complaint(&[GREETING, &no_go, &list], "f"), "No export with name 'f' available");
}

#[test]
fn nonsense_is_refused() {
    let plain = [GREETING, &reply(8, UNSUPPORTED, b"")].concat();
    let structured = [GREETING, &reply(8, 1, b"")].concat();
    let huge = [&reply(7, 3, b"")[..16], &u32::MAX.to_be_bytes()].concat();
    for (parts, text) in [
        (vec![&plain[..], &huge], "incorrect option length 4294967295"),
        (vec![&plain, &reply(7, 1, b"")], "broken server omitted NBD_INFO_EXPORT"),
        (vec![&plain, &reply(7, 1, b"x")], "server sent invalid NBD_REP_ACK"),
        (vec![&plain, &reply(7, 5, b"")], "unexpected reply type 5 (<unknown>), expected 3 (info)"),
        (vec![&plain, &reply(7, 3, b"1")], "NBD_REP_INFO length 1 is too short"),
        (vec![&plain, &export_info(u64::MAX, 1), &reply(7, 1, b"")], "The export is too large"),
        (
            vec![GREETING, &reply(8, 1, b"12345")],
            "Option 8 ('structured reply') response length is 5 (it should be zero)",
        ),
        (
            vec![&structured, &reply(10, 4, b"\0\0\0\x01x:y")],
            "Failed to negotiate meta context 'base:allocation', server answered with different context 'x:y'",
        ),
    ] {
        assert_eq!(complaint(&parts, ""), text);
    }
    let id = reply(10, 4, b"\0\0\0\x01base:allocation");
    assert_eq!(complaint(&[&structured, &id, &id], ""), "Server answered with more than one context");
}

/// Replies with a header that is right and a kind and data that need not be.
fn any_reply() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0..12_u32, (0..12_u32).prop_map(|error| error | 1 << 31), any::<u32>()];
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let option = prop_oneof![Just(8), Just(10), Just(7), Just(3), any::<u32>()];
    (option, kind, data).prop_map(|(option, kind, data)| reply(option, kind, &data))
}

proptest! {
    /// Whatever a server says, the negotiation ends, and what it ends with makes sense.
    #[test]
    fn no_server_can_break_the_negotiation(
        replies in proptest::collection::vec(any_reply(), 0..8),
        structured in any::<bool>(),
        junk in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let first = reply(8, if structured { 1 } else { UNSUPPORTED }, b"");
        let parts = [&[GREETING, &first][..], &replies.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[&junk]].concat();
        if let Ok(export) = talk(&parts, "e").0 {
            prop_assert!(i64::try_from(export.size).is_ok());
            prop_assert!(export.blocks.is_none_or(|blocks| blocks.minimum.is_power_of_two()));
        }
        prop_assert!(talk(&[&junk], "e").0.is_err(), "there is no greeting");
    }
}
