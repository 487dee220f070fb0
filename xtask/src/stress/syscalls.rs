//! The kernel's `/proc/PID/task/TID/syscall` in words: which call, and whether it has a time-out.

/// A call that a thread may sleep in: its numbers on x86-64 and on arm64, and where its time-out is among the arguments.
struct Call {
    name: &'static str,
    x86_64: Option<u64>,
    aarch64: Option<u64>,
    timeout: Timeout,
}

/// How a call says how long it sleeps at most.
#[derive(Clone, Copy)]
enum Timeout {
    /// Not at all.
    None,
    /// The argument points to a time; null is for ever.
    Pointer(usize),
    /// The argument counts milliseconds; -1 is for ever.
    Millis(usize),
}

const CALLS: [Call; 14] = [
    Call { name: "ppoll", x86_64: Some(271), aarch64: Some(73), timeout: Timeout::Pointer(2) },
    Call { name: "poll", x86_64: Some(7), aarch64: None, timeout: Timeout::Millis(2) },
    Call { name: "epoll_wait", x86_64: Some(232), aarch64: None, timeout: Timeout::Millis(3) },
    Call { name: "epoll_pwait", x86_64: Some(281), aarch64: Some(22), timeout: Timeout::Millis(3) },
    Call { name: "futex", x86_64: Some(202), aarch64: Some(98), timeout: Timeout::Pointer(3) },
    Call { name: "rt_sigtimedwait", x86_64: Some(128), aarch64: Some(137), timeout: Timeout::Pointer(2) },
    Call { name: "recvfrom", x86_64: Some(45), aarch64: Some(207), timeout: Timeout::None },
    Call { name: "clock_nanosleep", x86_64: Some(230), aarch64: Some(115), timeout: Timeout::None },
    Call { name: "pread64", x86_64: Some(17), aarch64: Some(67), timeout: Timeout::None },
    Call { name: "preadv", x86_64: Some(295), aarch64: Some(69), timeout: Timeout::None },
    Call { name: "pwrite64", x86_64: Some(18), aarch64: Some(68), timeout: Timeout::None },
    Call { name: "pwritev", x86_64: Some(296), aarch64: Some(70), timeout: Timeout::None },
    Call { name: "fdatasync", x86_64: Some(75), aarch64: Some(83), timeout: Timeout::None },
    Call { name: "fsync", x86_64: Some(74), aarch64: Some(82), timeout: Timeout::None },
];

/// `line` in words: `ppoll, no time-out`.
pub(super) fn in_words(line: &str) -> String {
    let mut words = line.split(' ');
    let Some(Ok(number)) = words.next().map(str::parse::<i64>) else {
        return if line == "running" { "none, it runs".to_owned() } else { "unknown".to_owned() };
    };
    let Ok(number) = u64::try_from(number) else { return "none, it is blocked outside of a call".to_owned() };
    let arguments: Vec<u64> =
        words.map_while(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect();
    let is_it = |call: &&Call| if cfg!(target_arch = "aarch64") { call.aarch64 } else { call.x86_64 } == Some(number);
    let Some(call) = CALLS.iter().find(is_it) else { return format!("system call {number}") };
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let for_ever = match call.timeout {
        Timeout::None => return call.name.to_owned(),
        Timeout::Pointer(index) => argument(index) == 0,
        // The upper half of the register is not part of the argument.
        Timeout::Millis(index) => argument(index) & 0xffff_ffff == 0xffff_ffff,
    };
    format!("{}, {}", call.name, if for_ever { "no time-out" } else { "with a time-out" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_and_time_outs_seen() {
        let number = |name: &str| {
            let call = CALLS.iter().find(|call| call.name == name).expect("it is in the table");
            if cfg!(target_arch = "aarch64") { call.aarch64 } else { call.x86_64 }.expect("this processor has it")
        };
        assert_eq!(in_words("running"), "none, it runs");
        let ppoll = number("ppoll");
        assert_eq!(in_words(&format!("{ppoll} 0x7ff 0x1 0x0 0x0 0x8 0x0 0x7ffe 0x7f01")), "ppoll, no time-out");
        let epoll = number("epoll_pwait");
        assert_eq!(in_words(&format!("{epoll} 0x5 0x1 0x80 0xffffffff 0x0 0x0 0x1 0x1")), "epoll_pwait, no time-out");
        let futex = number("futex");
        assert_eq!(in_words(&format!("{futex} 0x5 0x89 0x1 0x7ff0 0x0 0x0 0x1 0x1")), "futex, with a time-out");
        assert_eq!(in_words("99999 0x0"), "system call 99999");
        assert_eq!(in_words("-1 0x7ffe 0x7f01"), "none, it is blocked outside of a call");
    }
}
