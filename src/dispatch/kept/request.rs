//! What does `proxy` ask of a pool that keeps copies?

use std::rc::Rc;

use super::super::trace::Trace;
use super::conditions::Conditions;
use super::range::Wanted;
use crate::ids::Token;
use crate::level::Level;
use crate::net::http1::framing::Framing;

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// One request, parsed and routed.
#[derive(Debug)]
pub struct KeptRequest<'a> {
    /// What is done.
    pub act: Act,
    /// The canonical path after its first `/`.
    pub key: &'a [u8],
    /// Where the key is on the circle.
    pub token: Token,
    /// How strong it must be.
    pub level: Level,
    /// Of a PUT: the fields that are kept, as lines with CRLF.
    pub fields: &'a [u8],
    /// Of a PUT: how the body is delimited.
    pub framing: Framing,
    /// Of a read.
    pub conditions: Conditions,
    /// Of a GET.
    pub range: Option<Wanted>,
    /// The value of `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// Where its exchanges with replicas are noted, if it is being recorded.
    pub trace: Option<Rc<Trace>>,
}

impl KeptRequest<'_> {
    /// Whether it is certain, before anything is known of the value, that all of it is wanted.
    pub(super) fn wants_whole(&self) -> bool {
        self.act == Act::Get && self.range.is_none() && self.conditions.is_empty()
    }
}

impl Act {
    /// Whether it changes anything.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}
