//! How is a problem of a file told so that its author can cure it without asking?
//!
//! Each [`Diagnostic`] names the place, the key, what was found and what would be accepted; two
//! places that contradict each other are both shown. [`Diagnostics`] is all of a file's problems
//! with the file's text, and displays them as `rustc` does, since that is what readers know.

use std::cell::RefCell;
use std::fmt;

/// Errors of one file that are kept, and as many warnings. A file with more is broken as a whole,
/// and nobody reads on; the number of the others is still told.
const KEPT_MAX: usize = 200;

/// Characters of a message. Values of the file, which messages repeat, may be of any length.
const MESSAGE_MAX: usize = 600;

/// Characters of a source line that are shown; around the place if the line is longer.
const LINE_SHOWN_MAX: usize = 120;

/// A stretch of one line of the file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first character.
    pub column: usize,
    /// How many characters are meant; at least one.
    pub length: usize,
}

impl Place {
    /// Behind the last thing that is written. A reader that is missing something says so at the
    /// very end, on a line that nobody wrote.
    fn end_of(text: &str) -> Option<Self> {
        let text = text.trim_end();
        let last = text.rsplit(['\n', '\r']).next().filter(|last| !last.is_empty())?;
        let line = text.replace("\r\n", "\n").split(['\n', '\r']).count();
        Some(Self { line, column: last.chars().count() + 1, length: 1 })
    }
}

/// Whether a file with the problem can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but it may not mean what its author thinks.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// Where it is; `None` when the file as a whole is meant.
    pub place: Option<Place>,
    /// The path of the key, such as `pools[0].shards[2].weight`; empty for the whole file.
    pub key: String,
    /// What was found and why it is a problem.
    pub message: String,
    /// What would be accepted; may be empty when the message says it.
    pub help: String,
    /// The other place, if two contradict each other, and what stands there.
    pub other: Option<(Place, String)>,
}

/// All problems of one file, in the order of the file. Displays them with the lines they are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    text: String,
    list: Vec<Diagnostic>,
    /// All of them, also those that are not in the list.
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    pub(super) fn new(file: &str, text: &str, findings: Findings) -> Self {
        let Found { mut list, errors, warnings } = findings.found.into_inner();
        if let Some(end) = Place::end_of(text) {
            for one in &mut list {
                let places = one.place.iter_mut().chain(one.other.iter_mut().map(|(at, _)| at));
                places.filter(|at| at.line > end.line).for_each(|at| *at = end);
            }
        }
        list.sort_by_key(|one| one.place);
        Self { file: file.to_owned(), text: text.to_owned(), list, errors, warnings }
    }

    /// The problems; of very many, the first.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the file cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    fn show(&self, one: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = match one.key.as_str() {
            "" => Printable(&one.message).to_string(),
            key => format!("{}: {}", Printable(key), Printable(&one.message)),
        };
        self.show_line(one.place, severity, &message, f)?;
        if let Some((place, what)) = &one.other {
            self.show_line(Some(*place), "note", what, f)?;
        }
        if !one.help.is_empty() {
            writeln!(f, "  = help: {}", Printable(&one.help))?;
        }
        writeln!(f)
    }

    fn show_line(
        &self,
        place: Option<Place>,
        label: &str,
        message: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let Some(place) = place else {
            return writeln!(f, "{}: {label}: {message}", self.file);
        };
        writeln!(f, "{}:{}:{}: {label}: {message}", self.file, place.line, place.column)?;
        let Some(line) = self.text.lines().nth(place.line - 1) else { return Ok(()) };
        // A long line is shown from a little before the place on.
        let skipped = match line.chars().nth(LINE_SHOWN_MAX) {
            Some(_) => place.column.saturating_sub(LINE_SHOWN_MAX / 2),
            None => 0,
        };
        let shown: String = line.chars().skip(skipped).take(LINE_SHOWN_MAX).collect();
        let before = (place.column - 1).saturating_sub(skipped);
        let carets = place.length.clamp(1, LINE_SHOWN_MAX.saturating_sub(before).max(1));
        let number = place.line.to_string();
        writeln!(f, "{number:>4} | {}", Printable(&shown))?;
        writeln!(f, "     | {}{}", " ".repeat(before), "^".repeat(carets))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|one| self.show(one, f))?;
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let counts = [(self.errors, "error"), (self.warnings, "warning")];
        let said = counts.iter().filter(|(count, _)| *count > 0).map(|(n, what)| plural(*n, what));
        f.write_str(&said.collect::<Vec<_>>().join(", "))?;
        match self.errors + self.warnings - self.list.len() {
            0 => Ok(()),
            hidden => write!(f, "; {hidden} of them are not shown"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Text of a file as it may go to a terminal: one character for one, none of them a command.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\t' => f.write_str(" "),
            // Besides the control characters, those that turn the direction of writing.
            c if c.is_control() => f.write_str("\u{fffd}"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_str("\u{fffd}"),
            c => fmt::Write::write_char(f, c),
        })
    }
}

/// Why a file cannot be read at all. The parts are those of a [`Diagnostic`].
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) help: String,
    pub(super) other: Option<(Place, String)>,
}

impl Unreadable {
    pub(super) fn new(place: Option<Place>, message: impl Into<String>, help: &str) -> Self {
        Self { place, message: message.into(), help: help.to_owned(), other: None }
    }
}

/// Where problems are collected while a file is read.
///
/// Readers of all parts of a file hold it at once and only ever add, hence the cell.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: RefCell<Found>,
}

#[derive(Debug, Default)]
struct Found {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Findings {
    pub(super) fn add(&self, mut one: Diagnostic) {
        let found = &mut *self.found.borrow_mut();
        let count = match one.severity {
            Severity::Error => &mut found.errors,
            Severity::Warning => &mut found.warnings,
        };
        *count += 1;
        if *count > KEPT_MAX {
            return;
        }
        for text in [&mut one.message, &mut one.help] {
            if let Some((end, _)) = text.char_indices().nth(MESSAGE_MAX) {
                text.replace_range(end.., "…");
            }
        }
        found.list.push(one);
    }

    /// Adds an error that concerns no key: the file cannot be read at all.
    pub(super) fn unreadable(&self, problem: Unreadable) {
        let Unreadable { place, message, help, other } = problem;
        let severity = Severity::Error;
        self.add(Diagnostic { severity, place, key: String::new(), message, help, other });
    }

    /// How many errors were added so far.
    pub(super) fn errors(&self) -> usize {
        self.found.borrow().errors
    }
}
