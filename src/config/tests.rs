use std::path::{Path, PathBuf};

use super::load::check;
use super::*;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn example(name: &str) -> Loaded {
    let path = repository().join("config").join(name);
    load(&path).unwrap_or_else(|diagnostics| panic!("{name} has errors:\n{diagnostics}"))
}

#[test]
fn tmp_examples() {
    for name in ["minimal.yaml", "build-cache.yaml", "object-cache.yaml", "full.yaml"] {
        let loaded = example(name);
        println!("{}\n{}", loaded.config.describe(), loaded.warnings);
    }
}

/// Every file of `tests/config/bad` is answered with the text beside it.
///
/// The file's name says what it shows. With `RINGWAY_BLESS=1` the answers are written anew, to be
/// read before they are committed.
#[test]
fn bad_files_are_explained() {
    let folder = repository().join("tests/config/bad");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 40, "only {} files were found", files.len());
    let bless = std::env::var_os("RINGWAY_BLESS").is_some();
    let mut differing = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let answer = match parse(&text, "config.yaml") {
            Ok(loaded) => loaded.warnings,
            Err(diagnostics) => diagnostics,
        };
        let answer = format!("{answer}\n");
        let expected = path.with_extension("expected");
        if bless {
            std::fs::write(&expected, &answer).expect("the answer can be written");
        }
        if std::fs::read_to_string(&expected).ok().as_ref() != Some(&answer) {
            differing.push(format!("{}:\n{answer}", path.display()));
        }
    }
    assert!(differing.is_empty(), "unexpected answers:\n{}", differing.join("\n"));
}
