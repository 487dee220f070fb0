//! `qemu-img` with defects that the environment can switch on, beside the binary without them: for the test that a hang
//! is caught.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_img::run(std::env::args_os().skip(1))
}
