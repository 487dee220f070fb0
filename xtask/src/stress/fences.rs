//! `cargo xtask disassemble`: the fences of the wake-up protocol are in the machine code for arm64, at their places.
//!
//! The binary is built without LSE atomics, so that read-modify-writes are pairs of a load-exclusive and a
//! store-exclusive, in which the historical defect shows: such a pair orders nothing behind it. Two rules:
//!
//! - the sleeper: after the store to `notify_me` comes `dmb ish`, before any load, branch or call, and then the look for
//!   bottom halves;
//! - the waker: after the work was published comes `dmb ish`, and then the load of `notify_me`.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::listing::{self, Function, Instruction};
use super::subject;
use super::toolchain::Toolchain;
use crate::process::say;

const USAGE: &str = "\
usage: cargo xtask disassemble [options]

Disassembles the release binary for arm64 and sees that the wake-up protocol's fences are in it.

  --binary FILE      this binary instead of one that is built
  --toolchain DIR    where the private cross toolchain is (target/aarch64-toolchain)
  --install          unpacks Debian's cross toolchain there if none is found
";

/// The file with both sides of the protocol.
const NOTIFY: &str = "aio/notify.rs";

/// The functions that publish work and then notify: a kick, a woken task. The fence is inlined into each, or into a
/// function for all of them. The command schedules no bottom half by itself, so `schedule` need not be in the binary.
const PUBLISHERS: [&str; 2] = ["kick", "push"];

/// So many instructions behind the fence the look for bottom halves must have begun.
const LOOK_WITHIN: usize = 64;

/// Runs the task.
///
/// # Errors
/// If a fence is missing, or the binary cannot be built or read.
pub(crate) fn run(args: &[String]) -> io::Result<ExitCode> {
    let (mut binary, mut toolchain, mut install) = (None::<PathBuf>, None::<PathBuf>, false);
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let mut path =
            || args.next().map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{option} needs a value")));
        match option.as_str() {
            "--help" | "-h" => {
                say(USAGE.trim_end());
                return Ok(ExitCode::SUCCESS);
            }
            "--install" => install = true,
            "--binary" => binary = Some(path()?),
            "--toolchain" => toolchain = Some(std::path::absolute(path()?)?),
            _ => return Err(io::Error::other(format!("unknown option {option}\n{USAGE}"))),
        }
    }
    let toolchain = Toolchain::get(toolchain.as_deref(), install)?;
    let binary = binary.map_or_else(|| subject::build(Some(&toolchain), &[]), Ok)?;
    let findings = examine(&toolchain, &binary)?;
    say(&findings.text()?);
    Ok(ExitCode::SUCCESS)
}

fn examine(toolchain: &Toolchain, binary: &Path) -> io::Result<Findings> {
    let mut objdump = Command::new(&toolchain.objdump);
    objdump.args(["--disassemble", "--line-numbers", "--inlines", "--no-show-raw-insn", "--section=.text"]).arg(binary);
    let mut child = objdump.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut findings = Findings::default();
    if let Some(stdout) = child.stdout.take() {
        listing::functions_with(BufReader::new(stdout), NOTIFY, |function| findings.add(function))?;
    }
    let status = child.wait()?;
    if status.success() { Ok(findings) } else { Err(io::Error::other(format!("objdump: {status}"))) }
}

/// What was found in all functions.
#[derive(Debug, Default)]
struct Findings {
    /// Places where the rules hold, in words.
    good: Vec<String>,
    /// Places where they do not.
    bad: Vec<String>,
    sleepers: usize,
    /// For each of [`PUBLISHERS`], whether its fence was found.
    published: [bool; PUBLISHERS.len()],
}

impl Findings {
    fn add(&mut self, function: &Function) {
        let instructions = &function.instructions;
        for (at, instruction) in instructions.iter().enumerate() {
            let is_announce = instruction.is_from(NOTIFY, "announce");
            if is_announce && instruction.is_store() {
                self.sleepers += 1;
                let outcome = sleeper(instructions, at);
                self.note("the sleeper", function, instruction, outcome);
            }
            let is_notify = instruction.is_from(NOTIFY, "notify") || is_outlined(function, instruction);
            if is_notify && instruction.is_full_barrier() {
                for (found, name) in self.published.iter_mut().zip(PUBLISHERS) {
                    *found |= instruction.is_below(name) || function.symbol.contains("notify");
                }
                let outcome = waker(instructions, at);
                self.note("the waker", function, instruction, outcome);
            }
        }
    }

    fn note(&mut self, who: &str, function: &Function, at: &Instruction, outcome: Result<String, String>) {
        let place = format!("{who}, at {} in {}", at.address, function.symbol);
        match outcome {
            Ok(what) => self.good.push(format!("{place}: {what}")),
            Err(what) => self.bad.push(format!("{place}: {what}")),
        }
    }

    /// Everything that was found.
    ///
    /// # Errors
    /// If something is missing.
    fn text(&self) -> io::Result<String> {
        let mut bad = self.bad.clone();
        if self.sleepers == 0 {
            bad.push("the store of `announce` to notify_me is not found".to_owned());
        }
        let missing = PUBLISHERS.iter().zip(self.published).filter(|(_, found)| !found);
        bad.extend(missing.map(|(name, _)| format!("no `dmb ish` of `notify` is found in `{name}`")));
        if bad.is_empty() {
            return Ok(self.good.join("\n"));
        }
        Err(io::Error::other(format!("a fence is missing:\n{}", bad.join("\n"))))
    }
}

