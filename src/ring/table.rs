//! The ring itself: sorted tokens, an index over their top bits, and a replica set for each.

use std::fmt;

use crate::ids::{Digest, ShardId, Token};
use crate::ring::order::Order;
use crate::ring::spec::{Member, RingError, RingSpec};
use crate::ring::spread;
use crate::ring::vnodes::{Hashing, Vnode, sort_by_top_bits};

/// A shard's index among the members of one ring, sorted by id. It means nothing to another ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardIx(pub u16);

/// The token ring of one pool at one epoch. Immutable; built whole, read without a lock.
#[derive(Clone)]
pub struct Ring {
    hashing: Hashing,
    /// As given, but with its members sorted by id.
    spec: RingSpec,
    /// Members that have a virtual node: those with a weight above 0, unless nginx drops all of
    /// one's.
    owners: usize,
    /// The virtual nodes' tokens in ascending order. Lookups need them about once in 1000.
    tokens: Box<[u64]>,
    /// One bucket for each value of a token's top bits, and an empty one after the last.
    buckets: Box<[Bucket]>,
    /// 64 less the number of top bits.
    shift: u32,
    /// `replicas` shards for each virtual node, the owner first; after the last those of the
    /// first once more, for the tokens above all virtual nodes.
    sets: Box<[ShardIx]>,
}

/// The virtual nodes of which the tokens begin with the same bits.
///
/// Sixteen bytes, so that a bucket is one cache line's touch and a lookup two: its bucket, and
/// the replica set. What lies further apart costs more than what is computed here.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Bucket {
    /// The first virtual node at or above the bucket's beginning.
    start: u32,
    /// The 16 bits that follow the top bits, of the first few of its virtual nodes in ascending
    /// order; all ones where there is none.
    fragments: [u16; FRAGMENTS],
}

/// Fragments in a bucket. With one or two virtual nodes to a bucket, about one lookup in 1000
/// finds more below it and must look at whole tokens.
const FRAGMENTS: usize = 6;

impl Ring {
    /// Builds the ring of `spec`. At 1000 shards of 256 virtual nodes this takes about 10 ms and
    /// leaves 5.5 MiB.
    ///
    /// # Errors
    /// [`RingError`] when [`RingSpec::check`] refuses the spec.
    pub fn build(spec: &RingSpec) -> Result<Ring, RingError> {
        spec.check()?;
        let mut spec = spec.clone();
        spec.members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let hashing = Hashing::of(&spec);
        let vnodes = hashing.vnodes_of(&spec);
        Ok(Self::of_vnodes(spec, hashing, &vnodes))
    }

    /// The ring of a checked spec with sorted members, over the given points of the circle.
    pub(super) fn of_vnodes(spec: RingSpec, hashing: Hashing, vnodes: &[Vnode]) -> Ring {
        // One or two virtual nodes to a bucket.
        let bits = (vnodes.len() as u64).next_power_of_two().ilog2().saturating_sub(1).max(1);
        let shift = u64::BITS - bits;
        let (sorted, starts) = sort_by_top_bits(vnodes, bits);
        let bucket = |(number, &start): (usize, &u32)| {
            let mut fragments = [u16::MAX; FRAGMENTS];
            let end = starts.get(number + 1).map_or(start, |&next| next);
            for (place, vnode) in fragments.iter_mut().zip(&sorted[start as usize..end as usize]) {
                *place = fragment_of(vnode.token, shift);
            }
            Bucket { start, fragments }
        };
        Ring {
            hashing,
            owners: owners_of(&spec, vnodes),
            tokens: sorted.iter().map(|vnode| vnode.token).collect(),
            buckets: starts.iter().enumerate().map(bucket).collect(),
            shift,
            sets: spread::replica_sets(&spec, &sorted).into_boxed_slice(),
            spec,
        }
    }

    /// The token of a key: where on the circle it lies.
    #[inline]
    #[must_use]
    pub fn token(&self, key: &[u8]) -> Token {
        self.hashing.token(key)
    }

    /// The shards that hold a token, the primary first.
    #[inline]
    #[must_use]
    pub fn replicas(&self, token: Token) -> &[ShardIx] {
        self.set(self.position(token))
    }

