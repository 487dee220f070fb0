//! From a description to an open node. QEMU: `bdrv_open_inherit`, `bdrv_fill_options`, `bdrv_open_child` (block.c).

use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use qemu_crypto::secret::SecretStore;

use super::common::{effective_shared, take_common};
use super::full_name::{NodeName, plain_name};
use super::names::{protocol_of, split_filter_name, strip_protocol};
use super::nursery::{Nursery, NurseryRef};
use super::policy::{OpenPolicy, Origin, Reference, Target};
use super::probe::{PROBE_LEN, ProbeGuard};
use super::trail::Trail;
use super::{OpenSpec, Registry};
use crate::aio::Services;
use crate::driver::{BlockDriver, DriverKind, FileIdentity, OpenRequest};
use crate::error::{BlockError, ErrorKind, Result, shown};
use crate::node::Node;
use crate::options::Options;
use crate::types::{OpenFlags, Perm};

/// The means to open nodes: the registry, the secrets, and the images whose opening led here.
#[derive(Clone, Debug)]
pub struct OpenContext {
    registry: Arc<Registry>,
    secrets: Arc<SecretStore>,
    trail: Trail,
    /// Where the opens of this context are driven, as long as an open is under way.
    nursery: NurseryRef,
    /// How many links down the chain the backing file is that may be written; 0 if none may.
    writable_backing: u32,
    /// Which names are followed; all, without one.
    policy: Option<Arc<dyn OpenPolicy>>,
    /// Who says what is opened through this context.
    origin: Origin,
}

/// A description whose name has been merged into its options, and how it is to be opened.
pub(super) struct Plan {
    pub(super) filename: Option<String>,
    pub(super) driver: Option<String>,
    pub(super) options: Options,
    pub(super) flags: OpenFlags,
    pub(super) perm: Perm,
    pub(super) shared: Perm,
}

