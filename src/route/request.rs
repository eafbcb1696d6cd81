//! What does a route need to know of a request?

/// The fields of one request.
///
/// A trait, and not a map, because the proxy keeps a head as it came and looks a name up only
/// when a route asks for it; tests and `ringway locate` have lists.
pub trait Fields {
    /// The value of the `nth` field (from 0) of that name in the order of the head, without the
    /// white space around it. `name` is in lower case; the fields' own case does not matter.
    fn nth(&self, name: &str, nth: usize) -> Option<&[u8]>;
}

/// No fields at all.
impl Fields for () {
    fn nth(&self, _name: &str, _nth: usize) -> Option<&[u8]> {
        None
    }
}

impl Fields for Vec<(String, Vec<u8>)> {
    fn nth(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let mut named = self.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.nth(nth).map(|(_, value)| value.as_slice())
    }
}

/// The parts of a request that routes and key rules look at, all borrowed.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method as it was sent.
    pub method: &'a [u8],
    /// The authority in lower case without its port; an IPv6 address has its brackets. Empty when
    /// the request names none, as HTTP/1.0 may.
    pub host: &'a [u8],
    /// The path in canonical escaped form, without the query; begins with `/`.
    pub path: &'a [u8],
    /// What stands after `?`, as it was sent.
    pub query: Option<&'a [u8]>,
    /// The fields of the head.
    pub fields: &'a dyn Fields,
}
