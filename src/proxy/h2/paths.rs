//! Whose `:path` has a `#` in it?
//!
//! The library reads a path into a type of the crate `http`, which cuts off what stands behind a
//! `#`: `DELETE /doc#3` would delete `/doc`, where HTTP/1.1 answers 400. Nothing above the library
//! can tell the two apart. So field sections are looked at on their way in: not decoded, only
//! walked through (RFC 7541, section 6), and the values of `:path` searched.
//!
//! - A name may stand for itself, in the static table, or in the dynamic one. Of that nothing is
//!   kept but which of its entries are paths: entries are counted from the newest on, so what was
//!   evicted changes no number, and with the 4,096 bytes that we allow there are 128 at most.
//! - A value out of a table was seen when it was put there.
//! - Huffman's code is canonical (appendix B): its codes of one length follow each other, and the
//!   longer come after the shorter. So for finding one symbol the others' lengths are enough.
//! - What is malformed ends the connection in the library; here it only must not panic.

use super::frames::{CONTINUATION, HEADERS};

/// The flag of HEADERS that says that padding follows, and its length comes first.
const PADDED: u8 = 8;

/// The flag of HEADERS that says that five bytes of priority come first.
const PRIORITY: u8 = 32;

/// `:path` in the static table: once with `/`, once with `/index.html`.
const STATIC_PATHS: [u64; 2] = [4, 5];

/// The first index of the dynamic table.
const DYNAMIC: u64 = 62;

const PATH: &[u8] = b":path";

/// The same in Huffman's code.
const PATH_CODED: &[u8] = &[0xb9, 0x58, 0xd3, 0x3f];

/// The lengths of codes in bits, and the first number that is no code of that length any more.
const CODES: [(u32, u64); 21] = [
    (5, 0xa),
    (6, 0x2e),
    (7, 0x7c),
    (8, 0xfe),
    (10, 0x3fd),
    (11, 0x7fd),
    (12, 0xffc),
    (13, 0x1ffe),
    (14, 0x3ffe),
    (15, 0x7fff),
    (19, 0x7_fff3),
    (20, 0xf_ffee),
    (21, 0x1f_ffe9),
    (22, 0x3f_ffec),
    (23, 0x7f_fff5),
    (24, 0xff_fff6),
    (25, 0x1ff_fff0),
    (26, 0x3ff_ffef),
    (27, 0x7ff_fff1),
    (28, 0xfff_ffff),
    (30, 0x4000_0000),
];

/// The code of `#`.
const HASH: (u32, u64) = (12, 0xffa);

/// Which half of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Name,
    Value,
}

/// What a number says that goes on in further bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// A whole field of a table, or the size of the table.
    Nothing,
    /// Where the name stands.
    Name,
    Length(Half),
}

/// What comes next in a field section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Field,
    Number { of: Number, value: u64, shift: u32 },
    Length(Half),
    Text { of: Half, left: u64 },
}

