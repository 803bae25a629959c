//! Variables and tests: the little language of `<esi:vars>` and `<esi:when test="…">`.
//!
//! Known are `HTTP_HOST`, `HTTP_COOKIE`, `QUERY_STRING`, `HTTP_ACCEPT_LANGUAGE` and `HTTP_USER_AGENT`, with `{key}` for one
//! cookie or parameter, or to ask whether a language is named (`true`, `false`), and `|default` behind it. Tests compare
//! (`==`, `!=`, `<`, `<=`, `>`, `>=`: as numbers where both sides are numbers), and put together (`&`, `|`, `!`, parentheses).
//! A variable alone holds if it has a value that is neither empty nor `false`. What cannot be read never holds.

use super::Visit;

/// Parentheses and negations within each other, at most.
const MAX_DEPTH: usize = 16;

/// What a variable is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Name {
    Host,
    Cookie,
    Query,
    AcceptLanguage,
    UserAgent,
}

/// `$(NAME{key}|default)`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Variable {
    name: Name,
    key: Option<Box<[u8]>>,
    default: Box<[u8]>,
}

/// What `test` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Test {
    /// It could not be read.
    Never,
    Any(Vec<Test>),
    All(Vec<Test>),
    Not(Box<Test>),
    Holds(Operand),
    Compare(Operand, Relation, Operand),
}

/// One side of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Operand {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Variable {
    /// Reads what begins with `$(`. Returns it and its bytes.
    pub(crate) fn read(text: &[u8]) -> Option<(Self, usize)> {
        /// Longer ones are text.
        const MAX_BYTES: usize = 512;
        let text = &text[..text.len().min(MAX_BYTES)];
        let inner = text.strip_prefix(b"$(")?;
        let end = inner.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'_')?;
        let name = match &inner[..end] {
            b"HTTP_HOST" => Name::Host,
            b"HTTP_COOKIE" => Name::Cookie,
            b"QUERY_STRING" => Name::Query,
            b"HTTP_ACCEPT_LANGUAGE" => Name::AcceptLanguage,
            b"HTTP_USER_AGENT" => Name::UserAgent,
            _ => return None,
        };
        let mut rest = &inner[end..];
        let mut key = None;
        if let Some(after) = rest.strip_prefix(b"{") {
            let end = memchr::memchr(b'}', after)?;
            key = Some(after[..end].into());
            rest = &after[end + 1..];
        }
        let mut default = Box::default();
        if let Some(after) = rest.strip_prefix(b"|") {
            let (value, length) = match after.first()? {
                b'\'' => {
                    let end = memchr::memchr(b'\'', &after[1..])?;
                    (&after[1..=end], end + 2)
                }
                _ => {
                    let end = memchr::memchr(b')', after)?;
                    (&after[..end], end)
                }
            };
            default = value.into();
            rest = &after[length..];
        }
        let rest = rest.strip_prefix(b")")?;
        Some((Self { name, key, default }, text.len() - rest.len()))
    }

    /// Its value for this visitor.
    pub(crate) fn value(&self, visit: &dyn Visit) -> Vec<u8> {
        let lines = |name: &str| {
            let mut all = Vec::new();
            visit.lines(name, &mut |line| {
                if !all.is_empty() {
                    all.extend_from_slice(if name == "cookie" { b"; " } else { b", " });
                }
                all.extend_from_slice(line);
            });
            all
        };
        let value = match (self.name, &self.key) {
            (Name::Host, None) => visit.host().to_vec(),
            (Name::Cookie, None) => lines("cookie"),
            (Name::Cookie, Some(key)) => pair(&lines("cookie"), b';', key),
            (Name::Query, None) => visit.query().to_vec(),
            (Name::Query, Some(key)) => pair(visit.query(), b'&', key),
            (Name::AcceptLanguage, None) => lines("accept-language"),
            (Name::AcceptLanguage, Some(key)) => {
                let all = lines("accept-language");
                let named = all.split(|byte| *byte == b',').any(|member| {
                    let tag = member.split(|byte| *byte == b';').next().unwrap_or_default();
                    tag.trim_ascii().eq_ignore_ascii_case(key)
                });
                if named { b"true".to_vec() } else { b"false".to_vec() }
            }
            (Name::UserAgent, None) => lines("user-agent"),
            (Name::Host | Name::UserAgent, Some(_)) => Vec::new(),
        };
        if value.is_empty() { self.default.to_vec() } else { value }
    }

    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.key.as_ref().map_or(0, |key| key.len()) + self.default.len()
    }
}

/// The value of the first pair of this name.
fn pair(list: &[u8], separator: u8, key: &[u8]) -> Vec<u8> {
    let pairs = list.split(|byte| *byte == separator).map(<[u8]>::trim_ascii);
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(key)?.strip_prefix(b"="));
    values.next().unwrap_or_default().to_vec()
}

