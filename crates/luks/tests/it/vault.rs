//! A folder for encrypted images, with passphrases for our driver and for the reference.

use std::process::Command;
use std::sync::Arc;

use luks::LuksDriver;
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::manage::AmendRequest;
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::secret::SecretStore;
use qemu_util::buf::IoBuf;

/// The secrets that both sides know: the name is the passphrase.
const SECRETS: [&str; 3] = ["one", "two", "three"];

/// Creation options of an image that is unlocked by the secret "one" and takes little time to unlock.
pub(crate) const QUICK: &str = "key-secret=one,iter-time=1";

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// See the module's description.
pub(crate) struct Vault {
    folder: tempfile::TempDir,
    pub(crate) context: OpenContext,
}

impl Vault {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(LuksDriver));
        let mut secrets = SecretStore::new();
        for name in SECRETS {
            secrets.insert(name, SecretBytes::new(name.as_bytes().to_vec())).expect("new");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let context = OpenContext::new(Arc::new(registry)).with_secrets(Arc::new(secrets));
        Self { folder, context }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("readable")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("writable");
    }

    /// Creates an image with our driver; fails with the text that the user would see.
    pub(crate) fn create(&self, name: &str, options: &str, size: &str) -> std::result::Result<(), String> {
        let path = self.path(name);
        let created = (|| {
            let mut options = Options::parse_keyval(options, None)?;
            options.set("size", size);
            let schema = self.context.create_schema("luks", Some(&path))?;
            let options = check_create_options(&schema, &options)?;
            block_on(self.context.create("luks", &path, options))
        })();
        created.map_err(|error| error.chain())
    }

    /// Opens an image with options such as `key-secret=one`.
    pub(crate) fn open(&self, name: &str, options: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        let mut spec = OpenSpec::file(self.path(name)).with_driver(Some("luks")).with_flags(flags);
        spec.options = Options::parse_keyval(options, None)?;
        block_on(self.context.open(spec))
    }

    /// Opens an image with the secret "one" for writing.
    pub(crate) fn open_rw(&self, name: &str) -> Arc<Node> {
        self.open(name, "key-secret=one", OpenFlags::WRITE | OpenFlags::RESIZE).expect("the right passphrase")
    }

    /// All bytes of the disk, read with these options.
    pub(crate) fn read_with(&self, name: &str, options: &str) -> Vec<u8> {
        let node = self.open(name, options, OpenFlags::empty()).expect("the right passphrase");
        block_on(async {
            let bytes = node.read_bytes(0, usize::try_from(node.len()).expect("small")).await.expect("readable");
            node.close().await.expect("closed");
            bytes.to_vec()
        })
    }

    /// Fails to open an image, with the text that the user would see.
    pub(crate) fn refusal(&self, name: &str, options: &str, flags: OpenFlags) -> String {
        self.open(name, options, flags).expect_err("refused").chain()
    }

    /// Changes key slots with our driver.
    pub(crate) fn amend(&self, name: &str, options: &str, force: bool) -> std::result::Result<(), String> {
        let node = self.open_rw(name);
        let options = Options::parse_keyval(options, None).expect("options");
        let request = AmendRequest { options, force, ..AmendRequest::default() };
        block_on(async {
            let amended = node.amending().expect("an image that can be amended").amend(request).await;
            node.close().await.expect("closed");
            amended.map_err(|error| error.chain())
        })
    }

    /// Runs the reference with all secrets in the folder; returns its exit code and everything that it printed.
    pub(crate) fn oracle(&self, command: &str, args: &[&str]) -> (Option<i32>, String) {
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
    pub(crate) fn run(&self, command: &str, args: &[&str]) -> String {
        let (code, text) = self.oracle(command, args);
        assert_eq!(code, Some(0), "{command} {args:?}: {text}");
        text
    }

    /// The reference creates an image.
    pub(crate) fn create_by_oracle(&self, name: &str, options: &str, size: &str) {
        self.run("create", &["-q", "-f", "luks", "-o", options, name, size]);
    }

    /// All bytes of the disk as the reference sees them with these options.
    pub(crate) fn read_by_oracle(&self, name: &str, options: &str) -> Vec<u8> {
        let image = format!("driver=luks,{options},file.filename={name}");
        self.run("convert", &["--image-opts", &image, "-O", "raw", "out"]);
        self.bytes("out")
    }

    /// What the reference says when it opens an image with these options.
    pub(crate) fn refusal_by_oracle(&self, name: &str, options: &str) -> String {
        let image = format!("driver=luks,{options},file.filename={name}");
        let (code, text) = self.oracle("convert", &["--image-opts", &image, "-O", "raw", "out"]);
        assert_eq!(code, Some(1), "{text}");
        text.trim_end().strip_prefix(&format!("qemu-img: Could not open '{image}': ")).expect(&text).to_owned()
    }
}

pub(crate) fn write(node: &Arc<Node>, offset: u64, bytes: &[u8]) {
    block_on(node.write(offset, IoBuf::copy_of(bytes).into(), WriteFlags::empty())).expect("written");
}

pub(crate) fn close(node: &Arc<Node>) {
    block_on(async {
        node.flush().await.expect("flushed");
        node.close().await.expect("closed");
    });
}
