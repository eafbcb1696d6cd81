//! The binary: hands the command line to [`ringway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ringway::cli::main()
}
