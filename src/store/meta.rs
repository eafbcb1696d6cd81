//! Which fields of a PUT are kept with the value and given back with it?
//!
//! The fields that describe the content and its caching, and `X-Meta-*` for the client's own.
//! Nothing else: what a proxy on the way adds must not become part of the object.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES,
    HeaderMap, HeaderName, HeaderValue,
};

/// Kept fields of one value, names and values together, in bytes; more is 431.
///
/// S3 keeps 2 KiB and nginx takes heads of 8; a row of the index stays within a few pages.
pub const META_BYTES_MAX: usize = 8 * 1024;

const KEPT: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_DISPOSITION, CACHE_CONTROL, EXPIRES];

const OWN_PREFIX: &str = "x-meta-";

/// Fields kept with a value, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta(Vec<(HeaderName, HeaderValue)>);

/// Why the fields of a PUT cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// All kept fields together are too long.
    #[error(
        "the fields to be kept have {found} bytes, names and values together: keep them within {META_BYTES_MAX}"
    )]
    TooLong {
        /// Their length in bytes.
        found: usize,
    },
    /// One name is too long.
    #[error("a field name to be kept has {found} bytes: keep it within 255")]
    NameTooLong {
        /// Its length in bytes.
        found: usize,
    },
}

/// Bytes that are no encoded [`Meta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("kept fields do not decode")]
pub struct MetaDecodeError;

impl Meta {
    /// Picks what is kept from a request's head.
    ///
    /// # Errors
    /// [`MetaError`] when that is more than the store takes.
    pub fn pick(fields: &HeaderMap) -> Result<Self, MetaError> {
        let is_kept =
            |name: &HeaderName| KEPT.contains(name) || name.as_str().starts_with(OWN_PREFIX);
        let picked: Vec<_> = fields
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let longest = picked.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0);
        if longest > usize::from(u8::MAX) {
            return Err(MetaError::NameTooLong { found: longest });
        }
        let found = picked.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if found > META_BYTES_MAX {
            return Err(MetaError::TooLong { found });
        }
        Ok(Self(picked))
    }

    /// The kept fields.
    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// Whether a field of this name is kept.
    #[must_use]
    pub fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(kept, _)| kept == name)
    }

    /// Bytes of names and values together.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    /// Appends the persistent form: per field one byte length of the name, the name, two bytes
    /// little-endian length of the value, the value.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            let name = name.as_str().as_bytes();
            let name_len = u8::try_from(name.len()).expect("pick() bounds names");
            let value_len = u16::try_from(value.len()).expect("pick() bounds values");
            out.push(name_len);
            out.extend_from_slice(name);
            out.extend_from_slice(&value_len.to_le_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// Reads the persistent form, all of `bytes`.
    ///
    /// # Errors
    /// [`MetaDecodeError`] for anything that [`Meta::encode`] does not write.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, MetaDecodeError> {
        let mut fields = Vec::new();
        while let Some((&name_len, rest)) = bytes.split_first() {
            let (name, rest) = rest.split_at_checked(name_len.into()).ok_or(MetaDecodeError)?;
            let (value_len, rest) = rest.split_first_chunk().ok_or(MetaDecodeError)?;
            let value_len = u16::from_le_bytes(*value_len);
            let (value, rest) = rest.split_at_checked(value_len.into()).ok_or(MetaDecodeError)?;
            let name = HeaderName::from_bytes(name).map_err(|_| MetaDecodeError)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| MetaDecodeError)?;
            fields.push((name, value));
            bytes = rest;
        }
        Ok(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).expect("a field value"));
        }
        map
    }

    #[test]
    fn content_fields_and_the_clients_own_are_kept_and_nothing_else() {
        let meta = Meta::pick(&head(&[
            ("host", "a"),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("x-meta-owner", "me"),
            ("x-meta-owner", "you"),
            ("x-metadata", "no"),
            ("via", "1.1 ringway"),
            ("etag", "\"forged\""),
            ("cache-control", "no-store"),
        ]))
        .expect("short fields");
        let mut kept: Vec<_> =
            meta.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
        kept.sort();
        assert_eq!(
            kept,
            [
                "cache-control: no-store",
                "content-type: text/plain",
                "x-meta-owner: me",
                "x-meta-owner: you"
            ]
        );
        assert!(meta.has(&CONTENT_TYPE) && !meta.has(&EXPIRES));
    }

    #[test]
    fn the_limit_counts_names_and_values() {
        let name = "x-meta-a";
        let fits = "v".repeat(META_BYTES_MAX - name.len());
        assert!(Meta::pick(&head(&[(name, &fits)])).is_ok());
        let over = format!("{fits}v");
        let error = Meta::pick(&head(&[(name, &over)])).expect_err("one byte over");
        assert_eq!(error, MetaError::TooLong { found: META_BYTES_MAX + 1 });
        let mut map = HeaderMap::new();
        let long = HeaderName::from_bytes(format!("x-meta-{}", "n".repeat(249)).as_bytes());
        map.append(long.expect("a field name"), HeaderValue::from_static(""));
        assert_eq!(Meta::pick(&map), Err(MetaError::NameTooLong { found: 256 }));
    }

    #[test]
    fn the_persistent_form_is_pinned_and_checked() {
        let meta = Meta::pick(&head(&[("content-type", "a/b"), ("x-meta-n", "")])).expect("short");
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(bytes, b"\x0ccontent-type\x03\x00a/b\x08x-meta-n\x00\x00");
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        assert_eq!(Meta::decode(b""), Ok(Meta::default()));
        for cut in 1..bytes.len() {
            // A cut between two fields leaves a shorter list, every other cut an error.
            assert_eq!(Meta::decode(&bytes[..cut]).is_ok(), cut == 18, "cut at {cut}");
        }
        assert_eq!(Meta::decode(b"\x01\x00\x00\x00"), Err(MetaDecodeError));
    }
}
