//! What do the keys mean that only pools have which keep data?

use super::takes::Takes::{Duration, Either, Size, Words};
use super::takes::{Described, GIB, KIB, key};
use crate::config::schema;

pub(super) const SECTIONS: &[Described] = &[Described {
    section: &schema::REPAIR,
    says: "How replicas are compared, and brought to the newest.",
    rule: "",
    keys: &[
        key(
            "interval",
            Either(&[Words(&["off"]), Duration("1s", "24h")]),
            "From one comparison of all replicas to the next; off: only by `ringway repair`.",
        )
        .usually("1h"),
        key("rate", Size(64 * KIB, 100 * GIB), "Bytes per second that it may read and write.")
            .usually("32MiB"),
    ],
}];
