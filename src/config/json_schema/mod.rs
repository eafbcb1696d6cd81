//! How does an editor know what may stand in the file?
//!
//! `ringway schema` prints a JSON Schema (draft 2020-12) of the configuration, with which editors
//! (yaml-language-server and others) complete keys, show what they mean, and underline what is
//! wrong while it is typed. `keys` says of every key of the table in [`super::schema`] what it
//! takes, what it is unless written, and what it means; `render` writes that down.
//!
//! Invariants, each with a test:
//!
//! 1. The keys are those of the table, no more and no fewer.
//! 2. The schema refuses no value that the reader takes: an editor never complains of a good file.
//! 3. Words, numbers, truth values, lists and mappings that the reader refuses are refused by the
//!    schema as well. What it cannot say is left to `ringway check`: the range of a duration, what
//!    two keys mean for each other, whether an address or a URL is one.
//! 4. Defaults are those of `config/full.yaml`, which are those of the reader.

mod kept;
mod keys;
mod listen;
mod render;
mod routes;
mod takes;
#[cfg(test)]
mod tests;

pub use render::json_schema;
