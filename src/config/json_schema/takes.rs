//! How is a key described?

use crate::config::schema::Keys;

/// A section: a key of [`ALL`](crate::config::schema::ALL), and what its keys mean.
pub(super) struct Described {
    pub(super) section: &'static Keys,
    pub(super) says: &'static str,
    pub(super) keys: &'static [Key],
    /// What several keys mean for each other, as JSON Schema; may be empty.
    pub(super) rule: &'static str,
}

/// One key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) says: &'static str,
    /// As it would be written, in YAML. Empty if there is no default.
    pub(super) usual: &'static str,
    pub(super) needed: bool,
}

/// What may be written after a key.
pub(super) enum Takes {
    /// A section.
    Section(&'static Keys),
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// `true` or `false`.
    Truth,
    /// A duration from the first to the second.
    Duration(&'static str, &'static str),
    /// Bytes, from the first to the second.
    Size(u64, u64),
    /// One of a few words.
    Words(&'static [&'static str]),
    /// A single value that matches a regular expression.
    Text(&'static str),
    /// A list with from so many to so many items.
    List(&'static Takes, u64, u64),
    /// The same, or one item without a list.
    OneOrList(&'static Takes, u64, u64),
    /// Any of these.
    Either(&'static [Takes]),
    /// A mapping from names of the user's own, at most so many.
    Entries(&'static Takes, u64),
}

use Takes::{Duration, Either, OneOrList, Text, Words};

pub(super) const fn key(name: &'static str, takes: Takes, says: &'static str) -> Key {
    Key { name, takes, says, usual: "", needed: false }
}

impl Key {
    pub(super) const fn usually(self, usual: &'static str) -> Self {
        Self { usual, ..self }
    }

    pub(super) const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }
}

/// Names of pools, shards, zones, routes and nodes.
pub(super) const NAME: Takes = Text("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");

pub(super) const ADDRESS: Takes = Text("^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}$");

pub(super) const PEER: Takes = Text("^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+):[0-9]{1,5}$");

pub(super) const PATH: Takes = Text("^.+$");

/// Names of fields and cookies.
pub(super) const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

pub(super) const METHOD: Takes = Text("^[A-Z0-9!#$%&'*+.^_`|~-]+$");

pub(super) const METHODS: Takes = Either(&[Words(&["any"]), OneOrList(&METHOD, 0, 64)]);

pub(super) const PREFIX: Takes = Text("^/");

/// Any duration that may be set.
pub(super) const TIME: Takes = Duration("1ms", "24h");

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;
