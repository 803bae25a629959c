//! Finds the ESI tags of a page, in one pass from left to right.
//!
//! Whatever the bytes are, there is a template for them: what is not a whole tag is text, a tag that nobody knows is left out,
//! and a block that is never closed is text with its tags put in. The time is linear: every byte is looked at a bounded number
//! of times, whatever is left open or nested.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;

use super::expression::{Test, Variable};
use super::template::{Choose, Include, Part, Source, Span, Template, Try};

/// A longer tag is text.
const MAX_TAG_BYTES: usize = 8 * 1024;

/// Tags whose end is not found within [`MAX_TAG_BYTES`]; behind so many the rest of the page is text. Each costs that many
/// bytes of looking, so there must not be one for every few bytes.
const MAX_ENDLESS_TAGS: usize = 64;

/// Blocks within each other; what opens deeper is text.
const MAX_BLOCKS: usize = 32;

/// Parts of a page; behind so many the rest of the page is text. A body of tags alone would else take several times its
/// memory.
const MAX_PARTS: usize = 32 * 1024;

/// Reads a body. One of more than 4 GiB is text.
pub(crate) fn parse(body: &[u8]) -> Template {
    let mut parser = Parser {
        body,
        text: 0,
        frames: vec![Frame::new(Kind::Page, 0..0)],
        comment_ends: CommentEnds::default(),
        endless: 0,
        parts: 0,
        strays: 0,
        is_personal: false,
    };
    if u32::try_from(body.len()).is_ok() {
        parser.read();
    }
    parser.finish()
}

/// What a frame is the inside of.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Page,
    Vars,
    Try,
    Attempt,
    Except,
    Choose,
    When(Test),
    Otherwise,
}

/// A block that is open.
#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// The tag that opened it.
    tag: Range<usize>,
    parts: Vec<Part>,
    /// The blocks right in it, where it is `try` or `choose`, each with the number of parts that stand before it.
    branches: Vec<(usize, Kind, Vec<Part>)>,
}

impl Frame {
    fn new(kind: Kind, tag: Range<usize>) -> Self {
        Self { kind, tag, parts: Vec::new(), branches: Vec::new() }
    }

    /// Whether text right in it belongs to the page.
    fn shows(&self) -> bool {
        match self.kind {
            Kind::Page | Kind::Vars | Kind::Attempt | Kind::Except | Kind::When(_) | Kind::Otherwise => true,
            Kind::Try | Kind::Choose => false,
        }
    }
}

/// Where the comments of `<!--esi … -->` end.
#[derive(Debug, Default)]
struct CommentEnds {
    /// The next `-->`, while one is open.
    next: Option<usize>,
    /// The last one of the page, once somebody asked.
    last: Option<Option<usize>>,
}

/// What stands at a place where a tag may begin.
enum Found {
    /// `<!--esi`.
    Comment,
    /// A whole tag and its end.
    Tag { closes: bool, name: Range<usize>, attributes: Range<usize>, end: usize },
    /// No tag; what is to be looked at next begins here.
    Text(usize),
}

struct Parser<'b> {
    body: &'b [u8],
    /// Where the text begins that is not in a part yet.
    text: usize,
    /// At least the page.
    frames: Vec<Frame>,
    comment_ends: CommentEnds,
    endless: usize,
    parts: usize,
    strays: u32,
    is_personal: bool,
}

