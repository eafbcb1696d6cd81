//! Where nginx's `hash KEY consistent` has keys and servers.
//!
//! Who puts Ringway where nginx stands should find every key where it was. So this follows
//! `ngx_http_upstream_hash_module.c` bit for bit (and with it `Cache::Memcached::Fast` and
//! pingora-ketama):
//!
//! - the circle has 2^32 points; a key lies at the CRC-32 (IEEE) of its bytes;
//! - a server has 160 points per unit of weight. Each is the CRC-32 of `HOST`, a zero byte, `PORT`
//!   and the four bytes, least first, of the point before it, which for the first one are zero.
//!   `HOST` and `PORT` are the word after `server` in nginx's file taken apart
//!   ([`KetamaName::host_and_port`]), so `10.0.0.1` and `10.0.0.1:80` are different servers;
//! - of points with one value all but one are dropped, and a key belongs to the first point at or
//!   above its own value, or else to the lowest of all.
//!
//! Here a point is the token of which it is the upper half. So the ring's own index finds it, and a
//! lookup costs what it costs on a token ring; all that is said of rings (shares, moves, what is
//! next) holds as it is.
//!
//! # Where servers share a point
//!
//! nginx sorts by the points alone, with the C library's `qsort`, which is stable in glibc: the
//! server that stands first in the file keeps the point. Here it is the one whose id sorts first.
//! Ids that sort as the servers stand in nginx's file make it the same one. It matters to few: of n
//! points in all about n² / 2^33 are shared, one pair at 600 servers of weight 1, and each has a
//! n-th of the keys.
//!
//! # When the owner is down
//!
//! nginx goes on from point to point until it meets a server that it may use; that is
//! [`Ring::order`](super::Ring::order). (After 20 points without one, releases before 1.27 turn to
//! round robin for this request, which no two of its workers do alike; we go on.)
//!
//! # Which bytes are the key
//!
//! The ring hashes what the route's key rule gives it. That is what nginx hashes for
//!
//! | nginx | Ringway | as long as |
//! |---|---|---|
//! | `$request_uri` | `key: { path: whole }` | requests have no query, and their paths are canonical (see `key`): no escape of a plain character, hex digits of escapes in upper case |
//! | `$uri` | `key: { path: whole }` | paths have no escapes at all, no `//` (which `merge_slashes` removes) and are not rewritten |
//! | `$arg_NAME` | `key: { query: NAME }` | values are canonical |
//! | `$http_NAME`, `$cookie_NAME` | `key: { header: NAME }`, `key: { cookie: NAME }` | they are there once |
//!
//! # How it is proven
//!
//! `tests/vectors/ketama.py` runs an nginx whose servers say who they are, asks it for 10 000 keys
//! under each of several sets of servers (equal weights, unequal ones, names with and without a
//! port, IPv6, sockets, one server down) and writes the answers to `tests/vectors/ketama.txt`; the
//! tests compare all of them. They were taken from nginx 1.22.1 of Debian 12. pingora-ketama serves
//! as a second witness, for random servers and weights.

use crate::ids::{KetamaName, Token};

/// The token of a key.
#[inline]
pub(super) fn token_of_key(key: &[u8]) -> Token {
    Token(token_at(crc32fast::hash(key)))
}

/// The tokens of the first `count` points of a server, in the order in which they follow from each
/// other. There may be the same one twice.
pub(super) fn tokens_of(name: &KetamaName, count: usize) -> impl Iterator<Item = u64> {
    let (host, port) = name.host_and_port();
    let mut base = crc32fast::Hasher::new();
    base.update(host.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let mut last: u32 = 0;
    std::iter::repeat_with(move || {
        let mut next = base.clone();
        next.update(&last.to_le_bytes());
        last = next.finalize();
        token_at(last)
    })
    .take(count)
}

fn token_at(point: u32) -> u64 {
    u64::from(point) << u32::BITS
}

#[cfg(test)]
mod tests;
