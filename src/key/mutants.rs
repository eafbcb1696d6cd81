//! How are inputs made that are almost right? For the fuzz targets of every room.
//!
//! Random bytes are hardly ever a request, a path or a file. So each input is one or several good
//! wholes into which a few words are put, at any place, or from which a few bytes are taken. What
//! bolero makes up is the recipe: its own generator does so in ordinary runs, one that watches the
//! code's branches does so under `cargo bolero`.

/// Which whole is first, and what is done to it: where, how and with which word.
pub(crate) type Recipe = (u8, Vec<(u16, u8, u8)>);

/// More changes make nothing but noise.
const CHANGES_MAX: usize = 8;

/// The input that a recipe describes.
pub(crate) fn mutant(wholes: &[&[u8]], words: &[&[u8]], recipe: &Recipe) -> Vec<u8> {
    let (first, changes) = recipe;
    let mut text = wholes[usize::from(*first) % wholes.len()].to_vec();
    for &(at, how, word) in changes.iter().take(CHANGES_MAX) {
        let at = usize::from(at) % (text.len() + 1);
        let with = words[usize::from(word) % words.len()];
        let end = |length: usize| (at + length).min(text.len());
        match how % 6 {
            0 | 1 => drop(text.splice(at..at, with.iter().copied())),
            2 => drop(text.splice(at..end(with.len()), with.iter().copied())),
            3 => drop(text.drain(at..end(1 + usize::from(how / 6)))),
            4 => drop(text.splice(at..end(1), [word])),
            _ => text.extend_from_slice(wholes[usize::from(word) % wholes.len()]),
        }
    }
    text
}

/// How many inputs an ordinary run tries; `.ci/fuzz` goes on for as long as it is told.
pub(crate) const ORDINARY_RUN: usize = 4000;