impl Parser<'_> {
    fn read(&mut self) {
        let body = self.body;
        let mut removed = RemovedEnds::default();
        let mut at = 0;
        while self.parts < MAX_PARTS && self.endless < MAX_ENDLESS_TAGS {
            let tag = next_tag(body, at);
            if let Some(end) = self.comment_end(at).filter(|end| tag.is_none_or(|tag| *end < tag)) {
                self.take(end..end + 3);
                self.comment_ends.next = None;
                at = end + 3;
                continue;
            }
            let Some(start) = tag else { return };
            match self.found(start) {
                Found::Text(next) => at = next,
                Found::Comment if self.opens_comment(start) => {
                    at = start + b"<!--esi".len();
                    self.take(start..at);
                }
                Found::Comment => at = start + b"<!--esi".len(),
                Found::Tag { closes, name, attributes, end } => {
                    let name = &body[name];
                    if !closes && name == b"remove" && !body[..end].ends_with(b"/>") {
                        match removed.after(body, end) {
                            Some(end) => {
                                self.take(start..end);
                                at = end;
                            }
                            None => at = end,
                        }
                        continue;
                    }
                    at = end;
                    if closes {
                        self.take(start..end);
                        self.close(name);
                    } else {
                        self.open(start..end, name, &body[attributes]);
                    }
                }
            }
        }
    }

    /// The next end of an open comment at or behind `at`.
    fn comment_end(&mut self, at: usize) -> Option<usize> {
        let next = self.comment_ends.next?;
        if next < at {
            // A tag went over it.
            self.comment_ends.next = memmem::find(&self.body[at..], b"-->").map(|found| at + found);
        }
        self.comment_ends.next
    }

    /// Opens a comment, if it ends somewhere. One in the other ends with it.
    fn opens_comment(&mut self, start: usize) -> bool {
        let body = self.body;
        let last = *self.comment_ends.last.get_or_insert_with(|| memmem::rfind(body, b"-->"));
        if last.is_none_or(|last| last < start) {
            return false;
        }
        if self.comment_ends.next.is_none() {
            self.comment_ends.next = memmem::find(&body[start..], b"-->").map(|found| start + found);
        }
        true
    }

    fn found(&mut self, start: usize) -> Found {
        let body = self.body;
        if body[start..].starts_with(b"<!--esi") {
            return Found::Comment;
        }
        let closes = body[start + 1] == b'/';
        let name_start = start + if closes { b"</esi:".len() } else { b"<esi:".len() };
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let length = body[name_start..].iter().take(32).take_while(|byte| is_name(byte)).count();
        let name = name_start..name_start + length;
        if name.is_empty() {
            return Found::Text(name_start);
        }
        let most = body.len().min(start + MAX_TAG_BYTES);
        let mut quote = None;
        for (at, byte) in body[..most].iter().enumerate().skip(name.end) {
            match (quote, byte) {
                (None, b'>') => {
                    let attributes = name.end..at - usize::from(at > name.end && body[at - 1] == b'/');
                    return Found::Tag { closes, name, attributes, end: at + 1 };
                }
                (None, b'"' | b'\'') => quote = Some(*byte),
                // The next tag begins before this one has ended.
                (None, b'<') => return Found::Text(at),
                (Some(open), byte) if *byte == open => quote = None,
                (None | Some(_), _) => {}
            }
        }
        self.endless += 1;
        Found::Text(name.end)
    }

    fn open(&mut self, tag: Range<usize>, name: &[u8], attributes: &[u8]) {
        let empty = self.body[..tag.end].ends_with(b"/>");
        let kind = match name {
            b"include" => {
                self.take(tag);
                return self.include(attributes);
            }
            b"comment" => return self.take(tag),
            b"vars" => Kind::Vars,
            b"try" => Kind::Try,
            b"attempt" => Kind::Attempt,
            b"except" => Kind::Except,
            b"choose" => Kind::Choose,
            b"when" => {
                self.is_personal = true;
                let test = attribute(attributes, b"test").map_or(Test::Never, |text| Test::read(&text));
                self.strays += u32::from(test == Test::Never);
                Kind::When(test)
            }
            b"otherwise" => Kind::Otherwise,
            _ => {
                self.strays += 1;
                return self.take(tag);
            }
        };
        if empty {
            self.take(tag);
        } else if self.frames.len() <= MAX_BLOCKS {
            self.take(tag.clone());
            self.frames.push(Frame::new(kind, tag));
        }
    }

    fn include(&mut self, attributes: &[u8]) {
        let source = |name: &[u8]| attribute(attributes, name).map(|value| Source::read(&value));
        let include = Include {
            src: source(b"src").unwrap_or(Source::Unusable),
            alt: source(b"alt"),
            or_nothing: attribute(attributes, b"onerror").is_some_and(|value| value == b"continue"),
        };
        self.push(Part::Include(Arc::new(include)));
    }

    /// Closes the innermost block of this name; blocks within it that are still open are text.
    fn close(&mut self, name: &[u8]) {
        let is_this = |kind: &Kind| match kind {
            Kind::Page => false,
            Kind::Vars => name == b"vars",
            Kind::Try => name == b"try",
            Kind::Attempt => name == b"attempt",
            Kind::Except => name == b"except",
            Kind::Choose => name == b"choose",
            Kind::When(_) => name == b"when",
            Kind::Otherwise => name == b"otherwise",
        };
        let Some(which) = self.frames.iter().rposition(|frame| is_this(&frame.kind)) else {
            // The end of what needs none, such as `</esi:include>`, is left out with it.
            self.strays += u32::from(!matches!(name, b"include" | b"comment" | b"remove"));
            return;
        };
        while self.frames.len() > which + 1 {
            self.unfold();
        }
        let Some(frame) = self.frames.pop() else { return };
        if !frame.shows() {
            let lost = frame.parts.iter().filter(|part| matches!(part, Part::Include(_))).count();
            self.strays += lost as u32;
        }
        let Frame { kind, parts, branches, .. } = frame;
        match kind {
            Kind::Page | Kind::Vars => parts.into_iter().for_each(|part| self.push(part)),
            Kind::Attempt | Kind::Except => self.branch(Kind::Try, kind, parts),
            Kind::When(_) | Kind::Otherwise => self.branch(Kind::Choose, kind, parts),
            Kind::Try => {
                let mut block = Try::default();
                for (_, kind, parts) in branches {
                    match kind {
                        Kind::Attempt => block.attempt = parts.into(),
                        Kind::Except => block.except = parts.into(),
                        Kind::Page
                        | Kind::Vars
                        | Kind::Try
                        | Kind::Choose
                        | Kind::When(_)
                        | Kind::Otherwise => {}
                    }
                }
                self.push(Part::Try(Arc::new(block)));
            }
            Kind::Choose => {
                let (mut whens, mut otherwise) = (Vec::new(), Box::default());
                for (_, kind, parts) in branches {
                    match kind {
                        Kind::When(test) => whens.push((test, parts.into())),
                        Kind::Otherwise => otherwise = parts.into(),
                        Kind::Page | Kind::Vars | Kind::Try | Kind::Choose | Kind::Attempt | Kind::Except => {
                        }
                    }
                }
                self.push(Part::Choose(Arc::new(Choose { whens: whens.into(), otherwise })));
            }
        }
    }

    /// Puts a block into the one that it belongs right into. Anywhere else its tags mean nothing.
    fn branch(&mut self, within: Kind, kind: Kind, parts: Vec<Part>) {
        match self.frames.last_mut() {
            Some(frame) if frame.kind == within => frame.branches.push((frame.parts.len(), kind, parts)),
            Some(_) | None => {
                self.strays += 1;
                parts.into_iter().for_each(|part| self.push(part));
            }
        }
    }

    /// The innermost block is never closed. A branch ends with its block; else the tag is text, and what is in it stays
    /// where it is.
    fn unfold(&mut self) {
        let Some(Frame { kind, tag, parts, branches }) = self.frames.pop() else { return };
        let within = match kind {
            Kind::Attempt | Kind::Except => Some(Kind::Try),
            Kind::When(_) | Kind::Otherwise => Some(Kind::Choose),
            Kind::Page | Kind::Vars | Kind::Try | Kind::Choose => None,
        };
        if let Some(within) = within
            && self.frames.last().is_some_and(|frame| frame.kind == within)
        {
            return self.branch(within, kind, parts);
        }
        self.push(Part::Text(span(tag)));
        let mut branches = branches.into_iter().peekable();
        for (index, part) in parts.into_iter().enumerate() {
            while let Some((_, _, within)) = branches.next_if(|(at, _, _)| *at <= index) {
                within.into_iter().for_each(|part| self.push(part));
            }
            self.push(part);
        }
        branches.flat_map(|(_, _, parts)| parts).for_each(|part| self.push(part));
    }

    /// Takes a tag out of the text: what stands before it goes into the open block.
    fn take(&mut self, tag: Range<usize>) {
        let text = self.text..tag.start;
        self.text = tag.end;
        if text.is_empty() {
            return;
        }
        if !self.frames.iter().any(|frame| frame.kind == Kind::Vars) {
            return self.push(Part::Text(span(text)));
        }
        let mut from = text.start;
        let mut looked = from;
        while let Some(at) = memmem::find(&self.body[looked..text.end], b"$(").map(|found| looked + found) {
            let Some((variable, length)) = Variable::read(&self.body[at..text.end]) else {
                looked = at + 2;
                continue;
            };
            if at > from {
                self.push(Part::Text(span(from..at)));
            }
            self.is_personal = true;
            self.push(Part::Variable(Arc::new(variable)));
            (from, looked) = (at + length, at + length);
            if self.parts >= MAX_PARTS {
                break;
            }
        }
        if from < text.end {
            self.push(Part::Text(span(from..text.end)));
        }
    }

    fn push(&mut self, part: Part) {
        // The page is always there.
        if let Some(frame) = self.frames.last_mut() {
            self.parts += 1;
            frame.parts.push(part);
        }
    }

    fn finish(mut self) -> Template {
        self.take(self.body.len()..self.body.len());
        while self.frames.len() > 1 {
            self.unfold();
        }
        let parts = self.frames.pop().map(|page| page.parts).unwrap_or_default();
        Template {
            parts: parts.into(),
            strays: self.strays,
            is_personal: self.is_personal,
            ..Template::default()
        }
    }
}

