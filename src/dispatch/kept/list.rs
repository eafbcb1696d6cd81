//! Which keys does a pool have that begin so?
//!
//! Every shard has some of the keys, and each key is on several shards. All shards are asked for the
//! same stretch of keys, and what they say of one key is merged: the newest version counts, and
//! tombstones hide what they deleted. As many shards may fail as leave a majority of every key's
//! replicas; if more do, there is no page.
//!
//! A page is what a majority held while it was made. Between two pages keys come and go: there is no
//! snapshot.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::super::outcome::{Failure, KeptFailure, Note};
use super::super::trace::{Round, Trace, Trying};
use super::super::view::Pool;
use super::super::worker::Worker;
use super::away;
use super::words::{Word, word_for};
use crate::drivers::native::Fault;
use crate::net::timers::Timer;
use crate::protocol::health::Class;
use crate::protocol::quorum::{Reason, TooFew, majority};
use crate::protocol::replica::{Entry, Page};

/// Keys that one shard is asked for at once.
const BATCH: usize = 500;

/// How often shards are asked for one page. Stretches of tombstones and of keys that lie below one
/// common prefix give nothing; then a short page tells where to go on.
const ROUNDS_MAX: usize = 16;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What the keys begin with.
    pub prefix: String,
    /// What stands between the parts of a key: keys that have it behind the prefix are told as what
    /// they have in common. `None`: each key is told.
    pub delimiter: Option<String>,
    /// Behind which key, or common prefix, the page begins.
    pub after: Option<String>,
    /// Keys and common prefixes on the page.
    pub limit: usize,
}

/// One line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// A key that has a value.
    Key(Entry),
    /// What several keys have in common.
    Prefix(String),
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of keys.
    pub lines: Vec<Listed>,
    /// What the next page is asked with; `None` after the last.
    pub next: Option<String>,
}

/// Lists keys of a pool.
///
/// # Errors
/// [`Failure`]; `note` says who is away if it is for their sake.
pub async fn list(
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    asked: &Asked,
    trace: Option<&Rc<Trace>>,
    note: &mut Note,
) -> Result<Listing, Failure> {
    let kept = &worker.kept;
    let no_lease = |_| Failure::Kept(KeptFailure::NotApplied(Reason::NoLease, None));
    drop(kept.hold(&pool.agreed.name, pool.agreed.epoch).map_err(no_lease)?);
    let mut listing = Listing::default();
    let mut after = asked.after.clone();
    for _ in 0..ROUNDS_MAX {
        let pages = pages(worker, timer, pool, (&asked.prefix, after.as_deref()), trace).await;
        let pages = pages.inspect_err(|_| {
            note.away = away::of_pool(pool, Class::Read, timer.timers().now_ms());
        })?;
        let merged = merge(pages, after.as_deref());
        let is_last = merged.until.is_none();
        for entry in merged.entries {
            let room = listing.lines.len() < asked.limit;
            if !add(&mut listing, asked, entry, room) {
                listing.next = last(&listing);
                drop(kept.hold(&pool.agreed.name, pool.agreed.epoch).map_err(no_lease)?);
                return Ok(listing);
            }
        }
        listing.next = merged.until;
        if is_last {
            break;
        }
        after = match listing.lines.last() {
            // All below the common prefix is told already.
            Some(Listed::Prefix(prefix))
                if listing.next.as_ref().is_some_and(|next| next.starts_with(prefix.as_str())) =>
            {
                Some(behind(prefix))
            }
            _ => listing.next.clone(),
        };
    }
    drop(kept.hold(&pool.agreed.name, pool.agreed.epoch).map_err(no_lease)?);
    Ok(listing)
}

/// Adds an entry, unless it needs a line and there is no room; says whether it has its place.
fn add(listing: &mut Listing, asked: &Asked, entry: Entry, room: bool) -> bool {
    let rest = &entry.key[asked.prefix.len()..];
    let delimiter = asked.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let common = delimiter.and_then(|delimiter| {
        let at = rest.find(delimiter)? + delimiter.len();
        Some(entry.key[..asked.prefix.len() + at].to_owned())
    });
    match common {
        Some(common) => {
            let is_told = matches!(listing.lines.last(), Some(Listed::Prefix(last)) if *last == common)
                || asked.after.as_deref() == Some(behind(&common).as_str());
            if is_told {
                return true;
            }
            if room {
                listing.lines.push(Listed::Prefix(common));
            }
        }
        None if room => listing.lines.push(Listed::Key(entry)),
        None => {}
    }
    room
}

