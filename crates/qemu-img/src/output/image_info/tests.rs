//! The expected texts were printed by the reference for images like these.

use super::*;

fn file() -> ImageInfo {
    ImageInfo {
        filename: "a.qcow2".to_owned(),
        format: "file",
        virtual_size: 459_264,
        allocated_bytes: Some(339_968),
        info: DriverInfo {
            dirty: Some(false),
            format_specific: Some(FormatSpecific { type_name: "file", fields: vec![] }),
            ..DriverInfo::default()
        },
        children: vec![],
    }
}

fn qcow2(info: DriverInfo) -> ImageInfo {
    ImageInfo {
        filename: "a.qcow2".to_owned(),
        format: "qcow2",
        virtual_size: 24 << 20,
        allocated_bytes: Some(339_968),
        info,
        children: vec![("file", file())],
    }
}

fn snapshot(name: &str) -> SnapshotInfo {
    SnapshotInfo {
        id: "1".to_owned(),
        name: name.to_owned(),
        vm_state_bytes: 0,
        date_seconds: 1_795_303_527,
        date_nanoseconds: 23_027_000,
        vm_clock_nanoseconds: 3_723_004_005_006,
        icount: None,
    }
}

#[test]
fn all_facts_for_people() {
    let flags = InfoValue::List(vec![InfoValue::Text("auto".to_owned())]);
    let bitmap = |flags| InfoValue::Object(vec![("flags", flags), ("granularity", InfoValue::Int(65536))]);
    let fields = vec![
        ("lazy-refcounts", InfoValue::Bool(false)),
        ("bitmaps", InfoValue::List(vec![bitmap(flags), bitmap(InfoValue::List(vec![]))])),
    ];
    let info = qcow2(DriverInfo {
        cluster_size: Some(65536),
        dirty: Some(true),
        encrypted: true,
        backing_filename: Some("base\u{1b}.raw".to_owned()),
        full_backing_filename: Some("d/base.raw".to_owned()),
        backing_format: Some("raw".to_owned()),
        format_specific: Some(FormatSpecific { type_name: "qcow2", fields }),
        ..DriverInfo::default()
    });
    let expected = "\
image: a.qcow2
file format: qcow2
virtual size: 24 MiB (25165824 bytes)
disk size: 332 KiB
encrypted: yes
cluster_size: 65536
cleanly shut down: no
backing file: base\\x1b.raw (actual path: d/base.raw)
backing file format: raw
Format specific information:
    lazy refcounts: false
    bitmaps:
        [0]:
            flags:
                [0]: auto
            granularity: 65536
        [1]:
            flags:
            granularity: 65536
Child node '/file':
    filename: a.qcow2
    protocol type: file
    file length: 448 KiB (459264 bytes)
    disk size: 332 KiB
";
    assert_eq!(info.to_human(), expected);
}

#[test]
fn snapshot_rows_line_up() {
    let header = snapshot_row(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"]);
    assert_eq!(header, "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT");
    // The date is in the zone of whoever runs the test.
    let date = local_time::format(1_795_303_527);
    assert_eq!(
        snapshot_human(&snapshot("s1")),
        format!("1       s1                    0 B {date}  0001:02:03.004         --")
    );
    assert_eq!(
        snapshot_human(&snapshot("a name that is longer than its column")),
        format!("1       a name that is longer than its column      0 B {date}  0001:02:03.004         --")
    );
}

#[test]
fn members_have_the_references_order() {
    let info = qcow2(DriverInfo {
        cluster_size: Some(65536),
        dirty: Some(false),
        snapshots: vec![snapshot("s1")],
        format_specific: Some(FormatSpecific {
            type_name: "qcow2",
            fields: vec![("compat", InfoValue::Text("1.1".to_owned()))],
        }),
        ..DriverInfo::default()
    });
    let expected = r#"{
    "children": [
        {
            "name": "file",
            "info": {
                "children": [
                ],
                "virtual-size": 459264,
                "filename": "a.qcow2",
                "format": "file",
                "actual-size": 339968,
                "format-specific": {
                    "type": "file",
                    "data": {
                    }
                },
                "dirty-flag": false
            }
        }
    ],
    "snapshots": [
        {
            "vm-clock-nsec": 4005006,
            "name": "s1",
            "date-sec": 1795303527,
            "date-nsec": 23027000,
            "vm-clock-sec": 3723,
            "id": "1",
            "vm-state-size": 0
        }
    ],
    "virtual-size": 25165824,
    "filename": "a.qcow2",
    "cluster-size": 65536,
    "format": "qcow2",
    "actual-size": 339968,
    "format-specific": {
        "type": "qcow2",
        "data": {
            "compat": "1.1"
        }
    },
    "dirty-flag": false
}
"#;
    assert_eq!(info.to_json().pretty(), expected);
}
