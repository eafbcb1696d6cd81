//! Where keys and virtual nodes lie on the circle.

use crate::ids::{ShardId, Token};
use crate::ring::ketama;
use crate::ring::spec::{Member, RingSpec};
use crate::ring::table::ShardIx;

// Both contexts name the version of the ring: a change of any rule in this file must change
// them, and would move every key of every pool.
const KEYS: &str = "ringway ring v1: tokens of keys";
const VNODES: &str = "ringway ring v1: tokens of virtual nodes";

/// By which rule keys and virtual nodes get their places.
#[derive(Clone)]
pub(super) enum Hashing {
    /// BLAKE3 under keys of the ring's own.
    Keyed(Keys),
    /// nginx's.
    Ketama,
}

/// The two BLAKE3 keys of one ring, derived once from its seed.
///
/// Keyed hashing costs what plain hashing costs, separates pools and the two uses of the hash,
/// and lets an operator choose a secret seed where clients might pick keys that all fall on one
/// shard.
#[derive(Clone)]
pub(super) struct Keys {
    keys: [u8; 32],
    vnodes: [u8; 32],
}

/// One point on the circle and its owner. Points with one token are ordered by their owners,
/// and owners by the bytes of their ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Vnode {
    pub(super) token: u64,
    pub(super) owner: ShardIx,
}

impl Keys {
    pub(super) fn new(hash_seed: &str) -> Self {
        Self {
            keys: blake3::derive_key(KEYS, hash_seed.as_bytes()),
            vnodes: blake3::derive_key(VNODES, hash_seed.as_bytes()),
        }
    }

    /// The place of a key: the first 8 bytes of its keyed hash, big-endian.
    #[inline]
    fn token(&self, key: &[u8]) -> Token {
        let hash = blake3::keyed_hash(&self.keys, key);
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Token(u64::from_be_bytes(*first))
    }

    /// The first `count` tokens of a shard. A larger count gives the same tokens and more.
    pub(super) fn tokens_of(&self, id: &ShardId, count: usize) -> impl Iterator<Item = u64> {
        let mut stream = vec![0; count * 8];
        blake3::Hasher::new_keyed(&self.vnodes)
            .update(id.as_str().as_bytes())
            .finalize_xof()
            .fill(&mut stream);
        (0..count).map(move |number| {
            let (bytes, _) = stream[number * 8..].split_first_chunk().expect("8 bytes a token");
            u64::from_be_bytes(*bytes)
        })
    }
}

impl Hashing {
    pub(super) fn of(spec: &RingSpec) -> Self {
        match spec.ketama {
            None => Self::Keyed(Keys::new(&spec.hash_seed)),
            Some(_) => Self::Ketama,
        }
    }

    /// The place of a key.
    #[inline]
    pub(super) fn token(&self, key: &[u8]) -> Token {
        match self {
            Self::Keyed(keys) => keys.token(key),
            Self::Ketama => ketama::token_of_key(key),
        }
    }

    /// The tokens that a member of a checked spec draws: how many, its weight says.
    pub(super) fn tokens_of(&self, spec: &RingSpec, member: &Member) -> Vec<u64> {
        let count = usize::from(spec.points_per_unit()) * usize::from(member.weight.get());
        match self {
            Self::Keyed(keys) => keys.tokens_of(&member.id, count).collect(),
            Self::Ketama => {
                let name = spec.ketama.as_ref().and_then(|names| names.get(&member.id));
                name.map(|name| ketama::tokens_of(name, count).collect()).unwrap_or_default()
            }
        }
    }

    /// All virtual nodes of a checked spec whose members are sorted by id, in no order. Where nginx
    /// drops one of two with the same token, it is not among them.
    pub(super) fn vnodes_of(&self, spec: &RingSpec) -> Vec<Vnode> {
        let mut vnodes = Vec::with_capacity(usize::try_from(spec.tokens()).unwrap_or(0));
        for (number, member) in spec.members.iter().enumerate() {
            let owner = ShardIx(u16::try_from(number).expect("members are counted by `check`"));
            let tokens = self.tokens_of(spec, member);
            vnodes.extend(tokens.into_iter().map(|token| Vnode { token, owner }));
        }
        if let Self::Ketama = self {
            vnodes.sort_unstable();
            vnodes.dedup_by_key(|vnode| vnode.token);
        }
        vnodes
    }
}

/// Sorts virtual nodes, and returns for each value of their tokens' top bits where it begins, with
/// their number at the end.
///
/// Tokens are evenly spread, so one pass that drops each into the bucket of its top bits leaves
/// next to nothing to sort, and the buckets' bounds are the index that lookups need anyway. Three
/// times as fast as a comparison sort of the whole; a seed that defeats the even spread costs
/// time, not correctness.
pub(super) fn sort_by_top_bits(vnodes: &[Vnode], bits: u32) -> (Vec<Vnode>, Vec<u32>) {
    let shift = 64 - bits;
    #[allow(clippy::cast_possible_truncation, reason = "`bits` bits are left")]
    let bucket = |vnode: &Vnode| (vnode.token >> shift) as usize;

    // First the size of each bucket, one place further up; then, summed up, its start; then, as
    // virtual nodes come in, its end, which is the next one's start.
    let mut bounds = vec![0_u32; (1 << bits) + 1];
    for vnode in vnodes {
        bounds[bucket(vnode) + 1] += 1;
    }
    let mut start = 0;
    for bound in &mut bounds {
        start += *bound;
        *bound = start;
    }
    let mut sorted = vec![Vnode { token: 0, owner: ShardIx(0) }; vnodes.len()];
    for vnode in vnodes {
        let next = &mut bounds[bucket(vnode)];
        sorted[*next as usize] = *vnode;
        *next += 1;
    }
    bounds.rotate_right(1);
    bounds[0] = 0;
    for range in bounds.windows(2) {
        let bucket = &mut sorted[range[0] as usize..range[1] as usize];
        if bucket.len() > 1 {
            bucket.sort_unstable();
        }
    }
    (sorted, bounds)
}
