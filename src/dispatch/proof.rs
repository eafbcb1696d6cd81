//! How is an answer that several replicas gave known to be the value?
//!
//! A store sends a large value while it reads it, and compares it with its digest meanwhile: the last
//! piece leaves only if all of them were right ([`damage`](crate::store)). So what *one* replica
//! gives to its end is sound. What it gave before it broke off was compared with nothing: its bytes may
//! have rotted, and it was killed before it came to know that; or it came to know, and could not write
//! it down; or the value was brought there anew meanwhile, so that what it has now is sound. No
//! question to it settles that, however it ended. So the node does not ask: it takes the digest of
//! what it sends, and where a second replica had to go on, the last piece waits for it.
//!
//! Why no wrong bytes can come to a good end: an answer ends well only when as many bytes have been
//! sent as its head told. Either one replica gave them all; then it let the last of them go. Or
//! several did; then the digest of exactly the bytes that were sent, in their order, and of the last
//! piece, which is not sent yet, is the one under which the version was taken in, or the client is
//! cut off without that piece. What the stores noted, told or forgot does not come into it.
//!
//! The price: a whole value that others could go on with, and that does not come with its head in one
//! read, is looked at byte by byte, and does not go through pipes. A part of a value (`Range`) has no digest; nothing compares it,
//! from one replica or from two.

/// What has been sent of one value.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The digest so far; `None` while nothing has been sent, or all at once.
    hasher: Option<Box<blake3::Hasher>>,
    /// What it has to be, if more than one replica gives the value.
    wanted: Option<blake3::Hash>,
    is_refuted: bool,
}

impl Proof {
    /// Another replica is to give the rest of a value of this digest. False if that is not known:
    /// then it must not.
    #[must_use]
    pub(super) fn go_on(&mut self, digest: Option<&str>) -> bool {
        self.wanted = digest.and_then(|digest| blake3::Hash::from_hex(digest).ok());
        self.wanted.is_some()
    }

    /// Takes the next bytes before they are sent, where `left` are to come, these included. Whether
    /// they may be sent; if not, nothing more may.
    #[must_use]
    pub(super) fn admits(&mut self, bytes: &[u8], left: u64) -> bool {
        let is_last = bytes.len() as u64 == left;
        if is_last && self.wanted.is_none() {
            // The replica that gave all answers for it.
            return true;
        }
        let hasher = self.hasher.get_or_insert_with(Box::default);
        hasher.update(bytes);
        self.is_refuted = is_last && Some(hasher.finalize()) != self.wanted;
        !self.is_refuted
    }

    /// Whether what was sent is not the value.
    pub(super) fn is_refuted(&self) -> bool {
        self.is_refuted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_of_several_replicas_waits_for_the_digest() {
        let digest = blake3::hash(b"abcdef").to_hex();
        for (first, is_sound) in [(b"abcd", true), (b"abXd", false)] {
            let mut proof = Proof::default();
            assert!(proof.admits(&first[..2], 6) && proof.admits(&first[2..], 4));
            assert!(proof.go_on(Some(&digest)));
            assert!(proof.admits(b"e", 2));
            assert_eq!((proof.admits(b"f", 1), proof.is_refuted()), (is_sound, !is_sound));
        }
        // One replica answers for what it gave to the end, and nobody for what has no digest.
        let mut proof = Proof::default();
        assert!(proof.admits(b"abX", 6) && proof.admits(b"def", 3));
        assert!(!proof.go_on(None) && !proof.go_on(Some("00ff")));
    }
}