/// What a page that is full is continued with.
fn last(listing: &Listing) -> Option<String> {
    listing.lines.last().map(|line| match line {
        Listed::Key(entry) => entry.key.clone(),
        Listed::Prefix(prefix) => behind(prefix),
    })
}

/// What lies behind all keys that begin so: they are printable ASCII, so that DEL follows.
fn behind(prefix: &str) -> String {
    format!("{prefix}\x7f")
}

/// What several shards hold of a stretch of keys.
struct Merged {
    /// Values, by key.
    entries: Vec<Entry>,
    /// The stretch ends with this key; `None`: with the last one that there is.
    until: Option<String>,
}

/// Merges what shards said of the keys behind `after`. The stretch ends where the first of them
/// stopped.
fn merge(pages: Vec<Page>, after: Option<&str>) -> Merged {
    let until = pages.iter().filter_map(|page| page.next.clone()).min();
    let mut newest: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in pages.into_iter().flat_map(|page| page.keys) {
        match newest.get(&entry.key) {
            Some(known) if known.version >= entry.version => {}
            _ => {
                newest.insert(entry.key.clone(), entry);
            }
        }
    }
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let to = until.as_deref().map_or(Bound::Unbounded, Bound::Included);
    // Whoever stopped before `after` has said nothing of what lies behind it.
    let is_empty =
        matches!((after, until.as_deref()), (Some(after), Some(until)) if until <= after);
    let values = (!is_empty).then(|| newest.range::<str, _>((from, to)));
    let values = values.into_iter().flatten().filter(|(_, entry)| !entry.tombstone);
    Merged { entries: values.map(|(_, entry)| entry.clone()).collect(), until }
}

/// Whether a page can be what was asked for: keys in their order, with the prefix, behind `after`, and
/// a place to go on from that is not before them. Else nothing that it says is believed, nor that it
/// has no more.
fn is_sound(page: &Page, prefix: &str, after: Option<&str>) -> bool {
    let keys = || page.keys.iter().map(|entry| entry.key.as_str());
    let is_behind = |key: &str| after.is_none_or(|after| after < key);
    let goes_on = page
        .next
        .as_deref()
        .is_none_or(|next| is_behind(next) && keys().next_back().is_none_or(|last| last <= next));
    goes_on
        && keys().all(|key| key.starts_with(prefix) && is_behind(key))
        && page.keys.is_sorted_by(|one, next| one.key < next.key)
}

