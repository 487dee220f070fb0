//! A folder for images, and the reference tool.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_crypto::bytes::{SecretBytes, fill_random};
use qemu_crypto::error::Result;
use qemu_crypto::luks::{AmendStep, HEADER_BYTES, LuksHeader, Materials, NewLuks};

/// Bytes of payload in every image.
pub(crate) const PAYLOAD_BYTES: usize = 64 << 10;

/// A temporary folder.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the reference in the folder; returns its exit code and everything that it printed.
    pub(crate) fn oracle(&self, args: &[&str]) -> (Option<i32>, String) {
        let output =
            Command::new("qemu-img").args(args).current_dir(self.0.path()).output().expect("qemu-img is installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs the reference, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) {
        let (code, text) = self.oracle(args);
        assert_eq!(code, Some(0), "{args:?}: {text}");
    }

    /// The payload of a LUKS image as the reference decrypts it.
    pub(crate) fn read_by_oracle(&self, name: &str, passphrase: &str) -> Vec<u8> {
        let secret = format!("secret,id=s,data={passphrase}");
        let image = format!("driver=luks,key-secret=s,file.filename={name}");
        self.run(&["convert", "--object", &secret, "--image-opts", &image, "-O", "raw", "decrypted.raw"]);
        std::fs::read(self.path("decrypted.raw")).expect("written by the reference")
    }
}

/// Bytes that differ from sector to sector.
pub(crate) fn pattern() -> Vec<u8> {
    (0..PAYLOAD_BYTES).map(|at| u8::try_from((at / 3 + at / 512) % 251).expect("small")).collect()
}

/// The header of a LUKS image.
pub(crate) fn read_header(path: &Path) -> LuksHeader {
    let mut bytes = [0; HEADER_BYTES];
    File::open(path).expect("there").read_exact_at(&mut bytes, 0).expect("long enough");
    LuksHeader::parse(&bytes).expect("valid")
}

/// All key material of the slots that are active.
pub(crate) fn read_materials(path: &Path, header: &LuksHeader) -> Materials {
    let file = File::open(path).expect("there");
    let mut materials = Materials::new();
    for slot in header.active_slots() {
        let mut bytes = vec![0; header.material_len()];
        file.read_exact_at(&mut bytes, header.material_range(slot).start).expect("long enough");
        materials.insert(slot, bytes);
    }
    materials
}

/// The master key of a LUKS image.
pub(crate) fn unlock(path: &Path, passphrase: &str) -> Result<SecretBytes> {
    let header = read_header(path);
    header.unlock(&read_materials(path, &header), passphrase.as_bytes())
}

/// The payload of a LUKS image as we decrypt it.
pub(crate) fn read_payload(path: &Path, passphrase: &str) -> Vec<u8> {
    let header = read_header(path);
    let cipher = header.sector_cipher(&unlock(path, passphrase).expect("the right passphrase")).expect("valid");
    let mut payload = vec![0; PAYLOAD_BYTES];
    File::open(path).expect("there").read_exact_at(&mut payload, header.payload_offset()).expect("long enough");
    cipher.decrypt(0, &mut payload);
    payload
}

/// Makes a LUKS image of a new header and a payload.
pub(crate) fn write_image(path: &Path, new: &NewLuks, payload: &[u8]) {
    let cipher = new.header.sector_cipher(&new.key).expect("valid");
    let mut encrypted = payload.to_vec();
    cipher.encrypt(0, &mut encrypted);
    let file = File::create(path).expect("writable");
    file.write_all_at(&encrypted, new.header.payload_offset()).expect("writable");
    file.write_all_at(&new.material.bytes, new.material.offset).expect("writable");
    file.write_all_at(&new.header.serialize(), 0).expect("writable");
}

/// Does the steps of a change.
pub(crate) fn apply(path: &Path, steps: &[AmendStep]) {
    let file = OpenOptions::new().write(true).open(path).expect("writable");
    for step in steps {
        match step {
            AmendStep::Write { offset, bytes } => file.write_all_at(bytes, *offset).expect("writable"),
            AmendStep::Scramble(range) => {
                let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
                fill_random(&mut bytes).expect("randomness");
                file.write_all_at(&bytes, range.start).expect("writable");
            }
            AmendStep::Flush => {}
        }
    }
}
