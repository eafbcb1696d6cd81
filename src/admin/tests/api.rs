//! What operators are told, and what they may do.
