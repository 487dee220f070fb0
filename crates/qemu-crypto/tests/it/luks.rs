//! LUKS images in both directions: every cipher, mode, IV generator and hash; key slots added and erased.

use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::cipher::{CipherAlg, CipherMode, IvGenAlg};
use qemu_crypto::error::CryptoError;
use qemu_crypto::hash::HashAlg;
use qemu_crypto::luks::{AmendOptions, CreateOptions, LuksHeader, SlotIndex, SlotState};
use qemu_crypto::secret::SecretStore;

use crate::support::{Folder, apply, pattern, read_header, read_materials, read_payload, unlock, write_image};

/// Every combination but one of CBC with AES-192, whose key material is no whole number of sectors: the reference
/// aborts on it.
fn combinations() -> Vec<CreateOptions> {
    let mut all = Vec::new();
    for cipher_alg in CipherAlg::ALL {
        for cipher_mode in CipherMode::ALL {
            for ivgen_alg in IvGenAlg::ALL {
                if cipher_alg == CipherAlg::Aes192 && cipher_mode != CipherMode::Xts {
                    continue;
                }
                all.push(CreateOptions {
                    cipher_alg,
                    cipher_mode,
                    ivgen_alg,
                    iter_time_ms: 1,
                    ..CreateOptions::default()
                });
            }
        }
    }
    // The hash is independent of the rest.
    all.extend(HashAlg::ALL.map(|hash_alg| CreateOptions { hash_alg, iter_time_ms: 1, ..CreateOptions::default() }));
    all
}

/// A few combinations of the values that matter: the reference takes a second for each image,
/// because it measures how fast the processor is.
fn few_combinations() -> Vec<CreateOptions> {
    let [sha1, _, sha256, _, sha512] = HashAlg::ALL;
    let combination = |cipher_alg, cipher_mode, ivgen_alg, hash_alg| {
        let default = CreateOptions { iter_time_ms: 1, ..CreateOptions::default() };
        CreateOptions { cipher_alg, cipher_mode, ivgen_alg, hash_alg, ..default }
    };
    vec![
        combination(CipherAlg::Aes128, CipherMode::Xts, IvGenAlg::Plain64, sha1),
        combination(CipherAlg::Aes192, CipherMode::Xts, IvGenAlg::Essiv, sha256),
        combination(CipherAlg::Aes256, CipherMode::Cbc, IvGenAlg::Plain, sha512),
        combination(CipherAlg::Aes128, CipherMode::Ctr, IvGenAlg::Plain64, sha1),
    ]
}

#[test]
fn images_of_the_reference_are_opened() {
    let folder = Folder::new();
    let plain = pattern();
    std::fs::write(folder.path("plain.raw"), &plain).expect("writable");
    for options in few_combinations() {
        let list = format!(
            "key-secret=s,iter-time=1,cipher-alg={},cipher-mode={},ivgen-alg={},hash-alg={}",
            options.cipher_alg.name(),
            options.cipher_mode.name(),
            options.ivgen_alg.name(),
            options.hash_alg.name(),
        );
        let convert = ["convert", "-f", "raw", "-O", "luks", "--object", "secret,id=s,data=pw", "-o", &list];
        folder.run(&[&convert[..], &["plain.raw", "theirs.luks"]].concat());
        let path = folder.path("theirs.luks");
        assert_eq!(read_header(&path).cipher(), options.cipher().expect("valid"), "{list}");
        assert!(read_payload(&path, "pw") == plain, "{list}");
        assert_eq!(unlock(&path, "PW"), Err(CryptoError::WrongPassphrase));
    }
}

#[test]
fn the_reference_opens_ours() {
    let folder = Folder::new();
    let plain = pattern();
    for options in combinations() {
        let new = LuksHeader::create(&options, b"pw").expect("valid");
        assert_eq!(new.header.payload_offset(), options.payload_offset().expect("valid"));
        write_image(&folder.path("ours.luks"), &new, &plain);
        assert!(folder.read_by_oracle("ours.luks", "pw") == plain, "{options:?}");
    }
}