impl OpenContext {
    /// A context in which nothing is being opened yet, without secrets.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            secrets: Arc::default(),
            trail: Trail::default(),
            nursery: NurseryRef::new(),
            writable_backing: 0,
            policy: None,
            origin: Origin::Caller,
        }
    }

    /// The same context with these secrets, which options of encrypted images name.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<SecretStore>) -> Self {
        Self { secrets, ..self }
    }

    /// The same context, in which only names are followed that `policy` lets through.
    #[must_use]
    pub fn with_policy(self, policy: Arc<dyn OpenPolicy>) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The same context for opening what somebody else than the caller named: an image, whose content says so.
    #[must_use]
    pub fn on_behalf_of(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Asks the policy whether that may be opened.
    ///
    /// # Errors
    /// Its refusal.
    pub(super) fn check_policy(&self, target: Target<'_>, name: &str) -> Result<()> {
        let Some(policy) = &self.policy else { return Ok(()) };
        policy.check(&Reference { origin: self.origin, target, name })
    }

    /// The same for a name whose driver follows from it; `prefixed` when it may begin with a protocol.
    fn check_name(&self, name: &str, prefixed: bool) -> Result<()> {
        let target = match protocol_of(name).filter(|_| prefixed) {
            None => Target::Path(name),
            Some("json") => Target::Json,
            Some(protocol @ ("file" | "host_device")) => {
                return self.check_policy(Target::Path(&strip_protocol(name, protocol)), name);
            }
            Some(protocol) => Target::Protocol(protocol),
        };
        self.check_policy(target, name)
    }

    /// Passphrases and the like, by name.
    pub fn secrets(&self) -> &Arc<SecretStore> {
        &self.secrets
    }

    /// The same for opening an image whose backing file, `depth` links down the chain, is opened for writing and resizing,
    /// as to commit the image into it.
    #[must_use]
    pub fn with_writable_backing(&self, depth: u32) -> Self {
        Self { writable_backing: depth, ..self.clone() }
    }

    /// Whether the backing file of the image that is being opened is that one.
    pub(super) fn opens_backing_writable(&self) -> bool {
        self.writable_backing != 0 && self.trail.depth() + 1 == self.writable_backing
    }

    /// The table of drivers.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What all nodes share.
    pub fn services(&self) -> &Services {
        self.registry.services()
    }

    /// The context for what is opened on behalf of the image in `file`.
    pub(super) fn below(&self, file: Option<FileIdentity>) -> Result<Self> {
        Ok(Self { trail: self.trail.step(file)?, ..self.clone() })
    }

    /// Opens an image: its protocol, its format (probed unless it is named), and what the format needs.
    ///
    /// # Errors
    /// The whole chain reads as what the reference prints after "Could not open 'x': ".
    pub async fn open(&self, spec: OpenSpec) -> Result<Arc<Node>> {
        if let Some(nursery) = self.nursery.upgrade() {
            let context = self.clone();
            return nursery.hand_over(async move { context.open_here(spec).await }).await;
        }
        let nursery = Arc::new(Nursery::default());
        let context = Self { nursery: Arc::downgrade(&nursery), ..self.clone() };
        let opening = Box::pin(context.open_here(spec));
        nursery.drive(opening).await
    }

    /// As [`OpenContext::open`], for whoever drives this context's opens.
    async fn open_here(&self, spec: OpenSpec) -> Result<Arc<Node>> {
        if let Some(name) = &spec.filename {
            self.check_name(name, true)?;
        }
        let mut plan = Plan::new(spec)?;
        plan.flags = take_common(&mut plan.options, plan.flags)?;
        plan.shared = effective_shared(plan.flags, plan.shared);
        let driver = plan.driver.as_deref().map(|name| self.find_driver(name)).transpose()?;
        match driver {
            Some(driver) if driver.kind() == DriverKind::Protocol => self.open_leaf(driver, plan).await,
            driver => self.open_format(driver, plan).await,
        }
    }

    /// Opens only the protocol level of `filename`: what stores an image, without looking at its format.
    ///
    /// With [`OpenFlags::WRITE`] the node may be written and resized. Everything is shared with others.
    ///
    /// # Errors
    /// As [`OpenContext::open`].
    pub async fn open_protocol(&self, filename: &str, options: Options, flags: OpenFlags) -> Result<Arc<Node>> {
        self.check_name(filename, true)?;
        let driver = self.find_protocol(filename, true)?;
        let mut perm = Perm::CONSISTENT_READ;
        perm.set(Perm::WRITE | Perm::RESIZE, flags.contains(OpenFlags::WRITE));
        let filename = Some(filename.to_owned());
        let mut plan = Plan { filename, driver: None, options, flags, perm, shared: Perm::all() };
        plan.flags = take_common(&mut plan.options, plan.flags)?;
        plan.shared = effective_shared(plan.flags, plan.shared);
        self.open_leaf(driver, plan).await
    }

    pub(super) fn find_driver(&self, name: &str) -> Result<Arc<dyn BlockDriver>> {
        self.registry.driver(name).ok_or_else(|| invalid(format!("Unknown driver '{}'", shown(name))))
    }

    /// The protocol that `filename` belongs to; `prefixed` when it may begin with one's name.
    ///
    /// QEMU: `bdrv_find_protocol`.
    pub(super) fn find_protocol(&self, filename: &str, prefixed: bool) -> Result<Arc<dyn BlockDriver>> {
        let name = match protocol_of(filename).filter(|_| prefixed) {
            Some(protocol) => protocol,
            None if is_device(filename) => "host_device",
            None => "file",
        };
        self.registry.protocol(name).ok_or_else(|| invalid(format!("Unknown protocol '{}'", shown(name))))
    }

    /// The path in a name that may have the prefix of `driver`; names of other protocols are for their drivers to read.
    pub(super) fn protocol_path(&self, driver: &Arc<dyn BlockDriver>, filename: &str) -> String {
        match driver.name() {
            name @ ("file" | "host_device") => strip_protocol(filename, name).into_owned(),
            _ => filename.to_owned(),
        }
    }

    /// Opens a node that has no storage below.
    pub(super) async fn open_leaf(&self, driver: Arc<dyn BlockDriver>, mut plan: Plan) -> Result<Arc<Node>> {
        // A device without memory has no name that anybody could give; the option is as unknown as any other.
        let has_name = !matches!(driver.name(), "null-aio" | "null-co");
        let by_option = if has_name { plan.options.take_str("filename") } else { None };
        let filename = match (plan.filename, by_option) {
            (Some(_), Some(_)) => {
                return Err(invalid("Can't specify 'file' and 'filename' options at the same time".to_owned()));
            }
            (Some(name), None) => self.protocol_path(&driver, &name),
            (None, name) => name.unwrap_or_default(),
        };
        let target = match driver.name() {
            "file" | "host_device" => Target::Path(&filename),
            name => Target::Protocol(name),
        };
        self.check_policy(target, &filename)?;
        let request =
            OpenRequest { filename, options: plan.options, flags: plan.flags, storage: None, context: self.clone() };
        let node = open_node(&driver, request, None).await?;
        if let Some(identity) = node.identity().filter(|identity| self.trail.contains(*identity)) {
            let message = format!("Backing file '{}' creates an infinite loop ({identity:?})", shown(node.filename()));
            return close_after(&node, invalid(message)).await;
        }
        match node.set_perm(plan.perm, plan.shared).await {
            Ok(()) => Ok(node),
            Err(error) => close_after(&node, error).await,
        }
    }

    /// Opens a format or filter node and its storage. Without `driver` the format is probed.
    pub(super) async fn open_format(&self, driver: Option<Arc<dyn BlockDriver>>, mut plan: Plan) -> Result<Arc<Node>> {
        self.check_format(driver.as_ref(), plan.filename.as_deref())?;
        let child = driver.as_ref().map_or("file", |driver| driver.kind().storage_name());
        let storage = self.open_storage(child, &mut plan).await?;
        let opened = self.open_over(driver, plan, &storage).await;
        match opened {
            Ok(node) => Ok(node),
            Err(error) => close_after(&storage, error).await,
        }
    }

    /// Asks the policy about the format, or about guessing it.
    fn check_format(&self, driver: Option<&Arc<dyn BlockDriver>>, name: Option<&str>) -> Result<()> {
        let name = name.unwrap_or_default();
        match (driver, &self.policy) {
            (_, None) => Ok(()),
            (Some(driver), _) => self.check_policy(Target::Format(driver.name()), name),
            (None, Some(policy)) if policy.may_probe(self.origin) => Ok(()),
            (None, _) => Err(BlockError::new(
                ErrorKind::PermissionDenied,
                format!("The image names no format for '{}', and guessing it is not allowed", shown(name)),
            )),
        }
    }

    async fn open_over(
        &self,
        driver: Option<Arc<dyn BlockDriver>>,
        plan: Plan,
        storage: &Arc<Node>,
    ) -> Result<Arc<Node>> {
        let (driver, guard) = match driver {
            Some(driver) => (driver, None),
            None => self.probe_format(storage).await?,
        };
        let (perm, shared) = (plan.perm, plan.shared);
        let (storage_perm, storage_shared) = driver.storage_perms(perm, shared, plan.flags);
        storage.set_perm(storage_perm, effective_shared(plan.flags, storage_shared)).await?;
        let request = OpenRequest {
            filename: plain_name(storage),
            options: plan.options,
            flags: plan.flags,
            storage: Some(Arc::clone(storage)),
            context: self.clone(),
        };
        let node = open_node(&driver, request, guard).await?;
        // Only now the driver knows all its options, which may demand more of the storage.
        match node.set_perm(perm, shared).await {
            Ok(()) => Ok(node),
            Err(error) => close_after(&node, error).await,
        }
    }

    /// Opens the node that stores an image: what the file name says, or what the options under `child` say.
    async fn open_storage(&self, child: &'static str, plan: &mut Plan) -> Result<Arc<Node>> {
        let mut options = plan.options.take_sub(child);
        if let Some(name) = plan.options.take_str(child) {
            let message = format!("Cannot find device='{name}' nor node-name='{name}'");
            return Err(BlockError::new(ErrorKind::NotFound, message));
        }
        if plan.filename.is_none() && options.is_empty() {
            let message = match plan.driver {
                Some(_) => format!("A block device must be specified for \"{child}\""),
                None => "Must specify either driver or file".to_owned(),
            };
            return Err(invalid(message));
        }
        let driver = match options.take_str("driver") {
            Some(name) => self.find_driver(&name)?,
            None => self.storage_driver(plan.filename.as_deref(), &options)?,
        };
        let mut filename = plan.filename.clone();
        if let Some((config, image)) = filename.as_deref().map(split_filter_name).transpose()?.flatten() {
            if let Some(config) = config {
                options.set("config", config);
            }
            filename = Some(image.to_owned());
        }
        let flags = take_common(&mut options, plan.flags.for_storage())?;
        let name = Some(driver.name().to_owned());
        // The lock follows when the format is known and has said what it needs.
        let nested = Plan { filename, driver: name, options, flags, perm: Perm::empty(), shared: Perm::all() };
        match driver.kind() {
            DriverKind::Protocol => self.open_leaf(driver, nested).await,
            DriverKind::Format | DriverKind::Filter { .. } => Box::pin(self.open_format(Some(driver), nested)).await,
        }
    }

    pub(super) fn storage_driver(&self, filename: Option<&str>, options: &Options) -> Result<Arc<dyn BlockDriver>> {
        match (filename, options.get_str("filename")) {
            (Some(name), _) => {
                self.check_name(name, true)?;
                self.find_protocol(name, true)
            }
            (None, Some(name)) => {
                self.check_name(&name, false)?;
                self.find_protocol(&name, false)
            }
            (None, None) => Err(invalid("Must specify either driver or filename".to_owned())),
        }
    }

    async fn probe_format(&self, storage: &Arc<Node>) -> Result<(Arc<dyn BlockDriver>, Option<ProbeGuard>)> {
        let len = storage.len().min(PROBE_LEN as u64);
        let len = usize::try_from(len).expect("at most the length of the probe buffer");
        let head = storage.read_bytes(0, len).await;
        let head = head.map_err(|error| error.context("Could not read image for determining its format"))?;
        let Some(driver) = self.registry.probe(&head) else {
            let message = "Could not determine image format: No compatible driver found";
            return Err(BlockError::new(ErrorKind::NotThisFormat, message).with_errno(libc::ENOENT));
        };
        let guard = (driver.name() == "raw").then(|| ProbeGuard::new(Arc::clone(&self.registry), driver.name()));
        Ok((driver, guard))
    }
}

