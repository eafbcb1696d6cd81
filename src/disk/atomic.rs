//! How is a file replaced so that it is old or new, and never in between?
//!
//! Written aside, made durable, renamed over the old one, and the rename made durable too: a
//! rename that is only in memory can be lost with the power, and a rename of bytes that are only
//! in memory can survive them (Pillai et al., *All File Systems Are Not Created Equal*, OSDI 2014).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces `path` by a file with these bytes and this Unix mode. When this returns, the new
/// bytes survive a loss of power.
///
/// # Errors
/// What the file system says. There is then the old file, whole, or, if only the last step failed,
/// the new one, whole, which a loss of power may take back.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = aside(path)?;
    // What a crash left over is nobody's: the folder's lock is held.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| fs::rename(&aside, path)).inspect_err(|_| {
        // Half of a file is of no use, and on a full disk it would be in the way.
        drop(fs::remove_file(&aside));
    })?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes what was created, renamed or removed in a folder durable.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

fn aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut name = name.to_owned();
    name.push(".new");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_of_a_crash_do_no_harm() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        replace(&path, b"one", 0o600).expect("written");
        // A crash between the write and the rename leaves the file beside it.
        fs::write(folder.path().join("state.new"), b"torn").expect("written");
        assert_eq!(fs::read(&path).expect("the old file"), b"one");
        replace(&path, b"two", 0o600).expect("written again");
        assert_eq!(fs::read(&path).expect("the new file"), b"two");
        assert!(!folder.path().join("state.new").exists());
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        replace(&path, b"one", 0o600).expect("written");
        // A folder in the way of the file aside: it can be neither removed as a file nor created.
        fs::create_dir(folder.path().join("state.new")).expect("created");
        assert!(replace(&path, b"two", 0o600).is_err());
        assert_eq!(fs::read(&path).expect("the old file"), b"one");
    }
}
