//! The key file: made on first use in the embedded profile and by command in production, for its owner
//! only, and read ever after.
//!
//! TOML: `[[hpke]] kid, private`, `[[ring]] id, key`, `[[operator]] id, private`, `index`,
//! `namespace`. The last entry of each list is the newest. Whoever loses the file loses what was
//! sealed, and with the namespace the way user ids are made: it belongs in the backup, apart from
//! the data. Errors name the file and the line, never what stands there.

use super::{KeyBytes, KeyError, PrivateKeys, Ring, check_names, key_from_text};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use serde::Deserialize;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use zeroize::Zeroizing;

/// A key file has a few hundred bytes; a larger one is another file.
const MAX_FILE: u64 = 64 * 1024;

/// A key that this module only keeps for others.
pub struct NamedKey {
    /// Its name.
    pub id: String,
    /// The key.
    pub key: KeyBytes,
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedKey({})", self.id)
    }
}

/// All that the product keeps secret of its own. The fields are public so that configuration can
/// supply them instead of a file.
pub struct Keys {
    /// Opens evidence.
    pub hpke: PrivateKeys,
    /// Seals rows at rest.
    pub ring: Ring,
    /// Seeds of the Ed25519 keys that sign decisions and erasures, oldest first.
    pub operators: Vec<NamedKey>,
    /// What user ids are made in; as secret as the keys.
    pub namespace: Uuid,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("hpke", &self.hpke)
            .field("ring", &self.ring)
            .field("operators", &self.operators)
            .finish_non_exhaustive()
    }
}

/// Why there are no keys. Names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("the key file {}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It was to be made and is there already.
    #[error(
        "the key file {} is there already; nothing was changed (what it holds cannot be made again)",
        path.display()
    )]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error("the key file {} is open to others than its owner: `chmod 600` it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It is not in the format.
    #[error(
        "the key file {} line {line}: not in the format ([[hpke]] kid, private; [[ring]] id, key; \
         [[operator]] id, private; index; namespace)",
        path.display()
    )]
    Format {
        /// Which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// Its keys are not sound.
    #[error("the key file {}, {part}: {cause}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Which part of it.
        part: &'static str,
        /// What is wrong.
        cause: KeyError,
    },
}

impl Keys {
    /// Reads the key file, or makes it if there is none. Two processes that start at once end up
    /// with the same keys.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file and the remedy.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let io = |cause| io_error(path, cause);
        if !path.try_exists().map_err(io)? {
            create(path).map_err(io)?;
        }
        Self::load(path)
    }

    /// Makes a key file that is not there yet.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file; one that is there stays as it is.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        match create(path) {
            Ok(true) => Self::load(path),
            Ok(false) => Err(KeyFileError::Exists {
                path: path.to_owned(),
            }),
            Err(cause) => Err(io_error(path, cause)),
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file and the remedy.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = read(path)?;
        let file: File = toml::from_str(&text).map_err(|error| KeyFileError::Format {
            path: path.to_owned(),
            line: line_of(&text, error.span().map_or(0, |s| s.start)),
        })?;
        file.into_keys().map_err(|(part, cause)| KeyFileError::Key {
            path: path.to_owned(),
            part,
            cause,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hpke: Vec<Private>,
    ring: Vec<Symmetric>,
    #[serde(default)]
    operator: Vec<Operator>,
    index: Zeroizing<String>,
    namespace: Uuid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Private {
    kid: Option<String>,
    private: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Symmetric {
    id: String,
    key: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    id: String,
    private: Zeroizing<String>,
}

impl File {
    fn into_keys(self) -> Result<Keys, (&'static str, KeyError)> {
        let hpke: Result<_, _> = (self.hpke.into_iter())
            .map(|k| Ok((k.kid, key_from_text(&k.private)?)))
            .collect();
        let hpke = hpke
            .and_then(PrivateKeys::new)
            .map_err(|e| ("[[hpke]]", e))?;
        let index = key_from_text(&self.index).map_err(|e| ("index", e))?;
        let ring: Result<_, _> = (self.ring.into_iter())
            .map(|k| Ok((k.id, key_from_text(&k.key)?)))
            .collect();
        let ring = ring
            .and_then(|keys| Ring::new(keys, index))
            .map_err(|e| ("[[ring]]", e))?;
        let operators = operators(self.operator).map_err(|e| ("[[operator]]", e))?;
        Ok(Keys {
            hpke,
            ring,
            operators,
            namespace: self.namespace,
        })
    }
}

fn operators(keys: Vec<Operator>) -> Result<Vec<NamedKey>, KeyError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    check_names(keys.iter().map(|k| k.id.as_str()))?;
    let named = |k: Operator| {
        let key = key_from_text(&k.private)?;
        Ok(NamedKey { id: k.id, key })
    };
    keys.into_iter().map(named).collect()
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |cause| io_error(path, cause);
    let file = std::fs::File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
        });
    }
    if !about.is_file() || about.len() > MAX_FILE {
        let cause = std::io::Error::other("not a regular file of at most 64 KiB");
        return Err(io(cause));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(MAX_FILE).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Writes a file of its own beside `path`, syncs it, and links it to `path` unless somebody was
/// faster: `path` is never seen half written. Whether this call made it.
fn create(path: &Path) -> std::io::Result<bool> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let dir = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new().prefix(".keys-").tempfile_in(dir)?;
    #[cfg(unix)]
    file.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.write_all(fresh()?.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => std::fs::File::open(dir)?.sync_all().map(|()| true),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e.error),
    }
}