    /// All shards that own anything, each once, in the order in which they are to be tried for a
    /// token: its replica set, then the others as they are met on the ring. Zones play no part
    /// beyond the replica set, and shards of weight 0 are not in it.
    #[must_use]
    pub fn order(&self, token: Token) -> Order<'_> {
        Order::new(self, self.position(token))
    }

    /// The members, sorted by id: what a [`ShardIx`] points into.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.spec.members
    }

    /// The member at `shard`.
    ///
    /// # Panics
    /// When `shard` comes from a ring with more members.
    #[must_use]
    pub fn member(&self, shard: ShardIx) -> &Member {
        &self.spec.members[usize::from(shard.0)]
    }

    /// The index of a member, if it is one.
    #[must_use]
    pub fn find(&self, id: &ShardId) -> Option<ShardIx> {
        let at = self.members().binary_search_by(|member| member.id.cmp(id)).ok()?;
        u16::try_from(at).ok().map(ShardIx)
    }

    /// What the ring was built from, its members sorted by id.
    #[must_use]
    pub fn spec(&self) -> &RingSpec {
        &self.spec
    }

    /// Members that own anything: how many shards [`Ring::order`] yields.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.owners
    }

    /// Points of nginx's circle that two members drew: who keeps each, and who does not. None on a
    /// token ring, where nothing is dropped. Computed anew at each call.
    #[must_use]
    pub fn shared_points(&self) -> Vec<(ShardId, ShardId)> {
        let Hashing::Ketama = self.hashing else { return Vec::new() };
        let mut shared = Vec::new();
        for member in self.members() {
            for token in self.hashing.tokens_of(&self.spec, member) {
                let keeper = self.member(self.owner_at(self.position(Token(token))));
                if keeper.id != member.id {
                    shared.push((keeper.id.clone(), member.id.clone()));
                }
            }
        }
        shared
    }

    /// Bytes held by the tables.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.tokens) + size_of_val(&*self.buckets) + size_of_val(&*self.sets)
    }

    /// The digest of [`RingSpec::deciding`] and of everything made from it: nodes with equal digests
    /// send every key to the same shards. Computed anew at each call (about 3 ms for a large ring).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(match self.spec.ketama {
            None => "ringway ring v1: digest",
            Some(_) => "ringway ketama v1: digest",
        });
        let mut bytes = Vec::new();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        let deciding = self.spec.deciding();
        text(&mut bytes, &deciding.hash_seed);
        bytes.extend(deciding.vnodes.to_be_bytes());
        bytes.push(deciding.replicas);
        bytes.extend((deciding.members.len() as u64).to_be_bytes());
        for member in &deciding.members {
            text(&mut bytes, member.id.as_str());
            text(&mut bytes, member.zone.as_str());
            bytes.extend(member.weight.get().to_be_bytes());
            if let Some(name) = deciding.ketama.as_ref().and_then(|names| names.get(&member.id)) {
                text(&mut bytes, name.as_str());
            }
        }
        // A shard is named by its place among those that own anything, so that one that owns
        // nothing leaves no trace.
        let mut owner: u16 = 0;
        let places: Vec<[u8; 2]> = (self.spec.members.iter())
            .map(|member| {
                let place = owner.to_be_bytes();
                owner += u16::from(member.weight.get() > 0);
                place
            })
            .collect();
        for position in 0..self.vnodes() {
            bytes.extend(self.token_at(position).to_be_bytes());
            bytes.extend(self.set(position).iter().flat_map(|shard| places[usize::from(shard.0)]));
            if bytes.len() >= 64 * 1024 {
                hasher.update(&bytes);
                bytes.clear();
            }
        }
        hasher.update(&bytes);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Number of virtual nodes.
    pub(super) fn vnodes(&self) -> usize {
        self.tokens.len()
    }

    /// The token of the virtual node at `position`, which is below [`Ring::vnodes`].
    pub(super) fn token_at(&self, position: usize) -> u64 {
        self.tokens[position]
    }

    /// The owner of the virtual node at `position`, or of the first one after the last.
    pub(super) fn owner_at(&self, position: usize) -> ShardIx {
        self.set(position)[0]
    }

    pub(super) fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    /// The number of virtual nodes below `token`: the position of the one that it belongs to, or
    /// one past the last, where the first one's row stands once more.
    #[inline]
    pub(super) fn position(&self, token: Token) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "at most 22 bits are left")]
        let number = (token.0 >> self.shift) as usize;
        let Bucket { start, fragments } = &self.buckets[number];
        let fragment = fragment_of(token.0, self.shift);
        // A search that stops at the right one is mispredicted every other time. Counting is not.
        let below = fragments.iter().map(|&other| u16::from(other < fragment)).sum::<u16>();
        match fragments.get(usize::from(below)) {
            Some(&next) if next != fragment => *start as usize + usize::from(below),
            _ => self.position_by_token(token, number),
        }
    }

    /// The same where fragments do not tell: the token shares its fragment with a virtual node's,
    /// or there are more virtual nodes below it than the bucket shows.
    #[cold]
    fn position_by_token(&self, token: Token, number: usize) -> usize {
        let start = self.buckets[number].start as usize;
        let end = self.buckets[number + 1].start as usize;
        start + self.tokens[start..end].partition_point(|&vnode| vnode < token.0)
    }

    /// The replica set of the virtual node at `position`, or of the first one after the last.
    #[inline]
    pub(super) fn set(&self, position: usize) -> &[ShardIx] {
        let width = usize::from(self.spec.replicas);
        &self.sets[position * width..][..width]
    }
}

fn owners_of(spec: &RingSpec, vnodes: &[Vnode]) -> usize {
    let mut owns = vec![false; spec.members.len()];
    vnodes.iter().for_each(|vnode| owns[usize::from(vnode.owner.0)] = true);
    owns.into_iter().filter(|owns| *owns).count()
}

/// The 16 bits of a token that follow its top bits.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the top bits are left out on purpose")]
fn fragment_of(token: u64, shift: u32) -> u16 {
    // At most 21 top bits, for at most 2^22 tokens, leave 43 to take them from.
    (token >> (shift - u16::BITS)) as u16
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("spec", &self.spec)
            .field("vnodes", &self.vnodes())
            .finish_non_exhaustive()
    }
}
