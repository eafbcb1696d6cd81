//! What does the head of a store's answer say?

use std::str::{FromStr, from_utf8};

use super::kept::is_kept;
use crate::ids::StoreId;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{FieldKind, Persistence, write_field};
use crate::net::http1::response::ResponseHead;
use crate::protocol::holding::Effect;
use crate::protocol::replica::{PoolEpoch, Refusal, words};
use crate::version::Version;

/// The fields of the replica protocol, as far as they are there and well-formed.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The status.
    pub(super) status: u16,
    /// Who answered.
    pub(super) store: Option<StoreId>,
    /// The version told; what it is of, the request says.
    pub(super) version: Option<Version>,
    /// The highest epoch that the store has been told, in a refusal.
    pub(super) epoch: Option<PoolEpoch>,
    /// Why it did not do what it was asked, if it says so.
    pub(super) refusal: Option<Refusal>,
    /// What a write has come to.
    pub(super) effect: Option<Effect>,
    /// Whether the version is that of a deletion.
    pub(super) tombstone: bool,
    /// Bytes of the value.
    pub(super) size: Option<u64>,
    /// Digest of the value.
    pub(super) digest: Option<Box<str>>,
    /// When the value was written, in milliseconds since 1970.
    pub(super) modified_ms: Option<u64>,
    /// The kept fields: lines with CRLF.
    pub(super) kept: Vec<u8>,
    pub(super) framing: Framing,
    pub(super) persistence: Persistence,
}

impl Facts {
    /// Takes what is needed from a head that lies in `whole`.
    pub(super) fn of(head: &ResponseHead, whole: &[u8]) -> Self {
        let mut facts = Self {
            status: head.status(),
            store: None,
            version: None,
            epoch: None,
            refusal: None,
            effect: None,
            tombstone: false,
            size: None,
            digest: None,
            modified_ms: None,
            kept: Vec::new(),
            framing: head.framing(),
            persistence: head.persistence(),
        };
        for field in head.fields() {
            let (name, value) = (field.name.of_bytes(whole), field.value.of_bytes(whole));
            match field.kind {
                FieldKind::Ringway => facts.take(name, value),
                FieldKind::EndToEnd if is_kept(name) => {
                    write_field(&mut facts.kept, name, value);
                }
                _ => {}
            }
        }
        facts
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // The length tells most of them apart at once.
        match name.len() {
            13 if is(words::STORE) => self.store = parsed(value),
            13 if is(words::EPOCH) => self.epoch = parsed(value),
            13 if is(words::ERROR) => self.refusal = parsed(value),
            15 if is(words::VERSION) => self.version = parsed(value),
            15 if is(words::APPLIED) => self.effect = effect(value),
            17 if is(words::TOMBSTONE) => self.tombstone = value == words::YES.as_bytes(),
            12 if is(words::SIZE) => self.size = parsed(value),
            14 if is(words::DIGEST) => self.digest = from_utf8(value).ok().map(Into::into),
            16 if is(words::MODIFIED) => self.modified_ms = parsed(value),
            _ => {}
        }
    }
}

fn parsed<T: FromStr>(value: &[u8]) -> Option<T> {
    from_utf8(value).ok()?.parse().ok()
}

fn effect(value: &[u8]) -> Option<Effect> {
    match from_utf8(value) {
        Ok(words::YES) => Some(Effect::Applied),
        Ok(words::NO) => Some(Effect::Superseded),
        Ok(words::FORGOTTEN) => Some(Effect::Forgotten),
        _ => None,
    }
}
