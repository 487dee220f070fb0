//! How much a process may use.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::ConfineError;

/// How long after the first signal the kernel ends a process that uses more processor time than it may, in seconds.
const GRACE: rlim_t = 5;

/// What a process may use. None means: as much as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory that is its own and can be written, in bytes: the heap and the stacks of its threads, used or not.
    ///
    /// Unlike a limit of the address space, it leaves alone what is only reserved.
    pub memory: Option<u64>,
    /// Processor time of all its threads together, in seconds. Then SIGXCPU comes, and some seconds later SIGKILL.
    pub cpu_seconds: Option<u64>,
}

/// Sets the limits. They only ever become lower. There will be no core dump: it would hold what the images hold.
pub(crate) fn apply(limits: &Limits) -> Result<(), ConfineError> {
    lower(Resource::RLIMIT_CORE, 0, 0)?;
    if let Some(bytes) = limits.memory {
        lower(Resource::RLIMIT_DATA, bytes, bytes)?;
    }
    if let Some(seconds) = limits.cpu_seconds {
        lower(Resource::RLIMIT_CPU, seconds, seconds.saturating_add(GRACE))?;
    }
    Ok(())
}

fn lower(resource: Resource, soft: rlim_t, hard: rlim_t) -> Result<(), ConfineError> {
    let failed = |errno: nix::errno::Errno| ConfineError::new("Cannot limit what the process uses", errno.desc());
    let (soft_now, hard_now) = getrlimit(resource).map_err(failed)?;
    setrlimit(resource, soft.min(soft_now), hard.min(hard_now)).map_err(failed)
}