impl Plan {
    fn new(spec: OpenSpec) -> Result<Self> {
        let OpenSpec { filename, driver, mut options, flags, perm, shared } = spec;
        let json = filename.as_deref().and_then(|name| name.strip_prefix("json:"));
        let filename = match json {
            Some(text) => {
                let mut merged = Options::parse_json(text)?;
                merged.merge(options);
                options = merged;
                None
            }
            None => filename,
        };
        let by_option = options.take_str("driver");
        Ok(Self { filename, driver: driver.or(by_option), options, flags, perm, shared })
    }
}

/// Lets the driver open, wraps the result into a node, and refuses options that nobody took.
async fn open_node(
    driver: &Arc<dyn BlockDriver>,
    mut request: OpenRequest,
    guard: Option<ProbeGuard>,
) -> Result<Arc<Node>> {
    let name = NodeName::new(driver, &request);
    let ops = driver.open(&mut request).await?;
    let filename = name.of_node(request.filename, &ops.children());
    let node = Node::with_guard(Arc::clone(driver), ops, filename, request.flags, guard);
    let Some(key) = request.options.keys().next() else { return Ok(node) };
    let message = match driver.kind() {
        DriverKind::Format | DriverKind::Filter { .. } => {
            format!("Block format '{}' does not support the option '{key}'", driver.name())
        }
        DriverKind::Protocol => format!("Block protocol '{}' doesn't support the option '{key}'", driver.name()),
    };
    close_after(&node, invalid(message)).await
}

/// Closes what was opened in vain; the error that made it so is the one to report.
async fn close_after<T>(node: &Arc<Node>, error: BlockError) -> Result<T> {
    // Nothing was written, so a failure to close loses nothing.
    drop(node.close().await);
    Err(error)
}

fn is_device(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_block_device() || data.file_type().is_char_device())
}

fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