#[test]
fn key_material_of_half_a_sector_is_padded() {
    let folder = Folder::new();
    let path = folder.path("ours.luks");
    let options = CreateOptions {
        cipher_alg: CipherAlg::Aes192,
        cipher_mode: CipherMode::Cbc,
        ivgen_alg: IvGenAlg::Essiv,
        iter_time_ms: 1,
        ..CreateOptions::default()
    };
    write_image(&path, &LuksHeader::create(&options, b"pw").expect("valid"), &pattern());
    assert!(read_payload(&path, "pw") == pattern());
}

#[test]
fn info_shows_what_the_header_says() {
    let folder = Folder::new();
    let options = CreateOptions { ivgen_alg: IvGenAlg::Essiv, iter_time_ms: 1, ..CreateOptions::default() };
    let new = LuksHeader::create(&options, b"pw").expect("valid");
    write_image(&folder.path("ours.luks"), &new, &pattern());
    let (code, text) = folder.oracle(&["info", "-f", "luks", "ours.luks"]);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        format!("uuid: {}", new.header.uuid()),
        "ivgen alg: essiv".to_owned(),
        "ivgen hash alg: sha256".to_owned(),
        format!("payload offset: {}", new.header.payload_offset()),
        format!("master key iters: {}", new.header.master_key_iterations()),
        format!("iters: {}", new.header.slots()[0].iterations),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}

fn secrets() -> SecretStore {
    let mut store = SecretStore::new();
    for name in ["one", "two", "three", "wrong"] {
        store.insert(name, SecretBytes::new(name.as_bytes().to_vec())).expect("new");
    }
    store
}

fn options(state: SlotState) -> AmendOptions {
    AmendOptions { state, new_secret: None, old_secret: None, keyslot: None, iter_time_ms: None, secret: None }
}

fn add(secret: &str, keyslot: Option<i64>) -> AmendOptions {
    let new_secret = Some(secret.to_owned());
    AmendOptions { new_secret, keyslot, iter_time_ms: Some(1), ..options(SlotState::Active) }
}

fn erase(old_secret: Option<&str>, keyslot: Option<i64>) -> AmendOptions {
    AmendOptions { old_secret: old_secret.map(str::to_owned), keyslot, ..options(SlotState::Inactive) }
}

/// An image with one passphrase, and a way to change it as the reference does.
struct Amended {
    folder: Folder,
    secrets: SecretStore,
}

impl Amended {
    fn new() -> Self {
        let folder = Folder::new();
        let options = CreateOptions { iter_time_ms: 1, ..CreateOptions::default() };
        let new = LuksHeader::create(&options, b"one").expect("valid");
        write_image(&folder.path("image.luks"), &new, &pattern());
        Self { folder, secrets: secrets() }
    }

    fn amend(&self, options: &AmendOptions, force: bool) -> Result<(), String> {
        let path = self.folder.path("image.luks");
        let mut header = read_header(&path);
        let materials = read_materials(&path, &header);
        let steps = header.amend(&materials, options, &self.secrets, Some("one"), force);
        apply(&path, &steps.map_err(|error| error.to_string())?);
        assert_eq!(read_header(&path), header, "what is written is what is in memory");
        Ok(())
    }

    fn active(&self) -> Vec<usize> {
        read_header(&self.folder.path("image.luks")).active_slots().map(SlotIndex::get).collect()
    }

    fn refusal(&self, options: &AmendOptions) -> String {
        let before = read_header(&self.folder.path("image.luks"));
        let text = self.amend(options, false).expect_err("refused");
        assert_eq!(read_header(&self.folder.path("image.luks")), before);
        text
    }
}