/// Whether the instruction is the function's own: `notify` that was not inlined.
fn is_outlined(function: &Function, instruction: &Instruction) -> bool {
    function.symbol.contains("Notifier6notify") && instruction.frames.iter().any(|frame| frame.contains(NOTIFY))
}

/// The rule of the sleeper, for its store at `at`.
fn sleeper(instructions: &[Instruction], at: usize) -> Result<String, String> {
    let behind = &instructions[at + 1..];
    let barrier = behind.iter().position(Instruction::is_full_barrier);
    let Some(barrier) = barrier else { return Err("no `dmb ish` behind the store".to_owned()) };
    if let Some(between) = behind[..barrier].iter().find(|one| one.is_load() || one.is_branch()) {
        return Err(format!("{} {} before the `dmb ish`", between.mnemonic, between.operands));
    }
    let looks = |one: &Instruction| {
        let calls = one.mnemonic == "bl" && one.operands.contains("timeout");
        calls || (one.is_load() && (one.is_below("timeout") || one.is_below("is_kicked")))
    };
    let look = behind[barrier..].iter().take(LOOK_WITHIN).find(|one| looks(one));
    let look = look.ok_or("no look for bottom halves behind the `dmb ish`")?;
    let (store, fence) = (&instructions[at], &behind[barrier]);
    Ok(format!("{} {}; dmb ish at {}; the look at {}", store.mnemonic, store.operands, fence.address, look.address))
}

/// The rule of the waker, for its fence at `at`.
fn waker(instructions: &[Instruction], at: usize) -> Result<String, String> {
    let load = instructions[at + 1..].iter().take_while(|one| !one.is_branch()).find(|one| one.is_load());
    let load = load.ok_or("no load of notify_me behind the `dmb ish`")?;
    let publish = instructions[..at].iter().rev().find(|one| one.is_release());
    let publish = publish.ok_or("nothing was published before the `dmb ish`")?;
    Ok(format!(
        "{} at {} publishes; dmb ish; {} {} at {}",
        publish.mnemonic, publish.address, load.mnemonic, load.operands, load.address
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of `from | instruction`, in which `from` are functions of the protocol's file.
    fn findings(symbol: &str, lines: &str) -> Findings {
        let mut listing = format!("0000000000000010 <{symbol}>:\n");
        for (n, line) in lines.lines().enumerate() {
            let (from, instruction) = line.trim().split_once(" | ").expect("both parts");
            listing.push_str("/std/atomic.rs:1\n");
            from.split(' ').for_each(|name| listing.push_str(&format!("inlined by src/aio/notify.rs:7 ({name})\n")));
            listing.push_str(&format!("  {:x}:\t{}\n", 16 + 4 * n, instruction.replacen(' ', "\t", 1)));
        }
        let mut findings = Findings::default();
        listing::functions_with(listing.as_bytes(), NOTIFY, |function| findings.add(function)).expect("it is text");
        findings
    }

    const SLEEPER: &str = "announce sleep | str w8, [x20]\nannounce sleep | dmb ish\nsleep | mov x0, x20\n\
                           sleep | bl 1234 <Core7timeout>";
    const WAKER: &str = "push | stlxr w9, x1, [x8]\nnotify push schedule kick | dmb ish\nnotify | ldr w8, [x19, #128]\n\
                         notify | cbnz w8, 40";

    fn errors(symbol: &str, lines: &str) -> String {
        findings(symbol, lines).text().expect_err("something is missing").to_string()
    }

    #[test]
    fn both_fences_are_found() {
        let text = findings("f", &format!("{SLEEPER}\n{WAKER}")).text().expect("all is there");
        assert!(text.contains("str w8, [x20]; dmb ish at 14; the look at 1c"), "{text}");
        assert!(text.contains("stlxr at 20 publishes; dmb ish; ldr w8, [x19, #128] at 28"), "{text}");
    }

    #[test]
    fn a_missing_fence_is_noticed() {
        let without = |lines: &str| lines.lines().filter(|line| !line.contains("dmb")).collect::<Vec<_>>().join("\n");
        let text = errors("f", &format!("{}\n{WAKER}", without(SLEEPER)));
        assert!(text.contains("bl 1234 <Core7timeout> before the `dmb ish`"), "{text}");
        let text = errors("f", &format!("{SLEEPER}\n{}", without(WAKER)));
        assert!(text.contains("no `dmb ish` of `notify` is found in `kick`"), "{text}");
        let swapped = "announce | dmb ish\nannounce | str w8, [x20]\nsleep | bl 1234 <timeout>";
        assert!(errors("f", &format!("{swapped}\n{WAKER}")).contains("the sleeper"));
        let early = WAKER.replace("notify | ldr w8, [x19, #128]\n", "");
        assert!(errors("f", &format!("{SLEEPER}\n{early}")).contains("no load of notify_me"));
        assert!(errors("f", WAKER).contains("the store of `announce`"));
    }
}