fn span(range: Range<usize>) -> Span {
    // The length of the body was looked at.
    Span { start: range.start as u32, end: range.end as u32 }
}

/// Where the next tag may begin: `<esi:`, `</esi:` or `<!--esi`.
fn next_tag(body: &[u8], from: usize) -> Option<usize> {
    let starts = memmem::find_iter(&body[from..], b"esi").map(|found| from + found);
    starts
        .filter_map(|at| {
            let before = &body[from..at];
            let named = body.get(at + 3) == Some(&b':');
            if before.ends_with(b"<!--") {
                // `<!--esi:` and such are somebody else's.
                body.get(at + 3).is_none_or(|byte| !byte.is_ascii_alphanumeric()).then(|| at - 4)
            } else if named && before.ends_with(b"</") {
                Some(at - 2)
            } else if named && before.ends_with(b"<") {
                Some(at - 1)
            } else {
                None
            }
        })
        .next()
}

/// Where `</esi:remove>` stands.
#[derive(Default)]
struct RemovedEnds {
    /// Once it was looked for in vain there is none further on either.
    none_left: bool,
}

impl RemovedEnds {
    /// Behind the next one.
    fn after(&mut self, body: &[u8], from: usize) -> Option<usize> {
        const END: &[u8] = b"</esi:remove>";
        if self.none_left {
            return None;
        }
        let found = memmem::find(&body[from..], END);
        self.none_left = found.is_none();
        found.map(|found| from + found + END.len())
    }
}

