//! A disassembly with the source lines that each instruction comes from, through all levels of inlining, as objdump
//! prints it with `-d -l --inlines`.

use std::io::{self, BufRead};

/// A function of the machine code.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    pub(super) symbol: String,
    pub(super) instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, Default)]
pub(super) struct Instruction {
    pub(super) address: String,
    /// `dmb`, and `ish`.
    pub(super) mnemonic: String,
    pub(super) operands: String,
    /// Where it comes from, the innermost place first: `…/aio/notify.rs:104 (announce)`. The first one has no name.
    pub(super) frames: Vec<String>,
}

impl Instruction {
    /// Whether it comes from `function` in `file`, inlined into whatever.
    pub(super) fn is_from(&self, file: &str, function: &str) -> bool {
        let name = format!("({function})");
        self.frames.iter().any(|frame| frame.contains(file) && frame.ends_with(&name))
    }

    /// Whether a function of that name is among those it was inlined through.
    pub(super) fn is_below(&self, function: &str) -> bool {
        let name = format!("({function})");
        self.frames.iter().any(|frame| frame.ends_with(&name))
    }

    pub(super) fn is_full_barrier(&self) -> bool {
        self.mnemonic == "dmb" && self.operands == "ish"
    }

    /// Loads anything but from the stack, which no other thread writes.
    pub(super) fn is_load(&self) -> bool {
        self.mnemonic.starts_with("ld") && !["[sp", "[x29"].iter().any(|stack| self.operands.contains(stack))
    }

    pub(super) fn is_store(&self) -> bool {
        self.mnemonic.starts_with("st") && !["[sp", "[x29"].iter().any(|stack| self.operands.contains(stack))
    }

    /// Stores as the last half of a read-modify-write, or with release.
    pub(super) fn is_release(&self) -> bool {
        ["stl", "stx"].iter().any(|start| self.mnemonic.starts_with(start))
    }

    /// A branch, a call or a return: what follows in the listing need not be what is executed next.
    pub(super) fn is_branch(&self) -> bool {
        ["b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz"].contains(&self.mnemonic.as_str())
            || self.mnemonic.starts_with("b.")
    }
}

/// Calls `each` with every function in `listing` that has an instruction from `file`.
///
/// # Errors
/// If the listing cannot be read.
pub(super) fn functions_with(listing: impl BufRead, file: &str, mut each: impl FnMut(&Function)) -> io::Result<()> {
    let mut function = Function::default();
    let mut frames: Vec<String> = Vec::new();
    let mut frames_are_new = false;
    let mut flush = |function: &Function| {
        if function.instructions.iter().any(|one| one.frames.iter().any(|frame| frame.contains(file))) {
            each(function);
        }
    };
    for line in listing.lines() {
        let line = line?;
        if let Some(symbol) = symbol_in(&line) {
            flush(&std::mem::take(&mut function));
            symbol.clone_into(&mut function.symbol);
            frames.clear();
        } else if let Some(instruction) = instruction_in(&line) {
            function.instructions.push(Instruction { frames: frames.clone(), ..instruction });
            frames_are_new = true;
        } else if !line.is_empty() {
            if std::mem::take(&mut frames_are_new) {
                frames.clear();
            }
            frames.push(line.strip_prefix("inlined by ").unwrap_or(&line).to_owned());
        }
    }
    flush(&function);
    Ok(())
}

/// `00000000000eecf0 <symbol>:`
fn symbol_in(line: &str) -> Option<&str> {
    let (address, rest) = line.split_once(" <")?;
    let is_address = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    rest.strip_suffix(">:").filter(|_| is_address)
}

/// `   eecf0:`, a tab, `ldr`, a tab, `w0, [x1]`
fn instruction_in(line: &str) -> Option<Instruction> {
    let (address, rest) = line.split_once(":\t")?;
    let address = address.trim_start();
    if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (mnemonic, operands) = rest.split_once(['\t', ' ']).unwrap_or((rest, ""));
    let operands = operands.split("//").next().unwrap_or(operands).trim().to_owned();
    Some(Instruction { address: address.to_owned(), mnemonic: mnemonic.to_owned(), operands, frames: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_know_where_they_come_from() {
        let listing = "\
0000000000000010 <first>:\nfirst():\na/x.rs:1\n  10:\tnop\n\n\
0000000000000020 <second>:\nsecond():\n/std/atomic.rs:9\ninlined by a/notify.rs:4 (announce)\ninlined by a/poll.rs:7 (sleep)\n  \
20:\tdmb\tish\n  24:\tldr\tw0, [sp, #8]\na/poll.rs:8\n  28:\tldr\tw1, [x2]\t// why\n";
        let mut seen = Vec::new();
        functions_with(listing.as_bytes(), "notify.rs", |function| seen.push(function.clone())).expect("it is text");
        assert_eq!(seen.len(), 1);
        let [barrier, stack, load] = &seen[0].instructions[..] else { panic!("{seen:?}") };
        assert_eq!((seen[0].symbol.as_str(), barrier.address.as_str()), ("second", "20"));
        assert!(barrier.is_full_barrier() && barrier.is_from("notify.rs", "announce") && barrier.is_below("sleep"));
        assert!(stack.is_below("announce") && !stack.is_load());
        assert!(load.is_load() && !load.is_below("announce") && load.operands == "w1, [x2]");
    }
}
