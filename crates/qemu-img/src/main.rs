//! The `qemu-img` command: hands its arguments to the library and becomes the exit status.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_img::run(std::env::args_os().skip(1))
}
