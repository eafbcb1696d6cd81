//! How does a process speak to whoever started it?
//!
//! `println!` and `eprintln!` panic when their stream cannot be written: the reader has gone
//! (`ringway check … | head`), or the disk that the messages go to is full. Neither may take a
//! node down.

use std::io::{self, Write, stderr, stdout};

use super::error::AppError;

/// Writes `text` and the end of a line to standard output. A reader that has gone wants no more,
/// which is no error.
///
/// # Errors
/// When the output is lost for another reason: a file on a full disk.
pub fn say(text: &str) -> Result<(), AppError> {
    match line(&mut stdout().lock(), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(AppError::System { what: "standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Writes `text` and the end of a line to standard error, if somebody is there to read it.
pub fn complain(text: &str) {
    drop(line(&mut stderr().lock(), text));
}

fn line(out: &mut impl Write, text: &str) -> io::Result<()> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