fn fresh() -> std::io::Result<Zeroizing<String>> {
    let (hpke, ring, operator, index) = (random()?, random()?, random()?, random()?);
    let mut namespace = Zeroizing::new([0; 16]);
    fill(namespace.as_mut_slice())?;
    let namespace = uuid::Builder::from_random_bytes(*namespace).into_uuid();
    let kid = PrivateKeys::new(vec![(None, hpke.clone())])
        .map_err(std::io::Error::other)?
        .current()
        .kid()
        .to_owned();
    Ok(Zeroizing::new(format!(
        "# Keys of unilink. Keep this file secret and in a backup apart from the data.\n\
         # The last entry of each list is the newest. `index` and `namespace` must never change.\n\
         namespace = \"{namespace}\"\nindex = \"{}\"\n\n\
         [[hpke]]\nkid = \"{kid}\"\nprivate = \"{}\"\n\n\
         [[ring]]\nid = \"r1\"\nkey = \"{}\"\n\n\
         [[operator]]\nid = \"local\"\nprivate = \"{}\"\n",
        *text(&index),
        *text(&hpke),
        *text(&ring),
        *text(&operator),
    )))
}

fn text(key: &KeyBytes) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(key.as_slice()))
}

fn random() -> std::io::Result<KeyBytes> {
    let mut key = KeyBytes::default();
    fill(key.as_mut_slice())?;
    Ok(key)
}

fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    SysRng.try_fill_bytes(bytes).map_err(std::io::Error::other)
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    1 + before.filter(|b| *b == b'\n').count()
}

fn io_error(path: &Path, cause: std::io::Error) -> KeyFileError {
    KeyFileError::Io {
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("keys.toml");
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
        path
    }

    #[test]
    fn the_file_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/keys.toml");
        let made = Keys::load_or_create(&path).expect("makes");
        let again = Keys::load_or_create(&path).expect("loads");
        assert_eq!(made.namespace, again.namespace);
        assert_eq!(made.operators[0].key, again.operators[0].key);
        let blob = made.hpke.current().seal(b"", b"x").expect("seals");
        assert!(again.hpke.open(b"", &blob).is_ok());
        assert_eq!(made.ring.mac("p", b"x"), again.ring.mac("p", b"x"));
        let row = made.ring.seal("p", b"", b"x").expect("seals");
        assert!(again.ring.open("p", b"", &row).is_ok());
        let mode = path.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = path
            .parent()
            .expect("parent")
            .read_dir()
            .expect("dir")
            .count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn many_that_start_at_once_get_the_same_keys() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("keys.toml");
        let start = || Keys::load_or_create(&path).expect("keys").namespace;
        let seen: Vec<Uuid> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            let joined = threads.into_iter().map(|t| t.join().expect("joins"));
            joined.collect()
        });
        assert!(seen.iter().all(|n| *n == seen[0]));
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("keys.toml");
        Keys::load_or_create(&path).expect("makes");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("chmod");
        let error = Keys::load(&path).expect_err("exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn errors_name_the_place_and_never_the_key() {
        let dir = tempfile::tempdir().expect("dir");
        let good = fresh().expect("text");
        let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
        for (from, to, want) in [
            ("private = \"", format!("private = \"{secret}"), "[[hpke]]"),
            ("index = \"", format!("index = \"{secret}"), "index"),
            (
                "namespace = \"",
                format!("namespace = \"{secret}"),
                "line 3",
            ),
            ("[[ring]]", secret.to_owned(), "line "),
            ("[[ring]]", format!("[[ring]]\n{secret} = 1"), "line "),
            ("key = \"", format!("key = 5 # {secret}\nx = \""), "line "),
            ("id = \"r1\"", "id = \"r 1\"".to_owned(), "[[ring]]"),
        ] {
            let path = write(dir.path(), &good.replacen(from, &to, 1));
            let error = Keys::load(&path).expect_err(want);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(want), "{shown}");
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn debug_shows_names_only() {
        let dir = tempfile::tempdir().expect("dir");
        let keys = Keys::load_or_create(&dir.path().join("k")).expect("makes");
        let shown = format!("{keys:?}");
        assert!(shown.contains("local") && !shown.contains(&keys.namespace.to_string()));
    }
}
