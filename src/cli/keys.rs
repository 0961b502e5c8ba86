//! `unilink keys`: makes the key file of the production profile, and shows the public halves of what
//! a key file holds. Never a private one.

use super::Failure;
use crate::cli::shown::say_text;
use crate::seal::Keys;
use crate::wire::Signer;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Subcommand;
use rand::TryRng;
use rand::rngs::SysRng;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key file (mode 0600) and show its public keys. A file that is there is never touched.
    ///
    /// Make it once per installation; every worker and look-up needs the same file, the intake only
    /// the public key. Back it up apart from the data: without it nothing sealed opens again.
    New {
        /// The file to make
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make an operator's key, for an intake without key file that signs the erasures of pushes.
    /// Prints both halves; nothing is written or changed
    Operator {
        /// How decisions and erasures will name the operator
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Show the public keys of a key file, as they stand in unilink.toml
    Show {
        /// The key file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Makes or shows keys.
///
/// # Errors
/// The file is there already, cannot be made or cannot be read.
pub fn run(command: &KeysCommand) -> Result<(), Failure> {
    let (keys, file) = match command {
        KeysCommand::New { file } => (Keys::create(file), file),
        KeysCommand::Show { file } => (Keys::load(file), file),
        KeysCommand::Operator { id } => {
            say_text!("{}", *operator(id)?);
            return Ok(());
        }
    };
    say_text!("{}", shown(&keys.map_err(Failure::failed)?, file)?);
    Ok(())
}

/// The public halves, in the words of the configuration.
fn shown(keys: &Keys, file: &Path) -> Result<String, Failure> {
    let mut text = format!(
        "# Public keys of {}.\n\n\
         # For the intake, which needs no key file then, and for gateways that seal themselves.\n\
         [seal]\nseal_to = \"{}\"\n",
        file.display(),
        keys.hpke.current()
    );
    let older = keys.hpke.public().filter(|key| *key != keys.hpke.current());
    for key in older {
        writeln!(text, "# held to open what was sealed before: {key}").map_err(Failure::failed)?;
    }
    for operator in &keys.operators {
        let public = operator_key(&Signer::new(&operator.id, &operator.key).public())?;
        write!(
            text,
            "\n# For installations that shall obey this operator and do not hold the file.\n\
             [[operators]]\nid = \"{}\"\nkey = \"{public}\"\n",
            operator.id
        )
        .map_err(Failure::failed)?;
    }
    Ok(text)
}

/// A new operator's key, in the words of the configuration.
fn operator(id: &str) -> Result<Zeroizing<String>, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
    if !(1..=64).contains(&id.len()) || !id.bytes().all(plain) {
        let problem = "an operator's id is 1 to 64 letters, digits and . _ - @";
        return Err(Failure::Usage(problem.into()));
    }
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(&mut *seed).map_err(Failure::failed)?;
    let public = operator_key(&Signer::new(id, &seed).public())?;
    let secret = Zeroizing::new(STANDARD.encode(*seed));
    Ok(Zeroizing::new(format!(
        "# Secret, for the intake alone: keep it as env:NAME or file:PATH.\n\
         [intake.signer]\nid = \"{id}\"\nkey = \"{}\"\n\n\
         # Public, for every worker.\n[[operators]]\nid = \"{id}\"\nkey = \"{public}\"\n",
        *secret
    )))
}

/// The key of `ed25519:<id>:<base64url>` as `[[operators]]` wants it.
fn operator_key(public: &str) -> Result<String, Failure> {
    let text = public.rsplit(':').next().unwrap_or_default();
    let key = URL_SAFE_NO_PAD.decode(text).map_err(Failure::failed)?;
    Ok(STANDARD.encode(key))
}