/// Appends a value to a page in such a way that it is text there and nothing else: it came from a stranger.
pub(crate) fn push_escaped(page: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'&' => page.extend_from_slice(b"&amp;"),
            b'<' => page.extend_from_slice(b"&lt;"),
            b'>' => page.extend_from_slice(b"&gt;"),
            b'"' => page.extend_from_slice(b"&quot;"),
            b'\'' => page.extend_from_slice(b"&#39;"),
            _ => page.push(*byte),
        }
    }
}

impl Operand {
    fn value(&self, visit: &dyn Visit) -> Vec<u8> {
        match self {
            Self::Text(text) => text.to_vec(),
            Self::Variable(variable) => variable.value(visit),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Variable(variable) => variable.weight(),
        }
    }
}

impl Test {
    /// Reads a whole test.
    pub(crate) fn read(text: &[u8]) -> Self {
        let mut reader = Reader { rest: text };
        let test = reader.any(0);
        reader.skip_space();
        test.filter(|_| reader.rest.is_empty()).unwrap_or(Self::Never)
    }

    /// Whether it holds for this visitor.
    pub(crate) fn holds(&self, visit: &dyn Visit) -> bool {
        match self {
            Self::Never => false,
            Self::Any(tests) => tests.iter().any(|test| test.holds(visit)),
            Self::All(tests) => tests.iter().all(|test| test.holds(visit)),
            Self::Not(test) => !test.holds(visit),
            Self::Holds(operand) => {
                let value = operand.value(visit);
                !value.is_empty() && value != b"false"
            }
            Self::Compare(left, relation, right) => {
                let (left, right) = (left.value(visit), right.value(visit));
                let order = match (number(&left), number(&right)) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    (_, _) => left.cmp(&right),
                };
                match relation {
                    Relation::Equal => order.is_eq(),
                    Relation::NotEqual => order.is_ne(),
                    Relation::Less => order.is_lt(),
                    Relation::LessOrEqual => order.is_le(),
                    Relation::Greater => order.is_gt(),
                    Relation::GreaterOrEqual => order.is_ge(),
                }
            }
        }
    }

    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Never => 0,
                Self::Any(tests) | Self::All(tests) => tests.iter().map(Self::weight).sum(),
                Self::Not(test) => test.weight(),
                Self::Holds(operand) => operand.weight(),
                Self::Compare(left, _, right) => left.weight() + right.weight(),
            }
    }
}

