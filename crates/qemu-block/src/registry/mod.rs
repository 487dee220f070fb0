//! The drivers that exist, and how a name becomes an open node.
//!
//! | file | concept |
//! |---|---|
//! | `names` | protocol prefixes, backing file names |
//! | `full_name` | the names of nodes that no plain file name describes |
//! | `probe` | guessing a format, and the rule that keeps a guessed raw image raw |
//! | `spec` | what a caller asks for |
//! | `common` | the options that every node understands |
//! | `open`, `backing`, `data_file`, `create` | what [`OpenContext`] does |
//! | `policy`, `allow` | which names are followed at all |
//! | `trail` | loops and depth of chains |
//! | `nursery` | opens side by side, so that long chains need no deep stack |

mod allow;
mod backing;
mod common;
mod create;
mod data_file;
mod full_name;
mod names;
mod nursery;
mod open;
mod policy;
mod probe;
mod spec;
mod trail;

use std::sync::Arc;

use crate::aio::Services;
use crate::driver::{BlockDriver, DriverKind};
use crate::file::{FileDriver, HostDeviceDriver};
use crate::null::NullDriver;

pub use allow::{AllowList, absolute_path};
use names::NAMED_FILTER;
pub use names::{path_has_protocol, resolve_backing_name};
pub use open::OpenContext;
pub use policy::{OpenPolicy, Origin, Reference, Target};
pub(crate) use probe::{PROBE_LEN, ProbeGuard};
pub use spec::OpenSpec;

/// The table of drivers. Format crates add themselves; the protocols are built in.
#[derive(Debug)]
pub struct Registry {
    services: Services,
    drivers: Vec<Arc<dyn BlockDriver>>,
    /// Prefixes of names besides the names of drivers, and the drivers that they lead to.
    schemes: Vec<(&'static str, &'static str)>,
}

impl Registry {
    /// A table with the built-in protocols: `file`, `host_device`, `null-co`, `null-aio`.
    pub fn new(services: Services) -> Self {
        let mut registry = Self { services, drivers: Vec::new(), schemes: Vec::new() };
        registry.register(Arc::new(FileDriver));
        registry.register(Arc::new(HostDeviceDriver));
        registry.register(Arc::new(NullDriver::co()));
        registry.register(Arc::new(NullDriver::aio()));
        registry
    }

    /// Adds a driver. One with the same name is replaced.
    pub fn register(&mut self, driver: Arc<dyn BlockDriver>) {
        self.drivers.retain(|known| known.name() != driver.name());
        self.drivers.push(driver);
    }

    /// Makes names that begin with `scheme:` belong to the protocol driver of that name, too.
    ///
    /// QEMU: `protocol_name` of `BlockDriver`.
    pub fn register_scheme(&mut self, scheme: &'static str, driver: &'static str) {
        self.schemes.push((scheme, driver));
    }

    /// The driver of that name.
    pub fn driver(&self, name: &str) -> Option<Arc<dyn BlockDriver>> {
        self.drivers.iter().find(|driver| driver.name() == name).map(Arc::clone)
    }

    /// The protocol driver of that name, or the one that names with this prefix belong to.
    fn protocol(&self, name: &str) -> Option<Arc<dyn BlockDriver>> {
        let by_scheme = self.schemes.iter().find(|(scheme, _)| *scheme == name).map(|(_, driver)| *driver);
        let answers = |driver: &Arc<dyn BlockDriver>| driver.kind() == DriverKind::Protocol || name == NAMED_FILTER;
        self.driver(by_scheme.unwrap_or(name)).filter(answers)
    }

    /// All drivers in the order in which they were added.
    pub fn drivers(&self) -> &[Arc<dyn BlockDriver>] {
        &self.drivers
    }

    /// What all nodes opened through this table share.
    pub fn services(&self) -> &Services {
        &self.services
    }
}
