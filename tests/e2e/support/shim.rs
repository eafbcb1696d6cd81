//! A library that stands between a process and its C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::say::require;

/// Compiles it, to be named in `LD_PRELOAD`. `None`, said aloud, where there is no C compiler.
pub fn build(folder: &Path, source: &str) -> Option<PathBuf> {
    let compiler = require("cc")?;
    let (file, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&file, source).expect("a writable folder");
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &file])
        .arg("-ldl")
        .status()
        .is_ok_and(|status| status.success());
    assert!(built, "the library does not compile");
    Some(library)
}
