//! Which writes has a replica missed, as far as this node knows?
//!
//! A [`Hint`] names one write that a shard did not take: pool, shard, key, version. It bears no
//! body. Whoever replays it copies the named version, or a newer one, from a replica that has it;
//! so a thousand writes of one key while its shard was away cost one copy, and a hint can be
//! neither wrong nor out of date, only superfluous. (Dynamo keeps the body with the hint, and so
//! needs a place for it on a node that may have little: DeCandia et al., *Dynamo*, 2007, 4.6.)
//!
//! [`HintBook`] is the bounded list of them. Invariants:
//! 1. For one key of one shard it holds one hint, that of the newest version.
//! 2. It never holds more than its limit. A shard of which a hint was refused is *overflowed*
//!    until a full comparison has settled it: then its hints alone do not bring it up to date.
//! 3. A hint is dropped only when its shard is known to hold that version or newer, or nobody has
//!    it; never because time has passed.
//!
//! Not done here: making hints durable (`disk::hints`), replaying them (`background`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{PoolName, ShardId, Token};
use crate::version::{Stamp, Version};

/// One write that a shard did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The pool.
    pub pool: PoolName,
    /// Who missed it.
    pub shard: ShardId,
    /// The key, as stores name it.
    pub key: Arc<[u8]>,
    /// Where the key is on the circle.
    pub token: Token,
    /// What it missed.
    pub version: Version,
}

/// What became of a hint that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The book has one more.
    New,
    /// There was one for an older version of the key; now it names this one.
    Newer,
    /// There is one for this version or a newer one.
    Known,
    /// There is no room: the shard is overflowed.
    Refused,
}

/// What one shard has yet to be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// How many keys.
    pub count: usize,
    /// When the write that was missed first was stamped; `None` without any.
    pub oldest: Option<Stamp>,
    /// Whether hints were refused, so that it may have missed more.
    pub overflowed: bool,
}

/// Hints, in the order in which they came.
#[derive(Debug, Clone)]
pub struct HintBook {
    hints_max: usize,
    count: usize,
    next_place: u64,
    queues: BTreeMap<(PoolName, ShardId), Queue>,
}

/// Those of one shard.
#[derive(Debug, Clone, Default)]
struct Queue {
    by_key: BTreeMap<Arc<[u8]>, Held>,
    /// The keys by their places.
    order: BTreeMap<u64, Arc<[u8]>>,
    overflowed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    place: u64,
    token: Token,
    version: Version,
    /// The stamp of the first version that was missed.
    since: Stamp,
}

impl HintBook {
    /// An empty book for at most `hints_max` hints.
    #[must_use]
    pub fn new(hints_max: usize) -> Self {
        Self { hints_max, count: 0, next_place: 0, queues: BTreeMap::new() }
    }

    /// How many hints there are, of all shards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nobody has missed anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Takes a hint in.
    pub fn add(&mut self, hint: Hint) -> Added {
        let Hint { pool, shard, key, token, version } = hint;
        let queue = self.queues.entry((pool, shard)).or_default();
        if let Some(held) = queue.by_key.get_mut(&key) {
            if held.version >= version {
                return Added::Known;
            }
            held.version = version;
            return Added::Newer;
        }
        if self.count >= self.hints_max {
            queue.overflowed = true;
            return Added::Refused;
        }
        let held = Held { place: self.next_place, token, version, since: version.stamp };
        self.next_place += 1;
        self.count += 1;
        queue.order.insert(held.place, Arc::clone(&key));
        queue.by_key.insert(key, held);
        Added::New
    }

    /// Notes that a shard has missed what no hint names.
    pub fn overflow(&mut self, pool: &PoolName, shard: &ShardId) {
        self.queues.entry((pool.clone(), shard.clone())).or_default().overflowed = true;
    }