/// The value of an attribute, its character references decoded.
fn attribute(attributes: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = attributes.trim_ascii_start();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        let after = after.trim_ascii_start();
        let Some(value) = after.strip_prefix(b"=") else {
            // Without a value.
            rest = if name.is_empty() { after.get(1..).unwrap_or_default() } else { after };
            continue;
        };
        let value = value.trim_ascii_start();
        let (value, after) = match value.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let end = memchr::memchr(*quote, &value[1..]).map_or(value.len(), |end| end + 1);
                (&value[1..end], value.get(end + 1..).unwrap_or_default())
            }
            Some(_) | None => {
                let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
                value.split_at(end)
            }
        };
        if name == wanted {
            return Some(decoded(value));
        }
        rest = after.trim_ascii_start();
    }
    None
}

/// A value with its character references replaced: the five of XML, and numbers.
fn decoded(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = memchr::memchr(b'&', rest) {
        plain.extend_from_slice(&rest[..start]);
        rest = &rest[start..];
        let end = rest.iter().take(10).position(|byte| *byte == b';');
        let character = end.and_then(|end| character(&rest[1..end]));
        match (character, end) {
            (Some(character), Some(end)) => {
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[end + 1..];
            }
            (_, _) => {
                plain.push(b'&');
                rest = &rest[1..];
            }
        }
    }
    plain.extend_from_slice(rest);
    plain
}

fn character(name: &[u8]) -> Option<char> {
    match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x' | b'X', digits @ ..] => {
            char::from_u32(u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?)
        }
        [b'#', digits @ ..] => char::from_u32(str::from_utf8(digits).ok()?.parse().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
