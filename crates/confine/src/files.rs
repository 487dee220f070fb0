//! Which files may be opened, and how: Landlock.
//!
//! Landlock guards opening, making, renaming and removing files; what is open stays usable. Metadata (`stat`) is not
//! guarded. The right to a folder covers everything below it, so as few folders as possible are named.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::{Network, Use};

/// The newest version whose rights are asked for; older kernels get what they know.
const NEWEST: ABI = ABI::V7;

/// What the C library and the standard library read now and then: the state of this process, the number of processors,
/// the time zone.
const ALWAYS_READ: [&str; 7] = [
    "/proc/self",
    "/dev/urandom",
    "/dev/null",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/etc/localtime",
    "/usr/share/zoneinfo",
];

/// What finding the address of a host takes.
const READ_FOR_NAMES: [&str; 12] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// Restricts this thread, and those that it starts; tells the version of Landlock that does it.
///
/// Failure means a kernel that has no Landlock, or does not let this process use it.
pub(crate) fn apply(files: &[(PathBuf, Use)], network: Network) -> Option<u32> {
    match restrict(files, network) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. }) | Err(_) => None,
        Ok(RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. }) => {
            u32::try_from(effective_abi as i32).ok()
        }
        Ok(_) => None,
    }
}

fn restrict(files: &[(PathBuf, Use)], network: Network) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?;
    if network == Network::Refused {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut ruleset = ruleset.create()?;
    for path in ALWAYS_READ {
        allow(&mut ruleset, Path::new(path), AccessFs::ReadFile.into());
    }
    if network == Network::Allowed {
        for path in READ_FOR_NAMES {
            allow(&mut ruleset, Path::new(path), AccessFs::ReadFile.into());
        }
    }
    files.iter().for_each(|(path, how)| allow_use(&mut ruleset, path, *how));
    ruleset.restrict_self()
}

fn allow_use(ruleset: &mut RulesetCreated, path: &Path, how: Use) {
    // Requests to devices are commands, too: a block device does not even tell its size otherwise.
    let read = AccessFs::ReadFile | AccessFs::IoctlDev;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    let make = AccessFs::MakeReg | AccessFs::RemoveFile;
    match how {
        Use::Read => allow(ruleset, path, read),
        Use::Write => allow(ruleset, path, write),
        Use::Create if fs::metadata(path).is_ok() => {
            allow(ruleset, path, write);
            allow(ruleset, &folder_of(path), AccessFs::RemoveFile.into());
        }
        Use::Create => allow(ruleset, &folder_of(path), write | make),
        // The folder itself is opened, too, to make the new name durable.
        Use::Replace => allow(ruleset, &folder_of(path), write | make | AccessFs::ReadDir),
    }
}

/// Adds a rule for what `path` refers to now; without an effect if it refers to nothing, or to a pipe and the like, which
/// has no place in a file system. Whatever fails here leaves the process with less.
fn allow(ruleset: &mut RulesetCreated, path: &Path, access: BitFlags<AccessFs>) {
    let Ok(file) = PathFd::new(path) else { return };
    // Files take fewer rights than folders, which the kernel insists on.
    let is_folder = fs::metadata(path).is_ok_and(|data| data.is_dir());
    let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
    drop(ruleset.add_rule(PathBeneath::new(file, access)));
}

/// The folder in which a file of that name would be made: where a symbolic link leads to counts, not where it is.
fn folder_of(path: &Path) -> PathBuf {
    if let Some(folder) = fs::canonicalize(path).ok().as_deref().and_then(Path::parent) {
        return folder.to_owned();
    }
    let target = fs::read_link(path).ok();
    let beside = |folder: &Path| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() };
    let own = beside(path.parent().unwrap_or(Path::new("/")));
    match target {
        // One link is followed: what a chain of dangling links asks for is not made.
        Some(target) => beside(own.join(target).parent().unwrap_or(Path::new("/"))),
        None => own,
    }
}