#[test]
fn passphrases_come_and_go() {
    let image = Amended::new();
    image.amend(&add("two", None), false).expect("a free slot");
    image.amend(&add("three", Some(6)), false).expect("a free slot");
    assert_eq!(image.active(), [0, 1, 6]);
    for passphrase in ["one", "two", "three"] {
        assert!(image.folder.read_by_oracle("image.luks", passphrase) == pattern(), "{passphrase}");
    }
    image.amend(&erase(Some("one"), None), false).expect("others are left");
    image.amend(&erase(None, Some(6)), false).expect("another is left");
    assert_eq!(image.active(), [1]);
    let path = image.folder.path("image.luks");
    assert_eq!(unlock(&path, "one"), Err(CryptoError::WrongPassphrase));
    assert_eq!(unlock(&path, "three"), Err(CryptoError::WrongPassphrase));
    assert!(image.folder.read_by_oracle("image.luks", "two") == pattern());
    let last = image.refusal(&erase(None, Some(1)));
    assert!(last.starts_with("Attempt to erase the only active keyslot 1"), "{last}");
    let all = image.refusal(&erase(Some("two"), None));
    assert!(all.starts_with("All the active keyslots match"), "{all}");
    image.amend(&erase(None, Some(1)), true).expect("forced");
    assert_eq!(image.active(), [] as [usize; 0]);
}

#[test]
fn the_reference_s_changes_are_seen() {
    let image = Amended::new();
    let list = "state=active,new-secret=two,keyslot=3,iter-time=1";
    let objects = ["--object", "secret,id=one,data=one", "--object", "secret,id=two,data=two"];
    let name = "driver=luks,key-secret=one,file.filename=image.luks";
    image.folder.run(&[&["amend"], &objects[..], &["--image-opts", name, "-o", list]].concat());
    let path = image.folder.path("image.luks");
    assert_eq!(image.active(), [0, 3]);
    assert!(read_payload(&path, "two") == pattern());
    let list = "state=inactive,old-secret=one";
    image.folder.run(&[&["amend"], &objects[..], &["--image-opts", name, "-o", list]].concat());
    assert_eq!(image.active(), [3]);
    assert_eq!(unlock(&path, "one"), Err(CryptoError::WrongPassphrase));
}

#[test]
fn refused_changes_have_the_reference_s_words() {
    let image = Amended::new();
    let active = options(SlotState::Active);
    let given = |name: &str| Some(name.to_owned());
    for (options, text) in [
        (active.clone(), "'new-secret' is required to activate a keyslot"),
        (
            AmendOptions { old_secret: given("one"), ..add("two", None) },
            "'old-secret' must not be given when activating keyslots",
        ),
        (add("two", Some(8)), "Invalid keyslot 8 specified, must be between 0 and 7"),
        (add("two", Some(0)), "Refusing to overwrite active keyslot 0 - please erase it first"),
        (add("nobody", None), "No secret with id 'nobody'"),
        (AmendOptions { secret: given("wrong"), ..add("two", None) }, "Invalid password, cannot unlock any keyslot"),
        (
            AmendOptions { new_secret: given("two"), ..erase(None, Some(0)) },
            "'new-secret' must not be given when erasing keyslots",
        ),
        (
            AmendOptions { iter_time_ms: Some(1), ..erase(None, Some(0)) },
            "'iter-time' must not be given when erasing keyslots",
        ),
        (erase(None, Some(-1)), "Invalid keyslot -1 specified, must be between 0 and 7"),
        (erase(None, Some(4)), "Given keyslot 4 is already erased (inactive) "),
        (erase(Some("two"), Some(0)), "Given keyslot 0 doesn't contain the given old password for erase operation"),
        (erase(Some("two"), None), "No keyslots match given (old) password for erase operation"),
        (
            erase(None, None),
            "To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be \
             given",
        ),
    ] {
        assert_eq!(image.refusal(&options), text);
    }
    for slot in 1..8 {
        image.amend(&add("two", Some(slot)), false).expect("free");
    }
    assert_eq!(image.refusal(&add("two", None)), "Can't add a keyslot - all keyslots are in use");
}
