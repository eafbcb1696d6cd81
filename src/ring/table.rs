//! The ring itself: sorted tokens, an index over their top bits, and a replica set for each.

use std::fmt;
use std::ops::Range;

use crate::ids::{Digest, Token};
use crate::ring::order::Order;
use crate::ring::spec::{Member, RingError, RingSpec};
use crate::ring::spread;
use crate::ring::vnodes::{Hashing, Vnode, sort_by_top_bits};

/// A shard's index among the members of one ring, sorted by id. It means nothing to another ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardIx(pub u16);

/// Rows that a lookup compares without a branch.
const LOOK: usize = 8;

/// The token ring of one pool at one epoch. Immutable; built whole, read without a lock.
#[derive(Clone)]
pub struct Ring {
    hashing: Hashing,
    /// As given, but with its members sorted by id.
    spec: RingSpec,
    /// Members with a weight above 0.
    owners: usize,
    /// The virtual nodes' tokens in ascending order. Lookups need them about once in 10 000.
    tokens: Box<[u64]>,
    heads: Box<[u32]>,
    /// For each value of a token's top bits the first virtual node at or above it, and at the end
    /// the number of virtual nodes.
    index: Box<[u32]>,
    /// 64 less the number of top bits.
    shift: u32,
    /// A row of 1 + `replicas` words for each virtual node: the 16 bits of its token that follow
    /// the top bits, then its replica set, the owner first. After the last virtual node the row
    /// of the first once more, for the tokens above all of them, and then as many rows as a
    /// lookup may touch in passing.
    ///
    /// The fragment stands in the type of its neighbours so that a set can be lent as a slice;
    /// [`Ring::fragment`] and [`Ring::set`] keep the two apart.
    rows: Box<[ShardIx]>,
}

impl Ring {
    /// Builds the ring of `spec`. At 1000 shards of 256 virtual nodes this takes about 10 ms and
    /// leaves 4.5 MiB.
    ///
    /// # Errors
    /// [`RingError`] when [`RingSpec::check`] refuses the spec.
    pub fn build(spec: &RingSpec) -> Result<Ring, RingError> {
        spec.check()?;
        let mut spec = spec.clone();
        spec.members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let hashing = Hashing::new(&spec.hash_seed);
        let vnodes = hashing.vnodes_of(&spec);
        Ok(Self::of_vnodes(spec, hashing, &vnodes))
    }

    /// The ring of a checked spec with sorted members, over the given points of the circle.
    pub(super) fn of_vnodes(spec: RingSpec, hashing: Hashing, vnodes: &[Vnode]) -> Ring {
        // One or two virtual nodes to a bucket. A finer index would leave fewer to look at, but
        // not stay in the cache beside the rows.
        let bits = (vnodes.len() as u64).next_power_of_two().ilog2().saturating_sub(2).max(1);
        let shift = u64::BITS - bits;
        let (sorted, index) = sort_by_top_bits(vnodes, bits);

        let stride = usize::from(spec.replicas);
        let mut rows = vec![ShardIx(0); (sorted.len() + 1 + LOOK) * stride];
        let (of_vnodes, after) = rows.split_at_mut(sorted.len() * stride);
        for (vnode, row) in sorted.iter().zip(of_vnodes.chunks_exact_mut(stride)) {
            let _ = (vnode, row);
        }
        spread::fill(&spec, &sorted, of_vnodes);
        after.fill(ShardIx(u16::MAX));
        after[..stride].copy_from_slice(&of_vnodes[..stride]);
        Ring {
            hashing,
            owners: spec.members.iter().filter(|member| member.weight.get() > 0).count(),
            spec,
            tokens: sorted.iter().map(|vnode| vnode.token).collect(),
            heads: sorted
                .iter()
                .map(|vnode| (vnode.token >> 32) as u32)
                .chain(std::iter::repeat_n(u32::MAX, LOOK + 1))
                .collect(),
            index: index.into_boxed_slice(),
            shift,
            rows: rows.into_boxed_slice(),
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

    /// What the ring was built from, its members sorted by id.
    #[must_use]
    pub fn spec(&self) -> &RingSpec {
        &self.spec
    }

    /// Members with a weight above 0: how many shards [`Ring::order`] yields.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.owners
    }

    /// Bytes held by the tables.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.tokens) + size_of_val(&*self.index) + size_of_val(&*self.rows)
    }

    /// The digest of the spec and of everything made from it: nodes with equal digests send every
    /// key to the same shards. Computed anew at each call (about 3 ms for a large ring).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("ringway ring v1: digest");
        let mut bytes = Vec::new();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&mut bytes, &self.spec.hash_seed);
        bytes.extend(self.spec.vnodes.to_be_bytes());
        bytes.push(self.spec.replicas);
        bytes.extend((self.spec.members.len() as u64).to_be_bytes());
        for member in &self.spec.members {
            text(&mut bytes, member.id.as_str());
            text(&mut bytes, member.zone.as_str());
            bytes.extend(member.weight.get().to_be_bytes());
        }
        for position in 0..self.vnodes() {
            bytes.extend(self.token_at(position).to_be_bytes());
            bytes.extend(self.set(position).iter().flat_map(|shard| shard.0.to_be_bytes()));
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
        let bucket = (token.0 >> self.shift) as usize;
        let start = self.index[bucket] as usize;
        let fragment = (token.0 >> 32) as u32;
        let near: &[u32; LOOK] = self.heads[start..].first_chunk().expect("x");
        let below = near.iter().map(|&h| usize::from(h < fragment)).sum::<usize>();
        if self.heads[start + below] <= fragment {
            return self.position_within(token, start..self.index[bucket + 1] as usize);
        }
        start + below
    }

    /// The same where fragments do not tell: the token shares its fragment with a virtual node's,
    /// or the bucket holds more than `LOOK` virtual nodes below it.
    #[cold]
    fn position_within(&self, token: Token, bucket: Range<usize>) -> usize {
        bucket.start + self.tokens[bucket].partition_point(|&vnode| vnode < token.0)
    }

    #[inline]
    fn stride(&self) -> usize {
        usize::from(self.spec.replicas)
    }

    #[inline]
    fn fragment(&self, position: usize) -> u16 {
        self.rows[position * self.stride()].0
    }

    /// The replica set of the virtual node at `position`, or of the first one after the last.
    #[inline]
    pub(super) fn set(&self, position: usize) -> &[ShardIx] {
        let stride = self.stride();
        &self.rows[position * stride..(position + 1) * stride]
    }
}

/// The 16 bits of a token that follow its top bits.
#[inline]
fn fragment_of(token: u64, shift: u32) -> u16 {
    // At most 22 top bits, for at most 2^22 tokens, leave 42 to take them from.
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
