//! What every command runs in: an event loop, the drivers, and the signals.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use filters::{BlkdebugDriver, ThrottleDriver, ThrottleGroups};
use qemu_block::aio::Services;
use qemu_block::driver::BlockDriver;
use qemu_block::node::Node;
use qemu_block::registry::{OpenContext, OpenSpec, Origin, Registry};
use qemu_block::types::OpenFlags;
use qemu_util::aio::{AioContext, Sleep};
use qemu_util::primitive::Arc;

use crate::cli::common::ImageArg;
use crate::cli::object::Objects;
use crate::failure::Failure;
use crate::output::messages;
use crate::rate::RateLimit;
use crate::signals::Signals;
use crate::{strict, trace};

thread_local! {
    /// Drivers that commands on this thread know besides their own.
    static FURTHER_DRIVERS: RefCell<Vec<Arc<dyn BlockDriver>>> = const { RefCell::new(Vec::new()) };
}

/// Lets `run` make sessions that know `drivers`, too.
pub(crate) fn with_drivers<T>(drivers: Vec<Arc<dyn BlockDriver>>, run: impl FnOnce() -> T) -> T {
    let before = FURTHER_DRIVERS.replace(drivers);
    let result = run();
    FURTHER_DRIVERS.set(before);
    result
}

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Session {
    aio: AioContext,
    context: OpenContext,
    throttle_groups: ThrottleGroups,
    signals: Signals,
}

impl Session {
    /// A session that leaves signals alone: SIGINT and SIGTERM end the process at once.
    ///
    /// # Errors
    /// The system lacks a resource, such as file descriptors.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::with_signals(Signals::none())
    }

    /// A session for a command with something to clean up: it must watch [`Session::signals`].
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(crate) fn catching_signals() -> Result<Self, Failure> {
        // Before any thread exists, so that all of them inherit the blocked signals.
        Self::with_signals(Signals::catch()?)
    }

    /// A session for a command that shows its progress on SIGUSR1; what asks it to stop ends the process at once.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(crate) fn showing_progress() -> Result<Self, Failure> {
        Self::with_signals(Signals::catch_progress()?)
    }

    fn with_signals(signals: Signals) -> Result<Self, Failure> {
        let aio =
            AioContext::new().map_err(|error| Failure::new(format!("Could not create an event loop: {error}")))?;
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(raw::RawDriver));
        registry.register(Arc::new(qcow2::Qcow2Driver));
        nbd::NbdDriver::register(&mut registry);
        registry.register(Arc::new(luks::LuksDriver));
        filters::plain_drivers().into_iter().for_each(|driver| registry.register(driver));
        registry.register(Arc::new(BlkdebugDriver));
        let throttle_groups = ThrottleGroups::default();
        registry.register(Arc::new(ThrottleDriver::new(throttle_groups.clone())));
        FURTHER_DRIVERS.with_borrow(|drivers| drivers.iter().for_each(|driver| registry.register(Arc::clone(driver))));
        trace::watch(aio.observer(), registry.services().observers());
        let mut context = OpenContext::new(Arc::new(registry));
        if let Some(policy) = strict::policy()? {
            context = context.with_policy(Arc::new(policy));
        }
        Ok(Self { aio, context, throttle_groups, signals })
    }

    /// The same session with what `--object` defined.
    #[must_use]
    pub(crate) fn with_objects(self, objects: &Objects) -> Self {
        let secrets = Arc::new(objects.secrets().clone());
        objects.throttle_groups().for_each(|(name, limits)| self.throttle_groups.define(name, limits));
        Self { context: self.context.with_secrets(secrets), ..self }
    }

    /// Runs `future` and the event loop until the future completes.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.aio.block_on(future)
    }

    /// A limit for what a command writes, in bytes per second; zero: none.
    pub(crate) fn rate_limit(&self, bytes_per_second: u64) -> RateLimit {
        RateLimit::new(bytes_per_second, self.aio.clone())
    }

    /// A future that is ready after `duration`, for [`Session::block_on`].
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        self.aio.sleep(duration)
    }

    /// Opens and creates images.
    pub(crate) fn context(&self) -> &OpenContext {
        &self.context
    }

    /// The names of all drivers, in the order of the alphabet.
    pub(crate) fn driver_names(&self) -> Vec<&'static str> {
        let drivers = self.context.registry().drivers();
        let mut names: Vec<_> = drivers.iter().map(|driver| driver.name()).collect();
        names.sort_unstable();
        names
    }

    /// Worker threads and buffers.
    pub(crate) fn services(&self) -> &Services {
        self.context.services()
    }

    /// What signals asked for.
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Opens an image that the user named, with `flags` besides those that follow from the options.
    ///
    /// Warns when a format was not given, was taken for raw, and the image is opened for writing.
    ///
    /// # Errors
    /// `Could not open 'name': …`
    pub(crate) async fn open_image(&self, image: &ImageArg, flags: OpenFlags) -> Result<Arc<Node>, Failure> {
        self.open_spec(&image.name, image.open_spec(flags)?).await
    }

    /// Opens a backing file that an image names; otherwise as [`Session::open_image`].
    ///
    /// # Errors
    /// `Could not open 'name': …`
    pub(crate) async fn open_backing(&self, image: &ImageArg, flags: OpenFlags) -> Result<Arc<Node>, Failure> {
        let context = self.context.clone().on_behalf_of(Origin::Backing);
        let opened = context.open(image.open_spec(flags)?).await;
        opened.map_err(|error| Failure::block(format!("Could not open '{}'", image.name), &error))
    }

    /// Opens what `spec` describes and the user calls `name`; otherwise as [`Session::open_image`].
    ///
    /// # Errors
    /// `Could not open 'name': …`
    pub(crate) async fn open_spec(&self, name: &str, spec: OpenSpec) -> Result<Arc<Node>, Failure> {
        let opened = self.context.open(spec).await;
        let node = opened.map_err(|error| Failure::block(format!("Could not open '{name}'"), &error).about(name))?;
        if node.is_probed_raw() && !node.is_read_only() {
            messages::warn_probed_raw(node.filename());
        }
        Ok(node)
    }
}
