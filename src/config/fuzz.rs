//! Is every file read to an end, and every problem given its place, whatever is in it?

use super::{Place, Severity, parse};
use crate::key::mutants::{ORDINARY_RUN, Recipe, mutant};

const FILES: [&[u8]; 5] = [
    include_bytes!("../../config/minimal.yaml"),
    include_bytes!("../../config/build-cache.yaml"),
    include_bytes!("../../config/object-cache.yaml"),
    include_bytes!("../../config/cluster.yaml"),
    include_bytes!("../../config/full.yaml"),
];

const WORDS: [&[u8]; 40] = [
    b"\n",
    b"\n  ",
    b"\n    - ",
    b": ",
    b":",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b", ",
    b"#",
    b"\"",
    b"'",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"|\n",
    b">\n",
    b"!!str ",
    b"---\n",
    b"...\n",
    b"~",
    b"null",
    b"true",
    b"off",
    b"none",
    b"0",
    b"-1",
    b"1e9",
    b"0x10",
    b"99999999999999999999",
    b"10s",
    b"5MiB",
    b"\t",
    b"\xff",
    b"\0",
    b"\xc3\xa4",
    b"pools:\n",
    b"http://127.0.0.1:1",
];

#[test]
fn fuzz_files() {
    bolero::check!().with_iterations(ORDINARY_RUN / 8).with_type::<Recipe>().for_each(|recipe| {
        let bytes = mutant(&FILES, &WORDS, recipe);
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        let (said, right) = match parse(&text, "fuzz.yaml") {
            Ok(loaded) => {
                assert!(!loaded.config.describe().is_empty());
                (loaded.warnings, true)
            }
            Err(problems) => (problems, false),
        };
        let errors = said.list().iter().filter(|one| one.severity == Severity::Error).count();
        assert_eq!(errors == 0, right, "{said}");
        for one in said.list() {
            let places = one.place.iter().chain(one.other.iter().map(|(place, _)| place));
            let fine = |place: &Place| place.line >= 1 && place.column >= 1 && place.line <= lines;
            assert!({ places }.all(fine), "{said}");
        }
    });
}
