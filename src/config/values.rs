//! What is each scalar: a number, a truth value, text, nothing?
//!
//! `serde_yaml` decides, walking the document once more along the tree that `raw` has built. Both
//! readers must see the same document: a place where they differ (some corner of YAML that one of
//! them reads in its own way) is an error, so that no file ever means what only one of them read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::diagnostic::Place;
use super::raw::{Kind, Node, Scalar, Shape};

/// Sets the kind of every scalar of `root`, which was read from `text`.
pub(super) fn fill(text: &str, root: &mut Node) -> Result<(), (Option<Place>, String)> {
    Fill(root).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let place = error.location().map(|at| Place {
            line: at.line().max(1),
            column: at.column().max(1),
            length: 1,
        });
        (place, format!("this can be read in two ways ({error})"))
    })
}

struct Fill<'a>(&'a mut Node);

impl Fill<'_> {
    fn scalar<E: Error>(self, kind: Kind) -> Result<(), E> {
        match &mut self.0.shape {
            Shape::Scalar(scalar) => {
                scalar.kind = kind;
                Ok(())
            }
            _ => Err(E::custom("one way sees a single value, the other does not")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the other reader sees")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Kind::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(Kind::Whole(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(u64::try_from(value).map_or(Kind::Number, Kind::Whole))
    }

    fn visit_u128<E: Error>(self, _value: u128) -> Result<(), E> {
        self.scalar(Kind::Number)
    }

    fn visit_i128<E: Error>(self, _value: i128) -> Result<(), E> {
        self.scalar(Kind::Number)
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<(), E> {
        self.scalar(Kind::Number)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match &self.0.shape {
            Shape::Scalar(Scalar { text, .. }) if text == value => self.scalar(Kind::Text),
            _ => Err(E::custom("the ways see two texts")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Shape::List(items) = &mut self.0.shape else {
            return Err(A::Error::custom("one way sees a list, the other does not"));
        };
        for item in items {
            if seq.next_element_seed(Fill(item))?.is_none() {
                return Err(A::Error::custom("one way sees a shorter list"));
            }
        }
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("one way sees a shorter list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Shape::Map(entries) = &mut self.0.shape else {
            return Err(A::Error::custom("one way sees a mapping, the other does not"));
        };
        for entry in entries {
            if map.next_key_seed(Key(&entry.key))?.is_none() {
                return Err(A::Error::custom("one way sees a smaller mapping"));
            }
            map.next_value_seed(Fill(&mut entry.value))?;
        }
        match map.next_key::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("one way sees a smaller mapping")),
        }
    }
}

/// A key, which must be the same text for both; what else it might be is of no interest.
struct Key<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Asked for text, `serde_yaml` gives a number's or truth value's text as it was written.
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key that the other reader sees")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if value == self.0 { Ok(()) } else { Err(E::custom("the ways see two keys")) }
    }
}
