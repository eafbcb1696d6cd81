//! Who may change something?
//!
//! Whoever can read `admin.token` in the node's folder: made at the first start, 256 random bits,
//! readable by the node's user alone. The command line finds it there.

use std::fs;
use std::io;
use std::path::Path;

use crate::disk::atomic;

/// The file's name within the node's folder.
pub const TOKEN_FILE: &str = "admin.token";

/// The token of one node.
pub struct Token(String);

impl Token {
    /// Reads the token of a folder, or makes one from `random`.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::InvalidData`] when the file is there and
    /// holds no token.
    pub fn read_or_make(data_dir: &Path, random: [u8; 32]) -> io::Result<Self> {
        match Self::read(data_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                atomic::replace(&data_dir.join(TOKEN_FILE), format!("{text}\n").as_bytes(), 0o600)?;
                Ok(Self(text))
            }
            other => other,
        }
    }

    /// Reads the token of a folder.
    ///
    /// # Errors
    /// As [`read_or_make`](Self::read_or_make), and [`io::ErrorKind::NotFound`] if there is none.
    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(data_dir.join(TOKEN_FILE))?;
        let text = text.trim();
        if text.len() < 32 || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let what = format!(
                "{TOKEN_FILE} holds no token (at least 32 letters and digits): remove it to have \
                 one made"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Self(text.to_owned()))
    }

    /// The token as text, for `Authorization: Bearer`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is this token, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, offered: &str) -> bool {
        // Hashes are compared in constant time by `blake3::Hash`.
        blake3::hash(offered.as_bytes()) == blake3::hash(self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Token::read_or_make(folder.path(), [7; 32]).expect("made");
        let read = Token::read_or_make(folder.path(), [8; 32]).expect("read");
        assert_eq!(made.as_str(), read.as_str());
        assert!(read.is(made.as_str()) && !read.is("") && !read.is(&made.as_str()[1..]));
        let path = folder.path().join(TOKEN_FILE);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short\n").expect("written");
        assert!(Token::read(folder.path()).is_err());
    }
}