/// Asks every shard for its next keys.
async fn pages(
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    (prefix, after): (&str, Option<&str>),
    trace: Option<&Rc<Trace>>,
) -> Result<Vec<Page>, Failure> {
    let means = Rc::new(worker.means());
    let mut asking: Vec<_> = (0..pool.shards.len())
        .filter(|shard| pool.is_asked(*shard) && !pool.agreed.shards[*shard].fresh)
        .map(|shard| {
            let means = Rc::clone(&means);
            Box::pin(async move {
                let timer = means.timers.register();
                let span =
                    trace.map(|trace| Trying::begin_round(trace, shard, Round::List, &timer));
                let page = pool.replica(shard).list(&means, &timer, prefix, after, BATCH).await;
                if let Some(span) = &span {
                    span.end_round(page.as_ref().map(Word::word).map_err(word_for));
                }
                page
            })
        })
        .collect();
    let replicas = usize::from(pool.agreed.spec.replicas());
    let failed_max = replicas - majority(replicas);
    let mut failed = pool.shards.len() - asking.len();
    let mut pages = Vec::new();
    let until_ms = timer.timers().after(pool.settings.timeouts.response_head);
    while !asking.is_empty() && failed <= failed_max {
        let answered: Option<Result<Page, Fault>> = poll_fn(|cx| {
            for at in 0..asking.len() {
                if let Poll::Ready(page) = asking[at].as_mut().poll(cx) {
                    drop(asking.swap_remove(at));
                    return Poll::Ready(Some(page));
                }
            }
            if timer.poll_expired(cx, until_ms) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match answered {
            Some(Ok(page)) if is_sound(&page, prefix, after) => pages.push(page),
            Some(Ok(_)) => failed += 1,
            Some(Err(_)) => failed += 1,
            None => failed += std::mem::take(&mut asking).len(),
        }
    }
    if failed > failed_max {
        let count = pool.shards.len();
        let too_few = TooFew { available: count - failed, needed: count - failed_max };
        return Err(Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(too_few), None)));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Token;
    use crate::version::{Stamp, Version};

    fn entry(key: &str, stamp: u64, tombstone: bool) -> Entry {
        Entry {
            key: key.to_owned(),
            token: Token(0),
            version: Version { stamp: Stamp(stamp), ..Version::NONE },
            tombstone,
            size: 0,
            digest: String::new(),
            damaged: false,
            modified_ms: stamp,
        }
    }

    fn keys(merged: &Merged) -> Vec<String> {
        merged.entries.iter().map(|entry| format!("{}@{}", entry.key, entry.modified_ms)).collect()
    }

    #[test]
    fn the_newest_counts_and_nobody_speaks_for_keys_that_he_did_not_tell() {
        let one = Page {
            keys: vec![entry("a", 1, false), entry("b", 5, true), entry("c", 1, false)],
            next: Some("c".to_owned()),
        };
        let other = Page {
            keys: vec![entry("a", 2, false), entry("b", 4, false), entry("d", 9, false)],
            next: None,
        };
        // `d` is behind what the first has told: it might hold a newer tombstone for it.
        let merged = merge(vec![one.clone(), other.clone()], None);
        assert_eq!(
            (keys(&merged), merged.until.as_deref()),
            (vec!["a@2".into(), "c@1".into()], Some("c"))
        );
        let merged = merge(vec![one, other], Some("a"));
        assert_eq!(keys(&merged), ["c@1"]);
    }

    #[test]
    fn a_page_that_cannot_be_is_not_believed() {
        let page = |keys: &[&str], next: Option<&str>| Page {
            keys: keys.iter().map(|key| entry(key, 1, false)).collect(),
            next: next.map(str::to_owned),
        };
        let is_sound = |page: Page| is_sound(&page, "p/", Some("p/b"));
        assert!(is_sound(page(&["p/c", "p/d"], None)));
        assert!(is_sound(page(&["p/c", "p/d"], Some("p/d"))));
        assert!(is_sound(page(&[], Some("p/e"))));
        assert!(!is_sound(page(&["p/d", "p/c"], None)), "out of order");
        assert!(!is_sound(page(&["p/c", "p/c"], None)), "twice");
        assert!(!is_sound(page(&["p/b"], None)), "told before");
        assert!(!is_sound(page(&["q"], None)), "shorter than the prefix, even");
        assert!(!is_sound(page(&["p/c", "p/d"], Some("p/c"))), "back in itself");
        assert!(!is_sound(page(&[], Some("p/b"))), "for ever");
    }

    #[test]
    fn common_prefixes_are_told_once_and_not_again_on_the_next_page() {
        let mut asked = Asked {
            prefix: "p/".to_owned(),
            delimiter: Some("/".to_owned()),
            after: None,
            limit: 2,
        };
        let mut listing = Listing::default();
        let entries = ["p/a", "p/b/1", "p/b/2"].map(|key| entry(key, 1, false));
        for entry in entries {
            let room = listing.lines.len() < asked.limit;
            assert!(add(&mut listing, &asked, entry, room));
        }
        assert_eq!(listing.lines.len(), 2);
        assert!(!add(&mut listing, &asked, entry("p/c", 1, false), false));
        asked.after = last(&listing);
        assert_eq!(asked.after.as_deref(), Some("p/b/\x7f"));
        let mut next = Listing::default();
        assert!(add(&mut next, &asked, entry("p/c", 1, false), true));
        assert_eq!(next.lines, [Listed::Key(entry("p/c", 1, false))]);
    }
}
