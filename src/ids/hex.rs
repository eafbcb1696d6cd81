//! Identities that are bytes, written as hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digits::{Text, read_hex};

/// Why a text is no such identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {digits} hexadecimal digits")]
pub struct HexError {
    /// What was written instead, cut to what is worth showing.
    pub found: String,
    /// How many digits there should be.
    pub digits: usize,
}

macro_rules! bytes {
    ($(#[$doc:meta])* $type:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub [u8; $bytes]);

        impl $type {
            /// As it is written.
            #[must_use]
            pub fn text(&self) -> Text<{ 2 * $bytes }> {
                Text::default().hex(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl FromStr for $type {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                read_hex(text).map(Self).ok_or_else(|| HexError {
                    found: text.chars().take(64).collect(),
                    digits: 2 * $bytes,
                })
            }
        }

        impl TryFrom<String> for $type {
            type Error = HexError;
            fn try_from(text: String) -> Result<Self, HexError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

bytes! {
    /// Which cluster: drawn once, when it is founded. Nodes of two clusters never speak.
    ClusterId, 16
}
bytes! {
    /// Drawn by a node for one attempt to join, and kept with its data, so that the attempt can be
    /// repeated.
    Nonce, 16
}
bytes! {
    /// Which store of ours: drawn once, and kept with its data. An address can be given to an empty
    /// disk and a name typed twice; this can be neither.
    StoreId, 16
}
bytes! {
    /// Names a plan by what it starts from, what it changes and where it leads.
    PlanId, 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = PlanId([0, 1, 0x7f, 0x80, 0xff, 0xa0, 0x0a, 9]);
        assert_eq!(id.to_string(), "00017f80ffa00a09");
        assert_eq!("00017F80ffa00a09".parse(), Ok(id));
        let nonce = Nonce([7; 16]);
        let json = serde_json::to_string(&nonce).expect("a text");
        assert_eq!(json, format!("\"{}\"", "07".repeat(16)));
        assert_eq!(serde_json::from_str::<Nonce>(&json).expect("our own"), nonce);
        for bad in ["", "0", "00017f80ffa00a0", "00017f80ffa00a0g", "+0017f80ffa00a09", "äääääääa"]
        {
            assert!(bad.parse::<PlanId>().is_err(), "{bad:?} was taken");
        }
    }
}
