//! Which known word was probably meant?

/// Letters of a word that is compared. Nobody mistypes a longer one into a known word, and the
/// cost of comparing grows with the square.
const COMPARED_MAX: usize = 64;

/// The word of `known` that is nearest to `found`, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if found.len() > COMPARED_MAX {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let found = plain(found);
    let near = known.into_iter().filter_map(|word| {
        let known = plain(word);
        let distance = strsim::damerau_levenshtein(&found, &known);
        // One slip in three letters, so that `ip` does not suggest `id`, nor `tls` `url`.
        let slip = distance <= found.chars().count().max(known.chars().count()) / 3;
        // `warning` for `warn`, `addr` for `address`.
        let cut = found.len().min(known.len()) >= 3
            && (found.starts_with(&known) || known.starts_with(&found));
        (slip || cut).then_some((distance, word))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// The beginning of a sentence that suggests the nearest word; empty if none is near.
pub(super) fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map_or_else(String::new, |word| format!("did you mean `{word}`? "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["weight", "zone", "url", "id", "data_dir", "path_prefix"];
        for (found, meant) in [
            ("weigth", Some("weight")),
            ("Weight", Some("weight")),
            ("dataDir", Some("data_dir")),
            ("data-dir", Some("data_dir")),
            ("uri", Some("url")),
            ("path", Some("path_prefix")),
            ("zones", Some("zone")),
            ("path_prefx", Some("path_prefix")),
            ("ip", None),
            ("tls", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(found, known), meant, "{found}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
