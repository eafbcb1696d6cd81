//! How are mappings and lists read, and what may not stand in them twice or at all?

use std::collections::BTreeMap;
use std::fmt::Display;

use super::diagnostic::Place;
use super::raw::{Entry, Shape};
use super::schema::{self, Keys};
use super::spelling::suggestion;
use super::spot::Spot;

impl<'a> Spot<'a> {
    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Spot<'a>>> {
        let Shape::List(items) = self.shape() else {
            let help = "write a list: each item on a line of its own, after `- `";
            return self.refuse_kind("a list", help);
        };
        Some(items.iter().enumerate().map(|(number, node)| self.item(number, node)).collect())
    }

    /// As [`Spot::items`]; a single scalar counts as a list of itself.
    pub(super) fn items_or_one(&self) -> Option<Vec<Spot<'a>>> {
        match self.shape() {
            Shape::Scalar(_) if !self.is_null() => Some(vec![self.clone()]),
            _ => self.items(),
        }
    }

    /// The mapping's entries under names of the user's own, which `parse` checks; a name that
    /// stands twice is an error.
    pub(super) fn free_map<K, E: Display>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<K, E>,
    ) -> Option<Vec<(K, Spot<'a>)>> {
        let Shape::Map(entries) = self.shape() else {
            return self.refuse_kind("a mapping", format!("write a mapping, such as {what}"));
        };
        self.refuse_twins(entries);
        let named = entries.iter().filter_map(|entry| match parse(&entry.key) {
            Ok(key) => Some((key, self.value_of(entry))),
            Err(error) => {
                self.refuse_key(entry, error.to_string(), String::new(), None);
                None
            }
        });
        Some(named.collect())
    }

    /// The value as a section; the keys that it does not have are errors.
    pub(super) fn section(&self, keys: &'static Keys) -> Option<Section<'a>> {
        let entries: &'a [Entry] = match self.shape() {
            Shape::Map(entries) => entries,
            // A section of which every line is commented out.
            _ if self.is_null() => &[],
            _ => {
                let help = format!("write a mapping with the keys {}", keys.known.join(", "));
                return self.refuse_kind("a mapping", help);
            }
        };
        self.refuse_twins(entries);
        for entry in entries.iter().filter(|entry| !keys.known.contains(&entry.key.as_str())) {
            self.refuse_unknown(entry, keys);
        }
        Some(Section { spot: self.clone(), entries, keys })
    }

    /// The value of one of the mapping's keys, for a reader of another section: whose keys are
    /// known, and read, elsewhere.
    pub(super) fn entry(&self, key: &str) -> Option<Spot<'a>> {
        let Shape::Map(entries) = self.shape() else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| self.value_of(entry))
    }

    fn refuse_twins(&self, entries: &[Entry]) {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        for entry in entries {
            match seen.get(entry.key.as_str()) {
                None => {
                    seen.insert(&entry.key, entry.place);
                }
                Some(first) => {
                    let other = (*first, "it stands here already".to_owned());
                    let help = "keep one of the two".to_owned();
                    self.refuse_key(entry, "the key stands twice".to_owned(), help, Some(other));
                }
            }
        }
    }

    fn refuse_unknown(&self, entry: &Entry, keys: &Keys) {
        let key = entry.key.as_str();
        let known = format!("known here: {}", keys.known.join(", "));
        let (message, help) = if keys.later.contains(&key) {
            (format!("`{key}` is not in this release"), format!("remove it; {known}"))
        } else if key == "<<" {
            let help = "write the keys out, or give the whole section by an alias (`*name`)";
            ("merge keys are not read".to_owned(), help.to_owned())
        } else if let Some(home) = schema::homes_of(key) {
            (format!("`{key}` does not belong here"), format!("it belongs to {home}; {known}"))
        } else {
            let suggestion = suggestion(key, keys.known.iter().copied());
            ("unknown key".to_owned(), suggestion + &known)
        };
        self.refuse_key(entry, message, help, None);
    }
}

/// A mapping whose keys are known.
pub(super) struct Section<'a> {
    spot: Spot<'a>,
    entries: &'a [Entry],
    keys: &'static Keys,
}

impl<'a> Section<'a> {
    /// The section as a value.
    pub(super) fn spot(&self) -> &Spot<'a> {
        &self.spot
    }

    /// The value of `key`, if it is written.
    ///
    /// # Panics
    /// When `key` is not in the section's table, which would refuse it where it is written.
    pub(super) fn get(&self, key: &'static str) -> Option<Spot<'a>> {
        assert!(self.keys.known.contains(&key), "the table of `{}` has `{key}`", self.keys.at);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.spot.value_of(entry))
    }

    /// The value of `key`; that it is missing is an error.
    pub(super) fn need(&self, key: &'static str, what: &str) -> Option<Spot<'a>> {
        let found = self.get(key);
        if found.is_none() {
            let help = format!("write `{key}:` and {what}");
            self.spot.refuse::<()>(format!("`{key}` is missing"), help);
        }
        found
    }

    /// Sets `into` to what `read` makes of `key`, if it is written.
    pub(super) fn set<T>(
        &self,
        key: &'static str,
        into: &mut T,
        read: impl FnOnce(&Spot<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.get(key).and_then(|spot| read(&spot)) {
            *into = value;
        }
    }

    /// The section `key`, if it is written.
    pub(super) fn sub(&self, key: &'static str, keys: &'static Keys) -> Option<Section<'a>> {
        self.get(key)?.section(keys)
    }
}

/// Finds values that stand in two places and must not.
pub(super) struct Unique<'a, K> {
    seen: BTreeMap<K, Spot<'a>>,
}

impl<'a, K: Ord> Unique<'a, K> {
    pub(super) fn new() -> Self {
        Self { seen: BTreeMap::new() }
    }

    /// Notes that `key` stands at `spot`; an error if it has stood somewhere before.
    pub(super) fn note(&mut self, key: K, spot: &Spot<'a>, message: &str, help: &str) {
        match self.seen.get(&key) {
            Some(first) => spot.clash(message, (first.place(), "it stands here already"), help),
            None => {
                self.seen.insert(key, spot.clone());
            }
        }
    }
}
