//! Secrets defined to us and to the reference by the same properties.

use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::luks::{CreateOptions, LuksHeader};
use qemu_crypto::secret::{SecretFormat, SecretProperties, SecretStore};

use crate::support::{Folder, pattern, write_image};

const MASTER: &str = "01234567890123456789012345678901";
const IV: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
/// "pw" encrypted with the master secret.
const ENCRYPTED: &str = "iDpThjVt4axcUm+rEoG19g==";

#[test]
fn an_encrypted_secret_means_the_same_to_both() {
    let folder = Folder::new();
    let mut store = SecretStore::new();
    store.insert("m", SecretBytes::new(MASTER.as_bytes().to_vec())).expect("new");
    let properties = SecretProperties {
        file: Some("secret".to_owned()),
        format: SecretFormat::Base64,
        keyid: Some("m".to_owned()),
        iv: Some(IV.to_owned()),
        ..SecretProperties::default()
    };
    store.define("s", properties, |_| Ok(ENCRYPTED.as_bytes().to_vec())).expect("valid");
    let passphrase = store.passphrase("s").expect("there");

    let options = CreateOptions { iter_time_ms: 1, ..CreateOptions::default() };
    let new = LuksHeader::create(&options, passphrase.as_ref()).expect("valid");
    write_image(&folder.path("ours.luks"), &new, &pattern());
    std::fs::write(folder.path("secret"), ENCRYPTED).expect("writable");
    let master = format!("secret,id=m,data={MASTER}");
    let secret = format!("secret,id=s,file=secret,format=base64,keyid=m,iv={IV}");
    let image = "driver=luks,key-secret=s,file.filename=ours.luks";
    folder.run(&["convert", "--object", &master, "--object", &secret, "--image-opts", image, "-O", "raw", "out.raw"]);
    assert!(std::fs::read(folder.path("out.raw")).expect("there") == pattern());
}
