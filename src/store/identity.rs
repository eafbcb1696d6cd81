//! Which store is this? 128 random bits, drawn once, that live and die with the data.
//!
//! An address can be given to an empty disk, a name can be typed twice; this id can be neither.
//! It stands in the index, where it cannot be parted from the data, and in a file of its own,
//! which tells an empty folder from one that lost its index, and tells people what they look at.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::disk::atomic;
use crate::ids::StoreId;

/// The name of the id's file in the store's folder.
pub(super) const IDENTITY_FILE: &str = "identity";

/// First line of the file: what it is, and the version of its form.
const HEADLINE: &str = "ringway store 1";

/// Draws an id from the system's random source.
///
/// # Errors
/// When the system has none.
pub(super) fn draw() -> io::Result<StoreId> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(StoreId(bytes))
}

/// The id that stands in `folder`; `None` when there is no such file.
///
/// # Errors
/// `InvalidData` when the file is not what [`write()`] makes, else what the system said.
pub(super) fn read(folder: &Path) -> io::Result<Option<StoreId>> {
    let text = match std::fs::read_to_string(folder.join(IDENTITY_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let id = text.strip_prefix(HEADLINE).and_then(|rest| rest.trim().parse().ok());
    id.map(Some).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "not an identity file of this release")
    })
}

/// Writes the id into `folder`, whole and durable.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn write(folder: &Path, id: StoreId) -> io::Result<()> {
    let text = format!("{HEADLINE}\n{id}\n");
    atomic::replace(&folder.join(IDENTITY_FILE), text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_from_its_folder_and_its_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read(folder.path()).expect("an empty folder can be read"), None);
        let id = draw().expect("a random source");
        write(folder.path(), id).expect("the folder can be written");
        assert_eq!(read(folder.path()).expect("the file can be read"), Some(id));
    }

    #[test]
    fn a_file_of_another_form_is_an_error_and_not_an_absence() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for other in ["", "ringway store 2\n00", "\0\0\0\0"] {
            std::fs::write(folder.path().join(IDENTITY_FILE), other).expect("a writable folder");
            let error = read(folder.path()).expect_err("this is no identity");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
