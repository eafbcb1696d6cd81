//! What do a node and a native store say to each other about a replica?
//!
//! The words of the replica protocol, shared by both sides: who asks is `drivers`, who answers is
//! `store`, by the rules of [`holding`](super::holding). HTTP/1.1, all of it under [`words::PREFIX`]`POOL/`, `KEY` being the canonical path
//! after its first `/`, escapes kept. A node speaks it only to the store that a shard is bound to,
//! and the store only to nodes of the cluster that the pool is bound to:
//!
//! | field | of a request | of an answer |
//! | --- | --- | --- |
//! | `Ringway-Cluster` | the cluster's id, or that of a node without one | |
//! | `Ringway-Birth` | the pool's [`Birth`](crate::ids::Birth) | |
//! | `Ringway-Epoch` | the pool's [`PoolEpoch`] that the node acts by | with `stale-epoch`: the highest that the store was told |
//! | `Ringway-Store` | the store that the shard is bound to | the one that answers, always |
//! | `Ringway-Error` | | of every refusal: its [`Refusal`] or another word |
//!
//! `state` needs the first alone, `bind` the first two and `Ringway-Shard`; all else needs all of
//! them. Further fields are `Ringway-Token` wherever a key is named, and:
//!
//! | request | further fields | answer |
//! | --- | --- | --- |
//! | `PUT stage/KEY` | `-Stage`, kept fields; body | 200: `-Version`, the newest held for the key: its value's, its tombstone's, its slot's watermark, or [`Version::NONE`](crate::version::Version::NONE) |
//! | `POST commit/KEY` | `-Stage`, `-Version` | 200: `-Version`, the newest held now, `-Applied: yes`, `no` or `forgotten`; 404 `not-staged` |
//! | `DELETE stage/KEY` | `-Stage` | 204 |
//! | `PUT value/KEY` | `-Version`, kept fields, perhaps `-Modified`, `-Digest`; body | as `commit`, never `not-staged`; 422 `other-bytes` |
//! | `DELETE value/KEY` | `-Version` | likewise |
//! | `POST damaged/KEY` | `-Version`, `-Size`, `-Digest`, perhaps `-Modified` | as `commit`, never `not-staged`: the store holds a value of this version whose bytes it does not have, unless it holds that very value, or newer |
//! | `HEAD value/KEY` | | 200: `-Version`, `-Size`, `-Digest`, `-Modified`, kept fields; 404 with `-Version`, and for a tombstone `-Tombstone: yes`; 500 `damaged` with `-Version` |
//! | `GET value/KEY` | perhaps `Range`, `If-Version` | 200, 206 as `HEAD` with the bytes; 404, 500 as `HEAD`; 412 with the `-Version` that is held; 416 |
//! | `GET keys?from=&to=&cursor=&limit=` | | [`Page`] of the tokens `from` to `to`, both included, by token and key |
//! | `GET list?prefix=&after=&limit=` | | [`Page`] by key; its `next` is the key to be given as `after` |
//! | `GET tombstones?before=&cursor=&limit=` | | [`Page`] of the tombstones written at `before` (Unix time, ms) or earlier |
//! | `GET digests?from=&count=&fold=` | | [`Sum`]s of slots, `fold` slots in each, [`SUM_BYTES`] each |
//! | `GET watermarks?from=&count=` | | [`Watermarks`] that slots have; those without one are left out |
//! | `POST watermark?slot=` | perhaps `-Version`; lines `KEY VERSION` | 200 [`Dropped`]: the slot's watermark is at least the greatest of these, and each named tombstone that was still that one is gone |
//! | `GET state` | | [`State`] |
//! | `POST bind` | `-Shard` | 200: the pool belongs to this cluster, the store to this shard of it. What the store kept of a pool of this name that was born earlier is out of reach from here on, and dropped |
//!
//! A key or a prefix in a query is percent-encoded once more. What is damaged stands in pages as such
//! and is a term of its own in the sums, so that comparing tells it from the value and from nothing; a
//! put of the same version replaces it.
//!
//! Invariants:
//! 1. What is answered with `-Applied: yes` is durable, and with `no` something newer is: both are
//!    acknowledgements. `forgotten` says that neither is so, and never will be: the key's slot has a
//!    watermark at or above the version.
//! 2. A refusal other than [`Refusal::Unknown`] has changed nothing.
//! 3. A watermark may be raised only while all replicas of the slot are equal: whatever of a slot a
//!    replica lacks at or under its watermark, nobody can bring it.
//! 4. Nothing of a pool is read or written by who means another of its name: what was born earlier or
//!    later is refused, before epochs are compared.

mod id;
mod pages;
mod sum;
#[cfg(test)]
mod tests;
pub mod words;

pub use id::{FormError, PoolEpoch, StageId, parse_token};
pub use pages::{Bound, Dropped, Entry, Page, State, Watermark, Watermarks};
pub use sum::{SLOTS, SUM_BYTES, Sum, slot_of};
pub use words::{Op, Refusal, Target};
