//! The `unilink` program: see `unilink --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    unilink::cli::run()
}
