//! The `unilink` program: see `unilink --help`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    unilink::cli::run(unilink::cli::Cli::parse())
}
