//! How is a single value read: a text, a number, a duration, one of a few words?

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::raw::{Kind, Shape};
use super::spelling::suggestion;
use super::spot::Spot;
use super::units;

/// The longest duration that may be set. Longer ones are surely a slip of the unit.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

impl<'a> Spot<'a> {
    fn scalar(&self) -> Option<(&'a str, Kind)> {
        match self.shape() {
            Shape::Scalar(scalar) => Some((&scalar.text, scalar.kind)),
            _ => None,
        }
    }

    /// Whether the value is the text `word`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.scalar() == Some((word, Kind::Text))
    }

    /// What `read` makes of the value, or `None` when `word` is written instead.
    pub(super) fn or_word<T>(
        &self,
        word: &'static str,
        read: impl FnOnce(&Spot<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.is_word(word) {
            return Some(None);
        }
        read(&self.or(word)).map(Some)
    }

    /// The value's text. A number or truth value is taken as it was written, so that an id may be
    /// `1` without quotes. `what` says what is wanted, for the help.
    pub(super) fn text(&self, what: &str) -> Option<&'a str> {
        match self.scalar() {
            Some((text, kind)) if kind != Kind::Null => Some(text),
            _ => self.refuse_kind("a single value", format!("write {what}")),
        }
    }

    /// What `parse` makes of the value's text; its error says what was found and what is wrong.
    pub(super) fn parsed<T, E: Display>(
        &self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(what)?) {
            Ok(value) => Some(value),
            Err(error) => self.refuse(error.to_string(), ""),
        }
    }

    /// As [`Spot::parsed`], when the error says only what is wrong.
    pub(super) fn parsed_as<T, E: Display>(
        &self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(what)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(format!("found {}, but {error}", self.found()), format!("write {what}"))
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.scalar() {
            Some((_, Kind::Bool(value))) => Some(value),
            _ => self.refuse_kind("a truth value", "write `true` or `false`"),
        }
    }

    /// A whole number within `range`, which must fit into `T`.
    pub(super) fn number<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let (least, most) = (range.start(), range.end());
        let help = format!("write a whole number from {least} to {most}");
        match self.scalar() {
            Some((_, Kind::Whole(value))) if range.contains(&value) => Some(fit(value)),
            Some((_, Kind::Whole(_) | Kind::Number)) => {
                self.refuse(format!("{} is out of range", self.found()), help)
            }
            Some((text, Kind::Text)) if text.parse::<u64>().is_ok() => {
                self.refuse(format!("{} in quotes is text", self.found()), "remove the quotes")
            }
            _ => self.refuse_kind("a number", help),
        }
    }

    /// A duration of at least a millisecond.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.duration_from(Duration::from_millis(1))
    }

    /// A duration of at least `least`.
    pub(super) fn duration_from(&self, least: Duration) -> Option<Duration> {
        let duration = match self.scalar() {
            Some((text, Kind::Whole(_))) => {
                let help = format!("write `{text}s` if seconds are meant");
                return self.refuse(format!("{} has no unit", self.found()), help);
            }
            Some((text, Kind::Text)) => units::duration(text),
            _ => None,
        };
        match duration {
            Some(duration) if (least..=DURATION_MAX).contains(&duration) => Some(duration),
            Some(_) => {
                let (least, most) =
                    (units::show_duration(least), units::show_duration(DURATION_MAX));
                let help = format!("write a duration from {least} to {most}");
                self.refuse(format!("{} is out of range", self.found()), help)
            }
            None => {
                let help = "write a whole number and its unit: `250ms`, `10s`, `5m` or `1h`";
                self.refuse_kind("a duration", help)
            }
        }
    }

    /// A size in bytes within `range`, which must fit into `T`.
    pub(super) fn size<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let size = match self.scalar() {
            Some((_, Kind::Whole(bytes))) => Some(bytes),
            Some((text, Kind::Text)) => units::size(text),
            _ => None,
        };
        match size {
            Some(size) if range.contains(&size) => Some(fit(size)),
            Some(_) => {
                let (least, most) =
                    (units::show_size(*range.start()), units::show_size(*range.end()));
                let help = format!("write a size from {least} to {most}");
                self.refuse(format!("{} is out of range", self.found()), help)
            }
            None => {
                let help = "write bytes, or a whole number and its unit: `kB`, `MB`, `GB` (1000) \
                            or `KiB`, `MiB`, `GiB` (1024)";
                self.refuse_kind("a size", help)
            }
        }
    }

    /// What one of the words of `choices` stands for; the words of `later` are understood, but not
    /// in this release.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word);
        let allowed = format!("allowed: {}", words.clone().collect::<Vec<_>>().join(", "));
        let Some((text, kind)) = self.scalar().filter(|(_, kind)| *kind != Kind::Null) else {
            return self.refuse_kind("a single value", allowed);
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        if later.contains(&text) && kind == Kind::Text {
            return self.refuse(format!("`{text}` is not in this release"), allowed);
        }
        self.refuse(format!("unknown value {}", self.found()), suggestion(text, words) + &allowed)
    }
}

/// A number of which the caller's range has made sure that the type can hold it.
fn fit<T: TryFrom<u64>>(value: u64) -> T {
    match T::try_from(value) {
        Ok(value) => value,
        Err(_) => unreachable!("the range fits the type"),
    }
}
