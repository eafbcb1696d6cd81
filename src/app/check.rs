//! `ringway check` and `ringway schema`: what does this file mean, or what is wrong with it; and
//! what may stand in one?

use std::path::Path;

use super::error::AppError;
use super::say::{complain, say};
use crate::config;

/// Describes the file on standard output; warnings go to standard error.
///
/// # Errors
/// Every problem of the file at once.
pub fn run(file: &Path) -> Result<(), AppError> {
    let loaded = config::load(file)?;
    if !loaded.warnings.is_empty() {
        complain(&loaded.warnings.to_string());
    }
    say(&loaded.config.describe())
}

/// Prints the JSON Schema of a configuration.
///
/// # Errors
/// When standard output is lost.
pub fn schema() -> Result<(), AppError> {
    say(&config::json_schema())
}
