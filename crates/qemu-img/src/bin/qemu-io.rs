//! The `qemu-io` command: hands its arguments to the library and becomes the exit status.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_img::run_io(std::env::args_os().skip(1))
}
