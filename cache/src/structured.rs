//! Structured field values: reading a dictionary (RFC 9651 §4.2.2).
//!
//! Strict, as the RFC demands: what does not parse to its last character is no dictionary at all, so that two
//! recipients never read two different things. `Cache-Control` is not such a field and has its own lenient reader,
//! [`directive`](crate::directive). Nothing is copied but strings with escapes in them.

use std::borrow::Cow;

/// Members of a dictionary that are read; more make it unreadable. The least that RFC 9651 §3.2 asks for.
pub const MAX_MEMBERS: usize = 1024;
/// Items of an inner list, and parameters of one item; more make the dictionary unreadable. The least that RFC 9651
/// §3.1.1 and §3.1.2 ask for.
pub const MAX_PARTS: usize = 256;

/// A value without its parameters (RFC 9651 §3.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bare<'a> {
    /// At most fifteen digits and a sign.
    Integer(i64),
    /// In thousandths: `1.5` is 1500.
    Decimal(i64),
    /// ASCII between quotes, with its escapes resolved.
    String(Cow<'a, str>),
    /// A word without quotes.
    Token(&'a str),
    /// Bytes, still in base64: nobody here asks for them. They can be decoded.
    Bytes(&'a str),
    /// `?1` or `?0`; a member without a value is true.
    Boolean(bool),
    /// Seconds since 1970.
    Date(i64),
    /// Unicode, with its escapes resolved.
    Display(Cow<'a, str>),
}

/// The parameters of an item or inner list: each name once, the last value given.
pub type Parameters<'a> = Vec<(&'a str, Bare<'a>)>;

/// A value with its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item<'a> {
    /// The value.
    pub bare: Bare<'a>,
    /// What was said about it.
    pub parameters: Parameters<'a>,
}

/// What stands under one name of a dictionary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Member<'a> {
    /// One value.
    Item(Item<'a>),
    /// A list in parentheses, and the parameters of the list.
    InnerList(Vec<Item<'a>>, Parameters<'a>),
}

/// Names and what stands under them: each name once, in the order of first mention, with the value mentioned last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dictionary<'a>(Vec<(&'a str, Member<'a>)>);

/// The text is no dictionary, or has too many parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a structured dictionary, from byte {at}")]
pub struct NotADictionary {
    /// Where reading stopped.
    pub at: usize,
}

impl<'a> Dictionary<'a> {
    /// Reads a whole field value. A field of several lines must be joined with commas before. An empty text is an
    /// empty dictionary.
    ///
    /// # Errors
    ///
    /// [`NotADictionary`] if anything in the text is against RFC 9651 §4.2 or beyond [`MAX_MEMBERS`] and
    /// [`MAX_PARTS`].
    pub fn parse(text: &'a [u8]) -> Result<Self, NotADictionary> {
        // Only ASCII may stand in a structured field, which makes every position a character of its own.
        let at = text.iter().position(|byte| !byte.is_ascii());
        let ascii = match (at, std::str::from_utf8(text)) {
            (None, Ok(ascii)) => ascii,
            (at, _) => return Err(NotADictionary { at: at.unwrap_or(0) }),
        };
        let mut reader = Reader { text: ascii, at: 0 };
        reader.dictionary().map(Self).ok_or(NotADictionary { at: reader.at })
    }

    /// What stands under `name`.
    pub fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, member)| member)
    }

    /// All names with what stands under them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &Member<'a>)> {
        self.0.iter().map(|(name, member)| (*name, member))
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Goes through the text once. Each method reads one rule of RFC 9651 §4.2 and gives `None` where that fails.
struct Reader<'a> {
    /// ASCII only.
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn dictionary(&mut self) -> Option<Vec<(&'a str, Member<'a>)>> {
        let mut members = Vec::new();
        self.skip(b" ");
        while self.peek().is_some() {
            let name = self.key()?;
            let member = if self.take(b'=') {
                self.member()?
            } else {
                Member::Item(Item { bare: Bare::Boolean(true), parameters: self.parameters()? })
            };
            put(&mut members, name, member, MAX_MEMBERS)?;
            self.skip(b" \t");
            if self.peek().is_none() {
                break;
            }
            self.expect(b',')?;
            self.skip(b" \t");
            // A comma promises another member.
            self.peek()?;
        }
        Some(members)
    }

    fn member(&mut self) -> Option<Member<'a>> {
        if !self.take(b'(') {
            return self.item().map(Member::Item);
        }
        let mut items = Vec::new();
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Member::InnerList(items, self.parameters()?));
            }
            if items.len() == MAX_PARTS {
                return None;
            }
            items.push(self.item()?);
            if !matches!(self.peek()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        Some(Item { bare: self.bare()?, parameters: self.parameters()? })
    }

    fn parameters(&mut self) -> Option<Parameters<'a>> {
        let mut parameters = Vec::new();
        while self.take(b';') {
            self.skip(b" ");
            let name = self.key()?;
            let value = if self.take(b'=') { self.bare()? } else { Bare::Boolean(true) };
            put(&mut parameters, name, value, MAX_PARTS)?;
        }
        Some(parameters)
    }

    fn key(&mut self) -> Option<&'a str> {
        if !matches!(self.peek()?, b'a'..=b'z' | b'*') {
            return None;
        }
        Some(self.span(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn bare(&mut self) -> Option<Bare<'a>> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Bare::String),
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => Some(Bare::Token(self.span(is_token_byte))),
            b':' => self.bytes().map(Bare::Bytes),
            b'?' => {
                self.at += 1;
                let value = matches!(self.peek()?, b'1');
                (self.take(b'1') || self.take(b'0')).then_some(Bare::Boolean(value))
            }
            b'@' => {
                self.at += 1;
                let Bare::Integer(seconds) = self.number()? else { return None };
                Some(Bare::Date(seconds))
            }
            b'%' => self.display().map(Bare::Display),
            _ => None,
        }
    }

    /// An integer of up to 15 digits, or a decimal of up to 12 and 3 digits.
    fn number(&mut self) -> Option<Bare<'a>> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let whole = self.span(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 {
            return None;
        }
        let number: i64 = whole.parse().ok()?;
        if !self.take(b'.') {
            return Some(Bare::Integer(sign * number));
        }
        let fraction = self.span(|byte| byte.is_ascii_digit());
        let scale = match fraction.len() {
            1 => 100,
            2 => 10,
            3 => 1,
            _ => return None,
        };
        let fraction: i64 = fraction.parse().ok()?;
        (whole.len() <= 12).then_some(Bare::Decimal(sign * (number * 1000 + fraction * scale)))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.expect(b'"')?;
        let mut resolved: Option<String> = None;
        loop {
            let plain = self.span(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
            match self.next()? {
                b'"' => {
                    return Some(match resolved {
                        None => Cow::Borrowed(plain),
                        Some(text) => Cow::Owned(text + plain),
                    });
                }
                b'\\' => {
                    let escaped = self.next().filter(|byte| matches!(byte, b'"' | b'\\'))?;
                    let text = resolved.get_or_insert_default();
                    text.push_str(plain);
                    text.push(char::from(escaped));
                }
                _ => return None,
            }
        }
    }

    fn bytes(&mut self) -> Option<&'a str> {
        self.expect(b':')?;
        let encoded = self.span(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        self.expect(b':')?;
        // Padding may be left out, and stands nowhere but at the end; one character left over holds no byte.
        let digits = encoded.trim_end_matches('=');
        let padding = encoded.len() - digits.len();
        let fits = match digits.len() % 4 {
            0 => padding == 0,
            2 => padding <= 2,
            3 => padding <= 1,
            _ => false,
        };
        (fits && !digits.contains('=')).then_some(encoded)
    }

    fn display(&mut self) -> Option<Cow<'a, str>> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let mut resolved: Option<Vec<u8>> = None;
        loop {
            let plain = self.span(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'%'));
            match self.next()? {
                b'"' => {
                    let Some(mut bytes) = resolved else { return Some(Cow::Borrowed(plain)) };
                    bytes.extend_from_slice(plain.as_bytes());
                    return String::from_utf8(bytes).ok().map(Cow::Owned);
                }
                b'%' => {
                    let byte = self.hex()? << 4 | self.hex()?;
                    let bytes = resolved.get_or_insert_default();
                    bytes.extend_from_slice(plain.as_bytes());
                    bytes.push(byte);
                }
                _ => return None,
            }
        }
    }

    /// One hexadecimal digit; capitals are not allowed.
    fn hex(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.span(|byte| bytes.contains(&byte));
    }

    /// Takes all that follows and fits; perhaps nothing.
    fn span(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.bytes().position(|byte| !fits(byte)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }
}

/// What may follow in a token (RFC 9110 §5.6.2 `tchar`, and `:` and `/`).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

/// The place of a name stays the first, its value is the last. `None` if there are too many names.
fn put<'a, T>(list: &mut Vec<(&'a str, T)>, name: &'a str, value: T, most: usize) -> Option<()> {
    if let Some((_, known)) = list.iter_mut().find(|(known, _)| *known == name) {
        *known = value;
    } else if list.len() < most {
        list.push((name, value));
    } else {
        return None;
    }
    Some(())
}

#[cfg(test)]
mod tests;
