//! Which fields of a value are kept with it?
//!
//! Those that describe the content and its caching, and `X-Meta-*` for the client's own: what
//! [`store`](crate::store) keeps. What a client sends beside them goes no further than the proxy.

const KEPT: [&str; 6] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
];

const OWN_PREFIX: &[u8] = b"x-meta-";

/// Bytes of names and values of all kept fields of one value; a store refuses more.
pub const KEPT_BYTES_MAX: usize = 8 * 1024;

/// Bytes of one name; a store refuses more.
pub const KEPT_NAME_BYTES_MAX: usize = 255;

/// Whether a field of this name is kept with the value.
#[must_use]
pub fn is_kept(name: &[u8]) -> bool {
    let is_own =
        name.len() >= OWN_PREFIX.len() && name[..OWN_PREFIX.len()].eq_ignore_ascii_case(OWN_PREFIX);
    is_own || KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
}
