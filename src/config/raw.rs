//! What was written, and where?
//!
//! Two readers look at the file. `saphyr-parser` yields the shape of the document with the place
//! of every part; `serde_yaml` says what each scalar is (see `values`). The first stands guard for
//! the second: whatever is deep, large or multiplied by aliases is refused here, while the events
//! arrive, and never built.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::diagnostic::{Findings, Place, Unreadable};
use super::values;

/// How deep lists and mappings may nest. The deepest option stands at 6.
const DEPTH_MAX: usize = 16;

/// Scalars, lists and mappings of one file, those that aliases repeat included; a long text counts
/// as several. A pool of 4096 shards with every option written out has about 50,000.
const NODES_MAX: usize = 100_000;

/// Bytes of a text that count as one node.
const NODE_BYTES: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file. A key may stand there twice; who reads the mapping says so.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// As it was written; quotes and escapes are undone.
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What a scalar is by the rules of YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number.
    Number,
    Text,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// Reads the one document of `text`. On failure the reason is added to `findings`.
    pub(super) fn read(text: &str, findings: &Findings) -> Option<Node> {
        let mut outline = Outline::new(text);
        for event in Parser::new_from_str(text) {
            let step = match event {
                Ok((event, span)) => outline.step(event, span),
                Err(error) => Err(Box::new(outline.explain(&error))),
            };
            if let Err(problem) = step {
                findings.unreadable(*problem);
                return None;
            }
        }
        let Some(mut root) = outline.root else {
            let help = "it needs at least `pools` and `routes`";
            findings.unreadable(Unreadable::new(None, "the file says nothing", help));
            return None;
        };
        match values::fill(text, &mut root) {
            Ok(()) => Some(root),
            Err((place, message)) => {
                let help = "write it in a plainer way, or put it in quotes";
                findings.unreadable(Unreadable::new(place, message, help));
                None
            }
        }
    }

    /// How many nodes it counts as.
    fn size(&self) -> usize {
        match &self.shape {
            Shape::Scalar(scalar) => text_size(&scalar.text),
            Shape::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Shape::Map(entries) => {
                let size = |entry: &Entry| text_size(&entry.key) + entry.value.size();
                1 + entries.iter().map(size).sum::<usize>()
            }
        }
    }
}

fn text_size(text: &str) -> usize {
    1 + text.len() / NODE_BYTES
}

/// A document while its events arrive.
struct Outline {
    /// The text, in which the parser counts characters: looking one up must not take longer the
    /// farther it stands from the beginning of its line.
    chars: Vec<char>,
    lines: usize,
    /// What is open, the outermost first.
    open: Vec<Open>,
    /// What may be repeated, by the number of its anchor.
    anchored: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    documents: usize,
}

/// A list or mapping of which more is to come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
    /// Whether it stands in brackets or braces, which may be left unclosed.
    bracketed: bool,
}

impl Outline {
    fn new(text: &str) -> Self {
        Self {
            chars: text.chars().collect(),
            lines: text.lines().count(),
            open: Vec::new(),
            anchored: BTreeMap::new(),
            nodes: 0,
            root: None,
            documents: 0,
        }
    }

