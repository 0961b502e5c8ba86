//! `unilink migrate`: brings the database's tables up to this version.

use super::Failure;
use super::assemble::{migrate_postgres, needs_store, open_file};
use crate::cli::shown::say_line;
use crate::config::{Config, Profile};

/// Migrates, and tells what was applied.
///
/// # Errors
/// The database cannot be reached, or was written by a newer version.
pub async fn run(config: Config) -> Result<(), Failure> {
    match &config.profile {
        Profile::Embedded { path } => {
            open_file(path, None).await?;
            say_line!(
                "{}: up to date (the embedded profile migrates whenever it is opened)",
                path.display()
            );
        }
        Profile::Production {
            postgres: Some(postgres),
            ..
        } => {
            let applied = migrate_postgres(postgres).await?;
            for name in &applied {
                say_line!("applied {name}");
            }
            if applied.is_empty() {
                say_line!("up to date");
            }
        }
        Profile::Production { postgres: None, .. } => needs_store(&config)?,
    }
    Ok(())
}
