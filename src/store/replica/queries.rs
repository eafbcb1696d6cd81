//! What do the query strings of replica requests ask for?

use crate::ids::Token;
use crate::protocol::replica::words::PAGE_ENTRIES_MAX;
use crate::protocol::replica::{SLOTS, parse_token};
use crate::store::list::{decode, parse_cursor};
use crate::store::problem::Problem;

/// The parameters of one query string, each to be taken once.
pub(super) struct Query<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    /// Takes a query string apart. `known` are the parameters that there may be.
    pub(super) fn parse(query: Option<&'a str>, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let known = known.join(", ");
                return Err(wrong(format!("`{name}` is not one of {known}")));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!("`{name}` is given twice: give it once")));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn read<T>(
        &self,
        name: &str,
        form: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| wrong(format!("`{name}` is {form}")))
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.read(name, "a number", |text| text.parse().ok())
    }

    /// A token.
    pub(super) fn token(&self, name: &str) -> Result<Option<Token>, Problem> {
        self.read(name, "16 hexadecimal digits", |text| parse_token(text).ok())
    }

    /// Bytes of a key or the beginning of one, percent-encoded.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        self.read(name, "percent-encoded; write a plain `%` as %25", decode)
    }

    /// Where the page before ended.
    pub(super) fn cursor(&self) -> Result<Option<Vec<u8>>, Problem> {
        self.read("cursor", "what the page before gave as `next`", parse_cursor)
    }

    /// How many entries at most.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.read("limit", "a number from 1 to 1000", |text| {
            text.parse().ok().filter(|limit| (1..=PAGE_ENTRIES_MAX).contains(limit))
        });
        Ok(limit?.unwrap_or(PAGE_ENTRIES_MAX))
    }

    /// A slot.
    pub(super) fn slot(&self, name: &str) -> Result<Option<u16>, Problem> {
        self.read(name, "a number from 0 to 65535", |text| text.parse().ok())
    }

    /// Slots from `from` on, `count` of them, or all that there are.
    pub(super) fn slots(&self) -> Result<(u16, u32), Problem> {
        let from = self.slot("from")?.unwrap_or(0);
        let left = SLOTS - u32::from(from);
        let count = self.read("count", "1 or more, as many as there are after `from`", |text| {
            text.parse().ok().filter(|count| (1..=left).contains(count))
        });
        Ok((from, count?.unwrap_or(left)))
    }
}

/// A query that was not understood.
pub(super) fn wrong(detail: String) -> Problem {
    Problem::bad_request("query", detail + ".")
}