    /// Drops the hint for a key, if what it names is no newer than `version`. Says whether it did.
    pub fn settle(
        &mut self,
        pool: &PoolName,
        shard: &ShardId,
        key: &[u8],
        version: Version,
    ) -> bool {
        let place = (pool.clone(), shard.clone());
        let Some(queue) = self.queues.get_mut(&place) else { return false };
        let Some(held) = queue.by_key.get(key).filter(|held| held.version <= version) else {
            return false;
        };
        queue.order.remove(&held.place);
        queue.by_key.remove(key);
        self.count -= 1;
        if queue.by_key.is_empty() && !queue.overflowed {
            self.queues.remove(&place);
        }
        true
    }

    /// Notes that a full comparison, begun after the last refusal, has brought the shard up to
    /// date. Its hints stay: each is settled by itself.
    pub fn compared(&mut self, pool: &PoolName, shard: &ShardId) {
        let place = (pool.clone(), shard.clone());
        let Some(queue) = self.queues.get_mut(&place) else { return };
        queue.overflowed = false;
        if queue.by_key.is_empty() {
            self.queues.remove(&place);
        }
    }

    /// Drops all hints for a shard that is no more.
    pub fn forget(&mut self, pool: &PoolName, shard: &ShardId) {
        if let Some(queue) = self.queues.remove(&(pool.clone(), shard.clone())) {
            self.count -= queue.by_key.len();
        }
    }

    /// At most `limit` hints for a shard in the order in which they came, from the place `from`
    /// on; each with its place.
    #[must_use]
    pub fn batch(
        &self,
        pool: &PoolName,
        shard: &ShardId,
        from: u64,
        limit: usize,
    ) -> Vec<(u64, Hint)> {
        let Some(queue) = self.queues.get(&(pool.clone(), shard.clone())) else {
            return Vec::new();
        };
        let hints = queue.order.range(from..).take(limit).map(|(place, key)| {
            let held = queue.by_key[key];
            let (pool, shard) = (pool.clone(), shard.clone());
            let key = Arc::clone(key);
            (*place, Hint { pool, shard, key, token: held.token, version: held.version })
        });
        hints.collect()
    }

    /// Who has missed what.
    pub fn pending(&self) -> impl Iterator<Item = (&PoolName, &ShardId, Pending)> {
        self.queues.iter().map(|((pool, shard), queue)| {
            let first = queue.order.values().next().map(|key| queue.by_key[key].since);
            let count = queue.by_key.len();
            (pool, shard, Pending { count, oldest: first, overflowed: queue.overflowed })
        })
    }

    /// What one shard has missed.
    #[must_use]
    pub fn pending_of(&self, pool: &PoolName, shard: &ShardId) -> Pending {
        let mut all = self.pending();
        let found = all.find(|(own_pool, own, _)| *own_pool == pool && *own == shard);
        found.map(|(.., pending)| pending).unwrap_or_default()
    }

    /// Every hint, in the order in which they came.
    #[must_use]
    pub fn all(&self) -> Vec<Hint> {
        let mut all: Vec<(u64, Hint)> = self
            .queues
            .keys()
            .flat_map(|(pool, shard)| self.batch(pool, shard, 0, usize::MAX))
            .collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, hint)| hint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    fn pool() -> PoolName {
        PoolName::new("p").expect("a name")
    }

    fn shard(name: &str) -> ShardId {
        ShardId::new(name).expect("a name")
    }

    fn version(stamp: u64) -> Version {
        Version { stamp: Stamp(stamp), ..Version::NONE }
    }

    fn hint(of: &str, key: &str, stamp: u64) -> Hint {
        let key = Arc::from(key.as_bytes());
        Hint { pool: pool(), shard: shard(of), key, token: Token(1), version: version(stamp) }
    }