    fn step(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Unreadable>> {
        let place = self.place(span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => problem(place, "a second document begins here", "remove the `---`"),
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchored.get(&anchor).cloned() else {
                    return problem(place, "this alias stands within what it repeats", "");
                };
                self.count(node.size(), place)?;
                // What is wrong with the whole is shown at the alias, what is wrong inside where
                // it was written.
                self.attach(Node { place, ..node }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                self.count(text_size(&text), place)?;
                let length = self.scalar_length(&text, style, span);
                let scalar = Scalar { text: text.into_owned(), kind: Kind::Text };
                let place = Place { length, ..place };
                self.attach(Node { place, shape: Shape::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                self.begin(Shape::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                self.begin(Shape::Map(Vec::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let ended = self.open.pop().expect("the parser ends what it began");
                self.attach(ended.node, ended.anchor)
            }
        }
    }

    fn refuse_tag(&self, tagged: bool, place: Place) -> Result<(), Box<Unreadable>> {
        match tagged {
            true => problem(
                place,
                "a tag (`!`) has no meaning here",
                "put text that begins with `!` in quotes",
            ),
            false => Ok(()),
        }
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Box<Unreadable>> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message =
            format!("the file has more than {NODES_MAX} values, counting what aliases repeat");
        problem(place, &message, "")
    }

    fn begin(&mut self, shape: Shape, anchor: usize, span: Span) -> Result<(), Box<Unreadable>> {
        let place = self.place(span.start);
        self.count(1, place)?;
        if self.open.len() >= DEPTH_MAX {
            let message = format!("lists and mappings are nested more than {DEPTH_MAX} deep");
            return problem(place, &message, "");
        }
        let last = span.end.index().checked_sub(1).and_then(|last| self.chars.get(last));
        let bracketed = matches!(last, Some('[' | '{'));
        self.open.push(Open { node: Node { place, shape }, anchor, key: None, bracketed });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn attach(&mut self, node: Node, anchor: usize) -> Result<(), Box<Unreadable>> {
        if anchor > 0 {
            // Counted like a repetition, since it costs the same memory.
            self.count(node.size(), node.place)?;
            self.anchored.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.shape, parent.key.take()) {
            (Shape::List(items), _) => items.push(node),
            (Shape::Map(entries), Some((key, place))) => {
                let mut value = node;
                if matches!(&value.shape, Shape::Scalar(scalar) if scalar.text.is_empty()) {
                    // A value that is not there has its place at whatever comes next.
                    value.place = if value.place.line == place.line { value.place } else { place };
                }
                entries.push(Entry { key, place, value });
            }
            (Shape::Map(_), None) => match node.shape {
                Shape::Scalar(scalar) => parent.key = Some((scalar.text, node.place)),
                _ => return problem(node.place, "a key is a single word", ""),
            },
            (Shape::Scalar(_), _) => unreachable!("only lists and mappings are opened"),
        }
        Ok(())
    }

    fn place(&self, at: Marker) -> Place {
        Place { line: at.line(), column: at.col() + 1, length: 1 }
    }

    /// How many characters of its first line a scalar takes.
    fn scalar_length(&self, text: &str, style: ScalarStyle, span: Span) -> usize {
        let rest = self.chars.get(span.start.index()..).unwrap_or_default();
        let rest = || rest.iter().copied().take_while(|&c| c != '\n');
        let length = match style {
            ScalarStyle::Plain if span.start.line() == span.end.line() => text.chars().count(),
            ScalarStyle::SingleQuoted => quoted_length(rest(), '\''),
            ScalarStyle::DoubleQuoted => quoted_length(rest(), '"'),
            _ => rest().count(),
        };
        length.max(1)
    }

    /// Says in our words what the parser means, and which bracket may be left open.
    fn explain(&self, error: &ScanError) -> Unreadable {
        let at = error.marker();
        let at = Place { line: at.line().max(1), column: at.col() + 1, length: 1 };
        let (message, help) = in_our_words(error.info());
        let Some(open) = self.open.iter().rev().find(|open| open.bracketed) else {
            return Unreadable::new(Some(at), message, help);
        };
        let (what, sign) = match open.node.shape {
            Shape::List(_) => ("list", "]"),
            _ => ("mapping", "}"),
        };
        let begin = open.node.place;
        if at.line > self.lines {
            let message = format!("the {what} that begins here is not closed");
            return Unreadable::new(Some(begin), message, &format!("add the missing `{sign}`"));
        }
        let other = (at.line > begin.line).then(|| {
            (begin, format!("the {what} that begins here is still open: is a `{sign}` missing?"))
        });
        Unreadable { other, ..Unreadable::new(Some(at), message, help) }
    }
}

fn problem<T>(place: Place, message: &str, help: &str) -> Result<T, Box<Unreadable>> {
    Err(Box::new(Unreadable::new(Some(place), message, help)))
}

/// How long a quoted scalar is that begins `rest`, up to the end of the line at most.
fn quoted_length(rest: impl Iterator<Item = char>, quote: char) -> usize {
    let mut length = 0;
    let mut escaped = false;
    for c in rest {
        length += 1;
        if length > 1 && c == quote && !escaped {
            break;
        }
        escaped = quote == '"' && c == '\\' && !escaped;
    }
    length
}

/// The parser's messages name rules of YAML; the frequent ones have frequent reasons.
fn in_our_words(info: &str) -> (String, &'static str) {
    const COLON: &str = "put a value that contains `: ` in quotes; if there is none, look at how this line is indented, and at the line before it";
    const QUOTE: &str = "the quoted text that begins here is not closed";
    const WORDS: [(&str, &str, &str); 10] = [
        ("tab", "a tab stands where YAML allows only spaces", "indent with spaces"),
        ("mapping values are not allowed", "a `:` stands where no key can be", COLON),
        ("illegal placement of ':'", "a `:` stands where no key can be", COLON),
        (
            "did not find expected key",
            "this line does not continue the mapping that it stands in",
            "indent it like its neighbours, as `key: value`",
        ),
        ("simple key expect", "this is not `key: value`", "write a `:` and a space after the key"),
        (
            "did not find expected '-'",
            "this line does not continue the list that it stands in",
            "begin it with `- `, indented like the other items",
        ),
        ("quoted scalar, found unexpected end", QUOTE, "add the missing quote"),
        (
            "indentation in quoted scalar",
            QUOTE,
            "add the missing quote, or indent the lines it goes on in",
        ),
        ("only valid inside a block", "a `-` or `?` stands where none can be", ""),
        ("unknown anchor", "no anchor (`&`) with this alias's (`*`) name stands before it", ""),
    ];
    match WORDS.iter().find(|(part, _, _)| info.contains(part)) {
        Some((_, message, help)) => ((*message).to_owned(), help),
        None => (format!("this is not YAML: {info}"), ""),
    }
}
