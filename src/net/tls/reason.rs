//! Why did two sides not come to terms?
//!
//! A handshake fails for few reasons that somebody can act on, and rustls knows a hundred. This
//! sorts them: a label for metrics, and words that name what is wrong.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{AlertDescription, CertificateError, Error};

/// What was wrong with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The other side's certificate has expired.
    Expired,
    /// The other side's certificate is not valid yet.
    NotYetValid,
    /// The other side's certificate is for other names.
    WrongName,
    /// No authority that is trusted signed the other side's certificate.
    UnknownAuthority,
    /// The other side's certificate cannot be used for another reason.
    BadCertificate,
    /// A certificate was asked for and none was shown.
    NoCertificate,
    /// No version, suite or protocol that both sides know.
    NothingInCommon,
    /// The other side ended it with an alert.
    Alert,
    /// What came is no TLS.
    NotTls,
    /// The other side closed the connection.
    Closed,
    /// It took too long.
    TimedOut,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them, in the order of [`Reason::place`].
    pub const ALL: [Self; 12] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::UnknownAuthority,
        Self::BadCertificate,
        Self::NoCertificate,
        Self::NothingInCommon,
        Self::Alert,
        Self::NotTls,
        Self::Closed,
        Self::TimedOut,
        Self::Other,
    ];

    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub fn place(self) -> usize {
        self as usize
    }

    /// The value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::UnknownAuthority => "unknown_authority",
            Self::BadCertificate => "bad_certificate",
            Self::NoCertificate => "no_certificate",
            Self::NothingInCommon => "nothing_in_common",
            Self::Alert => "alert",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::TimedOut => "timeout",
            Self::Other => "other",
        }
    }

    /// What an error of a handshake, or of a stream, comes to.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match (inner, error.kind()) {
            (Some(error), _) => Self::of_tls(error),
            (None, io::ErrorKind::TimedOut) => Self::TimedOut,
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            (None, _) => Self::Other,
        }
    }

    /// Whether the other side says by an alert that it will not have this node's certificate, or
    /// wants one (RFC 8446, section 6.2): then it has taken nothing that was sent to it.
    #[must_use]
    pub fn of_own_certificate(error: &io::Error) -> Option<Self> {
        use AlertDescription as Alert;
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())?;
        let Error::AlertReceived(alert) = inner else { return None };
        let judged = matches!(
            alert,
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
        );
        judged.then(|| Self::of_tls(inner))
    }

    fn of_tls(error: &Error) -> Self {
        use AlertDescription as Alert;
        use CertificateError as Bad;
        match error {
            Error::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                // An authority of the same name with another key: `BadSignature`.
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownAuthority,
                _ => Self::BadCertificate,
            },
            Error::NoCertificatesPresented | Error::AlertReceived(Alert::CertificateRequired) => {
                Self::NoCertificate
            }
            Error::PeerIncompatible(_)
            | Error::NoApplicationProtocol
            | Error::AlertReceived(
                Alert::HandshakeFailure
                | Alert::ProtocolVersion
                | Alert::InsufficientSecurity
                | Alert::NoApplicationProtocol,
            ) => Self::NothingInCommon,
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

/// How often each reason was met. Handshakes fail rarely enough for one cell each.
#[derive(Debug, Default)]
pub struct ReasonCounts([AtomicU64; Reason::ALL.len()]);

impl ReasonCounts {
    /// Counts one.
    pub fn inc(&self, reason: Reason) {
        self.0[reason.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that were met, with how often.
    pub fn met(&self) -> impl Iterator<Item = (Reason, u64)> {
        let all = Reason::ALL.into_iter().zip(&self.0);
        all.map(|(reason, count)| (reason, count.load(Ordering::Relaxed))).filter(|met| met.1 > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_place_and_label() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.place(), place, "{reason:?}");
            let same = Reason::ALL.iter().filter(|other| other.label() == reason.label()).count();
            assert_eq!(same, 1, "{reason:?}");
        }
    }

    #[test]
    fn errors_are_sorted_by_what_is_inside() {
        let of = |error: Error| Reason::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(CertificateError::Expired.into()), Reason::Expired);
        assert_eq!(of(CertificateError::BadSignature.into()), Reason::UnknownAuthority);
        assert_eq!(of(Error::AlertReceived(AlertDescription::UnknownCA)), Reason::Alert);
        assert_eq!(of(Error::NoCertificatesPresented), Reason::NoCertificate);
        assert_eq!(Reason::of(&io::ErrorKind::UnexpectedEof.into()), Reason::Closed);
        assert_eq!(Reason::of(&io::Error::other("?")), Reason::Other);
        let own = |alert| {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert));
            Reason::of_own_certificate(&error)
        };
        assert_eq!(own(AlertDescription::CertificateRequired), Some(Reason::NoCertificate));
        assert_eq!(own(AlertDescription::UnknownCA), Some(Reason::Alert));
        // It may have begun with what was sent.
        assert_eq!(own(AlertDescription::InternalError), None);
    }
}