    #[test]
    fn a_key_that_was_missed_often_is_copied_once() {
        let mut book = HintBook::new(10);
        assert_eq!(book.add(hint("a", "k", 5)), Added::New);
        assert_eq!(book.add(hint("a", "k", 9)), Added::Newer);
        assert_eq!(book.add(hint("a", "k", 7)), Added::Known);
        let pending = book.pending_of(&pool(), &shard("a"));
        assert_eq!((pending.count, pending.oldest), (1, Some(Stamp(5))), "waiting since the first");
        assert!(!book.settle(&pool(), &shard("a"), b"k", version(8)), "it misses a newer one");
        assert!(book.settle(&pool(), &shard("a"), b"k", version(9)));
        assert!(book.is_empty());
    }

    #[test]
    fn a_full_book_says_whom_it_fails() {
        let mut book = HintBook::new(1);
        book.add(hint("a", "k", 1));
        assert_eq!(book.add(hint("b", "l", 1)), Added::Refused);
        assert!(book.pending_of(&pool(), &shard("b")).overflowed);
        assert!(!book.pending_of(&pool(), &shard("a")).overflowed);
        // What is there can still become newer.
        assert_eq!(book.add(hint("a", "k", 2)), Added::Newer);
        book.settle(&pool(), &shard("a"), b"k", version(2));
        assert!(book.pending_of(&pool(), &shard("b")).overflowed, "room alone heals nobody");
        book.compared(&pool(), &shard("b"));
        assert!(book.is_empty());
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(
            steps in prop::collection::vec((0u8..8, 0usize..2, 0usize..5, 0u64..20), 0..200)
        ) {
            const HINTS_MAX: usize = 6;
            let mut book = HintBook::new(HINTS_MAX);
            // (shard, key, version), in order of first arrival; and who is overflowed.
            let mut naive: Vec<(usize, usize, u64)> = Vec::new();
            let mut overflowed = [false; 2];
            let shards = [shard("a"), shard("b")];
            let keys = ["k", "l", "m", "n", "o"];
            for (what, s, k, v) in steps {
                match what {
                    0..4 => {
                        let added = book.add(hint(shards[s].as_str(), keys[k], v));
                        let full = naive.len() == HINTS_MAX;
                        let known = naive.iter_mut().find(|h| h.0 == s && h.1 == k);
                        let meant = match known {
                            Some(held) if held.2 >= v => Added::Known,
                            Some(held) => {
                                held.2 = v;
                                Added::Newer
                            }
                            None if full => {
                                overflowed[s] = true;
                                Added::Refused
                            }
                            None => {
                                naive.push((s, k, v));
                                Added::New
                            }
                        };
                        prop_assert_eq!(added, meant);
                    }
                    4..6 => {
                        let settled = book.settle(&pool(), &shards[s], keys[k].as_bytes(), version(v));
                        let before = naive.len();
                        naive.retain(|h| !(h.0 == s && h.1 == k && h.2 <= v));
                        prop_assert_eq!(settled, naive.len() < before);
                    }
                    6 => {
                        book.compared(&pool(), &shards[s]);
                        overflowed[s] = false;
                    }
                    _ => {
                        book.forget(&pool(), &shards[s]);
                        naive.retain(|h| h.0 != s);
                        overflowed[s] = false;
                    }
                }
                prop_assert_eq!(book.len(), naive.len());
                let all: Vec<_> = book.all().into_iter().map(|h| (h.shard, h.key.to_vec(), h.version)).collect();
                let meant: Vec<_> = naive
                    .iter()
                    .map(|(s, k, v)| (shards[*s].clone(), keys[*k].as_bytes().to_vec(), version(*v)))
                    .collect();
                prop_assert_eq!(all, meant);
                for (at, id) in shards.iter().enumerate() {
                    let pending = book.pending_of(&pool(), id);
                    prop_assert_eq!(pending.count, naive.iter().filter(|h| h.0 == at).count());
                    prop_assert_eq!(pending.overflowed, overflowed[at]);
                }
                prop_assert_eq!(book.is_empty(), naive.is_empty() && overflowed == [false; 2]);
            }
        }
    }
}
