//! What commands share that change much at once: they say what they will do, and somebody agrees to
//! it, at the terminal or by `--yes`.

use super::Failure;
use clap::Args;
use std::io::{BufRead, IsTerminal, Write};

/// The agreement, as it can be given beforehand.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

impl Consent {
    /// Whether somebody agrees to the plan: it is shown, and asked about where there is a terminal.
    ///
    /// # Errors
    /// Wrong use: nobody was there to ask, or the answer was no. The plan stands before the remedy.
    pub fn to(self, plan: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return refuse(plan, "add --yes to do it");
        }
        eprint!("{plan}\nDo it? [y/N] ");
        std::io::stderr().flush().map_err(Failure::failed)?;
        ask(&mut std::io::stdin().lock()).and_then(|agreed| match agreed {
            true => Ok(()),
            false => refuse("", "nothing was done"),
        })
    }
}

fn refuse(plan: &str, why: &str) -> Result<(), Failure> {
    let plan = if plan.is_empty() {
        String::new()
    } else {
        format!("{plan}\n")
    };
    Err(Failure::Usage(format!("{plan}{why}")))
}

fn ask(answers: &mut impl BufRead) -> Result<bool, Failure> {
    let mut answer = String::new();
    answers.read_line(&mut answer).map_err(Failure::failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, agreed) in [
            ("y\n", true),
            ("yes\n", true),
            ("\n", false),
            ("no\n", false),
            ("", false),
            ("yesterday\n", false),
        ] {
            let said = ask(&mut answer.as_bytes()).expect("reads");
            assert_eq!(said, agreed, "{answer:?}");
        }
    }
}
