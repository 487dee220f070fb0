//! Which system calls are left: seccomp.
//!
//! A list of those that the program and the two C libraries use. Everything else fails with `EPERM`: a call that nobody
//! thought of then ends in an error message and a clean end, where killing the process would leave half-written files.
//! No program can be started, no socket be made without leave, no other process be touched.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::Network;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Files and memory, threads and time: calls of which every use is harmless.
const PLAIN: &[c_long] = &[
    // Data.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    // Files; which of them is for Landlock to say.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_umask,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // Threads and waiting.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Signals to oneself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack,
    // Time, chance, and what the process is.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// Older forms of the same, which only this architecture has. The C libraries still use them.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Connections to others.
const SOCKETS: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
];

/// What a thread may set about itself: its name, and the names of its mappings.
const PRCTL_OPTIONS: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Commands that put words into the mouth of whoever sits at the terminal.
const TERMINAL_COMMANDS: [u64; 2] = [0x5412, 0x541c];

/// Restricts all threads of this process; tells whether that worked.
pub(crate) fn apply(network: Network) -> bool {
    let Ok(programs) = filters(network) else { return false };
    programs.iter().all(|program| seccompiler::apply_filter_all_threads(program).is_ok())
}

/// The filters, in the order in which they are installed: all of them judge every call, the strictest wins.
fn filters(network: Network) -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(ARCH)?;
    let refuse = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
    // Its arguments are in memory, where no filter sees them. The C library falls back to the call that came before, but
    // only if the kernel seems not to know the new one.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, refuse(libc::ENOSYS), arch)?;
    let allowed = SeccompFilter::new(rules(network)?, refuse(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok([no_clone3.try_into()?, allowed.try_into()?])
}

fn rules(network: Network) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let sockets = if network == Network::Allowed { SOCKETS } else { &[] };
    for call in PLAIN.iter().chain(OLD).chain(sockets) {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_clone3, Vec::new());
    let thread = flag(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![when(&[(0, Op::MaskedEq(thread), thread)])?]);
    let options = PRCTL_OPTIONS.into_iter().map(|option| when(&[(0, Op::Eq, flag(option))]));
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_ioctl, vec![when(&TERMINAL_COMMANDS.map(|command| (1, Op::Ne, command)))?]);
    // Limits may be read, not changed: no process is named, and there are no new limits.
    rules.insert(libc::SYS_prlimit64, vec![when(&[(0, Op::Eq, 0), (2, Op::Eq, 0)])?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![when(&[(0, Op::Eq, own)])?]);
    #[cfg(target_env = "musl")]
    rules.insert(libc::SYS_tkill, Vec::new());
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_getrlimit, Vec::new());
    Ok(rules)
}

/// A rule that applies when all these arguments, by their position, are so.
fn when(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, BackendError> {
    let condition = |(at, op, value): &(u8, Op, u64)| {
        // Numbers are compared as the kernel takes them, 32 bits wide; the third argument is a pointer where it matters.
        let len = if *at == 2 { Len::Qword } else { Len::Dword };
        SeccompCondition::new(*at, len, op.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

/// A constant of the C library as the kernel sees it.
fn flag(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}
