//! A folder for encrypted images, with passphrases for our driver and for the reference.

use std::process::Command;
use std::sync::Arc;

use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::manage::AmendRequest;
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{CheckFixes, OpenFlags, WriteFlags};
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::secret::SecretStore;
use qemu_util::buf::IoBuf;

use crate::support::block_on;

/// The secrets that both sides know: the name is the passphrase.
const SECRETS: [&str; 3] = ["one", "two", "three"];

/// Creation options of an image that is unlocked by the secret "one" and takes little time to unlock.
pub(super) const LUKS: &str = "encrypt.format=luks,encrypt.key-secret=one,encrypt.iter-time=1";
pub(super) const AES: &str = "encrypt.format=aes,encrypt.key-secret=one";

/// See the module's description.
pub(super) struct Vault {
    folder: tempfile::TempDir,
    pub(super) context: OpenContext,
}

impl Vault {
    pub(super) fn new() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(Qcow2Driver));
        let mut secrets = SecretStore::new();
        for name in SECRETS {
            secrets.insert(name, SecretBytes::new(name.as_bytes().to_vec())).expect("new");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let context = OpenContext::new(Arc::new(registry)).with_secrets(Arc::new(secrets));
        Self { folder, context }
    }

    /// The path of a file in the folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("readable")
    }

    /// Creates an image with our driver; fails with the text that the user would see.
    pub(super) fn create(&self, name: &str, options: &str, size: &str) -> std::result::Result<(), String> {
        let path = self.path(name);
        let created = (|| {
            let mut options = Options::parse_keyval(options, None)?;
            options.set("size", size);
            let schema = self.context.create_schema("qcow2", Some(&path))?;
            let options = check_create_options(&schema, &options)?;
            block_on(self.context.create("qcow2", &path, options))
        })();
        created.map_err(|error| error.chain())
    }

    /// Opens an image with options such as `encrypt.key-secret=one`.
    pub(super) fn open(&self, name: &str, options: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        let mut spec = OpenSpec::file(self.path(name)).with_driver(Some("qcow2")).with_flags(flags);
        spec.options = Options::parse_keyval(options, None)?;
        block_on(self.context.open(spec))
    }

    /// Opens an image with the secret "one" for writing.
    pub(super) fn open_rw(&self, name: &str) -> Arc<Node> {
        self.open(name, "encrypt.key-secret=one", OpenFlags::WRITE).expect("the right passphrase")
    }

    /// All bytes of the disk, read with the secret `secret`.
    pub(super) fn read_with(&self, name: &str, secret: &str) -> Vec<u8> {
        let options = format!("encrypt.key-secret={secret}");
        let node = self.open(name, &options, OpenFlags::empty()).expect("the right passphrase");
        block_on(async {
            let bytes = node.read_bytes(0, usize::try_from(node.len()).expect("small")).await.expect("readable");
            node.close().await.expect("closed");
            bytes.to_vec()
        })
    }

    /// Fails to open an image, with the text that the user would see.
    pub(super) fn refusal(&self, name: &str, options: &str, flags: OpenFlags) -> String {
        self.open(name, options, flags).expect_err("refused").chain()
    }

    /// Changes key slots with our driver.
    pub(super) fn amend(&self, name: &str, options: &str, force: bool) -> std::result::Result<(), String> {
        let node = self.open_rw(name);
        let options = Options::parse_keyval(options, None).expect("options");
        let request = AmendRequest { options, force, ..AmendRequest::default() };
        block_on(async {
            let amended = node.amending().expect("an image that can be amended").amend(request).await;
            node.close().await.expect("closed");
            amended.map_err(|error| error.chain())
        })
    }

    /// Checks an image with our driver: corruptions and leaks.
    pub(super) fn check(&self, name: &str) -> (u64, u64) {
        let node = self.open(name, "encrypt.key-secret=one", OpenFlags::CHECK).expect("the right passphrase");
        block_on(async {
            let report = node.check(CheckFixes::Nothing).await.expect("checkable");
            node.close().await.expect("closed");
            (report.corruptions, report.leaks)
        })
    }

    /// Runs the reference with all secrets in the folder; returns its exit code and everything that it printed.
    pub(super) fn oracle(&self, command: &str, args: &[&str]) -> (Option<i32>, String) {
        let mut tool = Command::new("qemu-img");
        tool.arg(command).current_dir(self.folder.path());
        for name in SECRETS {
            tool.args(["--object", &format!("secret,id={name},data={name}")]);
        }
        let output = tool.args(args).output().expect("qemu-img is installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs the reference, which must succeed.
    pub(super) fn run(&self, command: &str, args: &[&str]) -> String {
        let (code, text) = self.oracle(command, args);
        assert_eq!(code, Some(0), "{command} {args:?}: {text}");
        text
    }

    /// The reference creates an image.
    pub(super) fn create_by_oracle(&self, name: &str, options: &str, size: &str) {
        self.run("create", &["-q", "-f", "qcow2", "-o", options, name, size]);
    }

    /// Runs commands of the reference's `qemu-io` on an image, unlocked with the secret "one".
    pub(super) fn io_by_oracle(&self, name: &str, commands: &[&str]) {
        let mut tool = Command::new("qemu-io");
        tool.current_dir(self.folder.path()).args(["--object", "secret,id=one,data=one", "--image-opts"]);
        commands.iter().for_each(|command| {
            tool.args(["-c", command]);
        });
        let output = tool.arg(spec(name, "one")).output().expect("qemu-io is installed");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && !text.contains("failed"), "{text}");
    }

    /// All bytes of the disk as the reference reads them with the secret `secret`.
    pub(super) fn read_by_oracle(&self, name: &str, secret: &str) -> Vec<u8> {
        self.run("convert", &["--image-opts", &spec(name, secret), "-O", "raw", "plain.raw"]);
        self.bytes("plain.raw")
    }

    /// The reference checks an image, and must find nothing.
    pub(super) fn check_by_oracle(&self, name: &str) {
        self.run("check", &["--image-opts", &spec(name, "one")]);
    }
}

/// How the reference opens an encrypted image.
pub(super) fn spec(name: &str, secret: &str) -> String {
    format!("driver=qcow2,encrypt.key-secret={secret},file.filename={name}")
}

/// Writes bytes.
pub(super) fn write(node: &Node, offset: u64, bytes: &[u8]) {
    block_on(node.write(offset, IoBuf::copy_of(bytes).into(), WriteFlags::empty())).expect("written");
}

/// Closes a node.
pub(super) fn close(node: &Node) {
    block_on(node.close()).expect("closed");
}
