//! The command: see `dqo_wgpu::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dqo_wgpu::cli::main()
}
