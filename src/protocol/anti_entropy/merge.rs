//! Which keys of a range do replicas hold in different versions?
//!
//! Each replica's keys come in pages, in one order; [`Merge`] lays them side by side and gives out
//! the differences. It holds a page of each at a time, however large the range is.

use std::collections::VecDeque;

use crate::ids::Token;
use crate::protocol::replica::Entry;

/// A key that not all replicas hold in its newest version, or not all alike whole or damaged. Replicas
/// are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key, in its newest version; damaged only if nobody has it whole.
    pub newest: Entry,
    /// Who has that, whole.
    pub holders: Vec<usize>,
    /// Who has it damaged.
    pub damaged: Vec<usize>,
    /// Who has an older one.
    pub older: Vec<usize>,
    /// Who has nothing; perhaps because it was collected there.
    pub absent: Vec<usize>,
}

/// A page that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Its keys are not in the order of (token, key), or overlap the page before.
    #[error("the keys of a page are out of order")]
    Order,
    /// A key has a token outside of the range that was asked for.
    #[error("a page has a key outside of the range that was asked for")]
    Range,
}

/// Pages of several replicas, laid side by side.
///
/// ```text
/// while let Some(replica) = merge.wants() { fetch its next page; merge.page(replica, …)?; }
/// merge.next()  // until None, then again from the top, until merge.is_done()
/// ```
#[derive(Debug)]
pub struct Merge {
    range: (Token, Token),
    feeds: Vec<Feed>,
    compared: u64,
}

#[derive(Debug, Default)]
struct Feed {
    entries: VecDeque<Entry>,
    ended: bool,
    last: Option<(Token, String)>,
}

impl Merge {
    /// Begins with the keys of `replicas` replicas whose tokens are in `range`, its ends included.
    #[must_use]
    pub fn new(replicas: usize, range: (Token, Token)) -> Self {
        Self { range, feeds: (0..replicas).map(|_| Feed::default()).collect(), compared: 0 }
    }

    /// Whose next page is needed to go on.
    #[must_use]
    pub fn wants(&self) -> Option<usize> {
        self.feeds.iter().position(|feed| feed.entries.is_empty() && !feed.ended)
    }

    /// Takes in a replica's next page; `is_last` if none follows.
    ///
    /// # Errors
    /// [`MergeError`]: that replica's pages cannot be compared with others'.
    pub fn page(
        &mut self,
        replica: usize,
        entries: impl IntoIterator<Item = Entry>,
        is_last: bool,
    ) -> Result<(), MergeError> {
        let (from, to) = self.range;
        let feed = &mut self.feeds[replica];
        for entry in entries {
            if entry.token < from || entry.token > to {
                return Err(MergeError::Range);
            }
            let place = (entry.token, entry.key.clone());
            if feed.last.as_ref().is_some_and(|last| *last >= place) {
                return Err(MergeError::Order);
            }
            feed.last = Some(place);
            feed.entries.push_back(entry);
        }
        feed.ended = is_last;
        Ok(())
    }

    /// The next key that differs; `None` when a page is [wanted](Self::wants), or at the end.
    #[allow(clippy::should_implement_trait, reason = "None is not the end of it")]
    pub fn next(&mut self) -> Option<Difference> {
        while self.wants().is_none() {
            let place = |entry: &Entry| (entry.token, entry.key.clone());
            let heads = self.feeds.iter().filter_map(|feed| feed.entries.front());
            let first = heads.map(place).min()?;
            self.compared += 1;
            let taken: Vec<Option<Entry>> = self
                .feeds
                .iter_mut()
                .map(|feed| feed.entries.pop_front_if(|entry| place(entry) == first))
                .collect();
            if let Some(difference) = difference(taken) {
                return Some(difference);
            }
        }
        None
    }

    /// Whether every key was given out or found alike.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.feeds.iter().all(|feed| feed.ended && feed.entries.is_empty())
    }

    /// Keys compared so far.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.compared
    }
}

/// How the entries of one key differ, one place per replica; `None` if they do not.
fn difference(entries: Vec<Option<Entry>>) -> Option<Difference> {
    let version = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.version);
    let newest = entries.iter().map(version).max()??;
    let (mut holders, mut damaged) = (Vec::new(), Vec::new());
    let (mut older, mut absent) = (Vec::new(), Vec::new());
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            None => absent.push(at),
            Some(entry) if entry.version < newest => older.push(at),
            Some(entry) if entry.damaged => damaged.push(at),
            Some(_) => holders.push(at),
        }
    }
    let alike = [&holders, &damaged].iter().any(|all| all.len() == entries.len());
    let first = *holders.first().or(damaged.first()).expect("somebody has the newest");
    let newest = entries.into_iter().nth(first).flatten().expect("a holder has it");
    (!alike).then_some(Difference { newest, holders, damaged, older, absent })
}