/// Walks through the field sections of one connection.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Paths {
    /// Bytes before the fragment of this frame, the first of which may be the padding's length.
    front: usize,
    padded: bool,
    /// Bytes of the fragment that did not come yet.
    fragment: usize,
    stream: u32,
    at: At,
    /// Whether the field goes into the table.
    inserts: bool,
    /// Whether the field's name is `:path`.
    is_path: bool,
    /// Whether the text is in Huffman's code.
    coded: bool,
    /// The name so far, if it may be `:path`: how much of it.
    matched: usize,
    /// Bits of Huffman's code that are no symbol yet, and how many.
    bits: (u64, u32),
    /// Whether an entry of the dynamic table is a path, the newest one last.
    entries: u128,
    /// Whether this section has a path with a `#`.
    found: bool,
    /// How many fields this section has.
    fields: usize,
    /// Streams whose path has one, and that were not asked for yet.
    marked: Vec<u32>,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self {
            front: 0,
            padded: false,
            fragment: 0,
            stream: 0,
            at: At::Field,
            inserts: false,
            is_path: false,
            coded: false,
            matched: 0,
            bits: (0, 0),
            entries: 0,
            found: false,
            fields: 0,
            marked: Vec::new(),
        }
    }

    /// A frame of fields begins. `length`: its payload's.
    pub(super) fn begin(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        debug_assert!(matches!(kind, HEADERS | CONTINUATION));
        let flags = if kind == HEADERS { flags } else { 0 };
        self.padded = flags & PADDED != 0;
        self.front = usize::from(self.padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
        self.fragment = length.saturating_sub(self.front);
        if kind == HEADERS {
            (self.stream, self.at, self.found, self.fields) = (stream, At::Field, false, 0);
        }
    }

    /// Looks at bytes of the frame's payload.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        while self.front > 0 {
            let Some((first, rest)) = bytes.split_first() else { return };
            if std::mem::take(&mut self.padded) {
                self.fragment = self.fragment.saturating_sub(usize::from(*first));
            }
            self.front -= 1;
            bytes = rest;
        }
        let here = self.fragment.min(bytes.len());
        self.fragment -= here;
        bytes = &bytes[..here];
        while let Some((first, rest)) = bytes.split_first() {
            if let At::Text { of, left } = self.at {
                let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (text, rest) = bytes.split_at(here);
                self.text(of, text);
                self.at = At::Text { of, left: left - here as u64 };
                self.end_text();
                bytes = rest;
            } else {
                self.byte(*first);
                bytes = rest;
            }
        }
    }

    /// The field section has ended with the frame; returns how many fields it had. Said again, it
    /// had none.
    pub(super) fn end(&mut self) -> usize {
        if std::mem::take(&mut self.found) {
            self.marked.push(self.stream);
        }
        std::mem::take(&mut self.fields)
    }

    /// How many fields the section has so far.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// How many streams are marked.
    pub(super) fn marked(&self) -> usize {
        self.marked.len()
    }

    /// Whether this stream's path has a `#`. Streams are taken up in their order, so whatever stood
    /// before it is asked for no more.
    pub(super) fn take(&mut self, stream: u32) -> bool {
        let found = self.marked.contains(&stream);
        self.marked.retain(|marked| *marked > stream);
        found
    }

    /// A byte that is not of a text.
    fn byte(&mut self, byte: u8) {
        match self.at {
            At::Field => {
                self.fields += 1;
                let (bits, of) = match byte {
                    0x80.. => (7, Number::Nothing),
                    0x40.. => (6, Number::Name),
                    0x20.. => (5, Number::Nothing),
                    _ => (4, Number::Name),
                };
                self.inserts = bits == 6;
                self.number(byte, bits, of);
            }
            At::Length(of) => {
                self.coded = byte & 0x80 != 0;
                self.number(byte, 7, Number::Length(of));
            }
            At::Number { of, value, shift } => {
                let more = u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(u64::MAX);
                let value = value.saturating_add(more);
                match byte & 0x80 {
                    0 => self.end_number(of, value),
                    _ => self.at = At::Number { of, value, shift: shift.saturating_add(7) },
                }
            }
            At::Text { .. } => unreachable!("texts are taken whole"),
        }
    }

    /// A number that begins with so many bits of this byte.
    fn number(&mut self, byte: u8, bits: u32, of: Number) {
        let most = (1 << bits) - 1;
        match u64::from(byte) & most {
            value if value == most => self.at = At::Number { of, value, shift: 0 },
            value => self.end_number(of, value),
        }
    }

    fn end_number(&mut self, of: Number, value: u64) {
        self.at = match of {
            Number::Nothing => At::Field,
            Number::Name if value == 0 => At::Length(Half::Name),
            Number::Name => {
                let entry = value.checked_sub(DYNAMIC).and_then(|back| u32::try_from(back).ok());
                let shifted = entry.and_then(|back| self.entries.checked_shr(back));
                self.is_path =
                    STATIC_PATHS.contains(&value) || shifted.is_some_and(|bits| bits & 1 != 0);
                At::Length(Half::Value)
            }
            Number::Length(of) => {
                (self.matched, self.bits) = (0, (0, 0));
                if of == Half::Name {
                    self.is_path = value == self.path().len() as u64;
                }
                At::Text { of, left: value }
            }
        };
        self.end_text();
    }

    /// `:path` as it is written in this text's code.
    fn path(&self) -> &'static [u8] {
        if self.coded { PATH_CODED } else { PATH }
    }

    fn text(&mut self, of: Half, text: &[u8]) {
        match of {
            Half::Name if self.is_path => {
                let wanted = self.path().get(self.matched..self.matched + text.len());
                self.is_path = wanted == Some(text);
                self.matched += text.len();
            }
            Half::Value if self.is_path && !self.found => {
                self.found = match self.coded {
                    true => text.iter().any(|byte| self.coded_byte(*byte)),
                    false => memchr::memchr(b'#', text).is_some(),
                };
            }
            Half::Name | Half::Value => {}
        }
    }

    /// Whether a `#` ends with this byte of Huffman's code.
    fn coded_byte(&mut self, byte: u8) -> bool {
        let (mut bits, mut count) = (self.bits.0 << 8 | u64::from(byte), self.bits.1 + 8);
        let mut found = false;
        let next = |bits: u64, count: u32| {
            let fits = CODES.iter().filter(|(length, _)| *length <= count);
            fits.map(|(length, end)| (*length, bits >> (count - length), *end))
                .find(|(_, code, end)| code < end)
        };
        while let Some((length, code, _)) = next(bits, count) {
            found |= (length, code) == HASH;
            count -= length;
            bits &= (1 << count) - 1;
        }
        self.bits = (bits, count);
        found
    }

    /// Goes on behind a text, if it has ended.
    fn end_text(&mut self) {
        self.at = match self.at {
            At::Text { of: Half::Name, left: 0 } => At::Length(Half::Value),
            At::Text { of: Half::Value, left: 0 } => {
                if self.inserts {
                    self.entries = self.entries << 1 | u128::from(self.is_path);
                }
                At::Field
            }
            other => other,
        };
    }
}

#[cfg(test)]
mod tests;