fn number(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a test from left to right: `|` binds least, then `&`, then `!` and comparisons.
struct Reader<'t> {
    rest: &'t [u8],
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, token: &[u8]) -> bool {
        self.skip_space();
        let found = self.rest.strip_prefix(token);
        if let Some(rest) = found {
            self.rest = rest;
        }
        found.is_some()
    }

    fn any(&mut self, depth: usize) -> Option<Test> {
        let first = self.all(depth)?;
        let mut tests = vec![first];
        while self.take(b"||") || self.take(b"|") {
            tests.push(self.all(depth)?);
        }
        if tests.len() == 1 { tests.pop() } else { Some(Test::Any(tests)) }
    }

    fn all(&mut self, depth: usize) -> Option<Test> {
        let first = self.one(depth)?;
        let mut tests = vec![first];
        while self.take(b"&&") || self.take(b"&") {
            tests.push(self.one(depth)?);
        }
        if tests.len() == 1 { tests.pop() } else { Some(Test::All(tests)) }
    }

    fn one(&mut self, depth: usize) -> Option<Test> {
        if depth >= MAX_DEPTH {
            return None;
        }
        if self.take(b"!") {
            return Some(Test::Not(Box::new(self.one(depth + 1)?)));
        }
        // `$(` is a variable, so a parenthesis alone is one.
        if self.take(b"(") {
            let inner = self.any(depth + 1)?;
            return self.take(b")").then_some(inner);
        }
        let left = self.operand()?;
        let relations: [(&[u8], Relation); 6] = [
            (b"==", Relation::Equal),
            (b"!=", Relation::NotEqual),
            (b"<=", Relation::LessOrEqual),
            (b">=", Relation::GreaterOrEqual),
            (b"<", Relation::Less),
            (b">", Relation::Greater),
        ];
        for (token, relation) in relations {
            if self.take(token) {
                return Some(Test::Compare(left, relation, self.operand()?));
            }
        }
        Some(Test::Holds(left))
    }

    fn operand(&mut self) -> Option<Operand> {
        self.skip_space();
        match self.rest.first()? {
            b'$' => {
                let (variable, length) = Variable::read(self.rest)?;
                self.rest = &self.rest[length..];
                Some(Operand::Variable(variable))
            }
            b'\'' => {
                let end = memchr::memchr(b'\'', &self.rest[1..])?;
                let text = &self.rest[1..=end];
                self.rest = &self.rest[end + 2..];
                Some(Operand::Text(text.into()))
            }
            _ => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                let end = self.rest.iter().position(|byte| !word(byte)).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                (!text.is_empty()).then(|| Operand::Text(text.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    struct Known;

    impl Visit for Known {
        fn host(&self) -> &[u8] {
            b"a.test"
        }

        fn query(&self) -> &[u8] {
            b"page=12&name=<b>&empty="
        }

        fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
            match name {
                "cookie" => {
                    line(b"sid=abc; group=Advanced");
                    line(b"last=1");
                }
                "accept-language" => line(b"de-DE, en;q=0.5"),
                "user-agent" => line(b"Mozilla/5.0"),
                _ => {}
            }
        }
    }

    #[track_caller]
    fn check_value(text: &str, expected: Option<&str>) {
        let read = Variable::read(format!("{text} behind").as_bytes());
        let value = read.map(|(variable, length)| {
            assert_eq!(length, text.len(), "{text}");
            String::from_utf8(variable.value(&Known)).unwrap()
        });
        assert_eq!(value.as_deref(), expected, "{text}");
    }

    #[test]
    fn variables_have_values() {
        check_value("$(HTTP_HOST)", Some("a.test"));
        check_value("$(HTTP_COOKIE{group})", Some("Advanced"));
        check_value("$(HTTP_COOKIE{last})", Some("1"));
        check_value("$(HTTP_COOKIE)", Some("sid=abc; group=Advanced; last=1"));
        check_value("$(HTTP_COOKIE{none})", Some(""));
        check_value("$(HTTP_COOKIE{none}|nobody)", Some("nobody"));
        check_value("$(HTTP_COOKIE{none}|'no body)')", Some("no body)"));
        check_value("$(QUERY_STRING)", Some("page=12&name=<b>&empty="));
        check_value("$(QUERY_STRING{page})", Some("12"));
        check_value("$(QUERY_STRING{empty}|x)", Some("x"));
        check_value("$(HTTP_ACCEPT_LANGUAGE{EN})", Some("true"));
        check_value("$(HTTP_ACCEPT_LANGUAGE{de})", Some("false"));
        check_value("$(HTTP_USER_AGENT)", Some("Mozilla/5.0"));
        check_value("$(HTTP_USER_AGENT{os})", Some(""));
        for text in ["$(OTHER)", "$(HTTP_HOST", "$(HTTP_COOKIE{a)", "$(HTTP_HOST|'a)", "$()", "$(HTTP_HOST }"]
        {
            check_value(text, None);
        }
    }

    #[test]
    fn what_strangers_say_is_text() {
        let mut page = Vec::new();
        push_escaped(&mut page, b"<script>alert(\"1\"&'2')</script>");
        assert_eq!(page, b"&lt;script&gt;alert(&quot;1&quot;&amp;&#39;2&#39;)&lt;/script&gt;");
    }

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(Test::read(text.as_bytes()).holds(&Known), expected, "{text}");
    }

    #[test]
    fn tests_hold_or_not() {
        check("$(HTTP_COOKIE{group})=='Advanced'", true);
        check("$(HTTP_COOKIE{group}) == 'advanced'", false);
        check("$(HTTP_COOKIE{group}) != 'Basic'", true);
        check("$(QUERY_STRING{page}) > 9", true);
        check("$(QUERY_STRING{page}) < '9'", false);
        check("'b' > 'a'", true);
        check("12 >= 12 & 12 <= 12", true);
        check("$(HTTP_COOKIE{none})", false);
        check("!$(HTTP_COOKIE{none})", true);
        check("$(HTTP_ACCEPT_LANGUAGE{en}) && !($(HTTP_HOST)=='b.test')", true);
        check("'' | 'x' & ''", false);
        check("'x' | 'x' & ''", true);
        check("('x' | 'x') & ''", false);
    }

    #[test]
    fn what_cannot_be_read_never_holds() {
        for text in ["", "=", "'a' ==", "'a", "('a'", "'a' 'b'", "$(NOBODY)", "1 = 1", "&", "! "] {
            assert_eq!(Test::read(text.as_bytes()), Test::Never, "{text}");
        }
        let deep = "(".repeat(10_000) + "1";
        assert_eq!(Test::read(deep.as_bytes()), Test::Never);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[$()!&|'{}=<> A-Z_a1]{0,60}") {
            let _ = Test::read(text.as_bytes()).holds(&Known);
            let _ = Variable::read(text.as_bytes());
        }
    }
}
