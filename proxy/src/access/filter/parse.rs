//! From tokens to a filter.

use clearcoat_conf::{Invalid, LogField, LogFieldKind, parse_net, units};
use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};

use super::tokens::{Comparison, Token, Wrong, tokens};
use super::{MOST_BYTES, Order, Rule};

/// How deep parentheses and negations stand within each other at most.
const MOST_DEEP: usize = 32;

/// The most expressions of a filter.
const MOST_EXPRESSIONS: usize = 16;

/// Bytes that an expression takes at most when it is compiled, and again for what it learns while it is used.
const EXPRESSION_BYTES: usize = 256 * 1024;

/// How deep an expression stands within itself at most.
const EXPRESSION_DEEP: u32 = 50;

pub(super) fn filter(text: &str) -> Result<Rule, Wrong> {
    if text.len() > MOST_BYTES {
        let what = Invalid::new("the filter is too long", format!("write at most {MOST_BYTES} bytes"));
        return Err((0, what));
    }
    let tokens = tokens(text)?;
    if tokens.len() == 1 {
        return Ok(Rule::Any);
    }
    let mut reading = Reading { tokens: tokens.into_iter(), ahead: None, expressions: 0 };
    let rule = reading.either(0)?;
    match reading.next() {
        (_, Token::End) => Ok(rule),
        (at, Token::Close) => Err((at, Invalid::new("nothing is open that ) could close", "take it out"))),
        (at, _) => {
            Err((at, Invalid::new("two conditions stand side by side", "write && or || between them")))
        }
    }
}

struct Reading {
    tokens: std::vec::IntoIter<(usize, Token)>,
    /// One that was looked at and given back.
    ahead: Option<(usize, Token)>,
    expressions: usize,
}

impl Reading {
    fn next(&mut self) -> (usize, Token) {
        // Nobody asks behind the end.
        self.ahead.take().or_else(|| self.tokens.next()).unwrap_or((0, Token::End))
    }

    /// Whether the next token is this one, which is taken then.
    fn takes(&mut self, wanted: &Token) -> bool {
        let next = self.next();
        let takes = next.1 == *wanted;
        if !takes {
            self.ahead = Some(next);
        }
        takes
    }

    fn either(&mut self, depth: usize) -> Result<Rule, Wrong> {
        self.list(&Token::Or, Rule::Either, |reading| reading.both(depth))
    }

    fn both(&mut self, depth: usize) -> Result<Rule, Wrong> {
        self.list(&Token::And, Rule::All, |reading| reading.single(depth))
    }

    fn list(
        &mut self,
        between: &Token,
        several: fn(Vec<Rule>) -> Rule,
        mut one: impl FnMut(&mut Self) -> Result<Rule, Wrong>,
    ) -> Result<Rule, Wrong> {
        let first = one(self)?;
        if !self.takes(between) {
            return Ok(first);
        }
        let mut rules = vec![first, one(self)?];
        while self.takes(between) {
            rules.push(one(self)?);
        }
        Ok(several(rules))
    }

    fn single(&mut self, depth: usize) -> Result<Rule, Wrong> {
        let (at, token) = self.next();
        let wrong = |problem: &'static str, hint: &'static str| Err((at, Invalid::new(problem, hint)));
        if depth > MOST_DEEP {
            return wrong("too much stands within each other", "write it flatter");
        }
        match token {
            Token::Not => Ok(Rule::Not(Box::new(self.single(depth + 1)?))),
            Token::Open => {
                let rule = self.either(depth + 1)?;
                if self.takes(&Token::Close) {
                    return Ok(rule);
                }
                match self.next() {
                    (_, Token::End) => wrong("this ( is not closed", "write ) at the end"),
                    (at, _) => Err((
                        at,
                        Invalid::new("two conditions stand side by side", "write && or || between them"),
                    )),
                }
            }
            Token::Word(name) => {
                let field = LogField::find(&name).map_err(|what| (at, what))?;
                self.comparison(field)
            }
            Token::End => wrong("a condition is missing at the end", "write one, such as status>=500"),
            Token::Text(_) => wrong("a text stands where a field should", "write a field, such as path"),
            Token::Comparison(_) => wrong("a field is missing here", "write one, such as status>=500"),
            Token::And | Token::Or | Token::Close => {
                wrong("a condition is missing here", "write one, such as status>=500")
            }
        }
    }

    /// What follows a field.
    fn comparison(&mut self, field: LogField) -> Result<Rule, Wrong> {
        let comparison = match self.next() {
            (at, Token::Comparison(comparison)) => (at, comparison),
            other => {
                self.ahead = Some(other);
                return Ok(Rule::Present(field));
            }
        };
        let (sign_at, comparison) = comparison;
        let (at, value) = match self.next() {
            (at, Token::Word(value) | Token::Text(value)) => (at, value),
            (at, _) => {
                let hint = match field.kind() {
                    LogFieldKind::Text => "write a word, or a text in quotes",
                    LogFieldKind::Address => "write an address or a network, such as 10.0.0.0/8",
                    LogFieldKind::Number => "write a number",
                    LogFieldKind::Size => "write a size, such as 64KiB",
                    LogFieldKind::Duration => "write a time, such as 50ms",
                };
                return Err((at, Invalid::new("a value is missing here", hint)));
            }
        };
        match field.kind() {
            LogFieldKind::Text => self.of_text(field, (sign_at, comparison), (at, value)),
            LogFieldKind::Address => of_address((sign_at, comparison), (at, &value)),
            kind @ (LogFieldKind::Number | LogFieldKind::Size | LogFieldKind::Duration) => {
                let number = match kind {
                    LogFieldKind::Size => units::size(&value),
                    LogFieldKind::Duration => micros(&value),
                    LogFieldKind::Number | LogFieldKind::Text | LogFieldKind::Address => plain(&value),
                };
                let number = number.map_err(|what| (at, what))?;
                let (order, inverted) = match comparison {
                    Comparison::Equal => (Order::Equal, false),
                    Comparison::Unequal => (Order::Equal, true),
                    Comparison::Less => (Order::Less, false),
                    Comparison::AtMost => (Order::AtMost, false),
                    Comparison::More => (Order::More, false),
                    Comparison::AtLeast => (Order::AtLeast, false),
                    Comparison::Matches | Comparison::MatchesNot => {
                        let problem = format!("{} is a number, which no expression matches", field.name());
                        return Err((sign_at, Invalid::new(problem, "write ==, !=, <, <=, > or >=")));
                    }
                };
                Ok(perhaps_not(inverted, Rule::Number(field, order, number)))
            }
        }
    }

    fn of_text(
        &mut self,
        field: LogField,
        (sign_at, comparison): (usize, Comparison),
        (at, value): (usize, String),
    ) -> Result<Rule, Wrong> {
        let is = |value: String| Rule::Is(field, value.into_bytes().into());
        match comparison {
            Comparison::Equal => Ok(is(value)),
            Comparison::Unequal => Ok(perhaps_not(true, is(value))),
            Comparison::Matches | Comparison::MatchesNot => {
                self.expressions += 1;
                if self.expressions > MOST_EXPRESSIONS {
                    let hint = format!("write at most {MOST_EXPRESSIONS}; a|b matches both");
                    return Err((at, Invalid::new("there are too many expressions", hint)));
                }
                let expression = expression(&value).map_err(|what| (at, what))?;
                Ok(perhaps_not(comparison == Comparison::MatchesNot, Rule::Matches(field, expression)))
            }
            Comparison::Less | Comparison::AtMost | Comparison::More | Comparison::AtLeast => {
                let problem = format!("{} is a text, which is neither more nor less", field.name());
                Err((sign_at, Invalid::new(problem, "write ==, !=, ~ or !~")))
            }
        }
    }
}

fn of_address((sign_at, comparison): (usize, Comparison), (at, value): (usize, &str)) -> Result<Rule, Wrong> {
    let inverted = match comparison {
        Comparison::Equal => false,
        Comparison::Unequal => true,
        _ => {
            let what = Invalid::new("an address is compared by == and != only", "write client==10.0.0.0/8");
            return Err((sign_at, what));
        }
    };
    let net: IpNet = parse_net(value).map_err(|what| (at, what))?;
    Ok(perhaps_not(inverted, Rule::Within(net)))
}

fn perhaps_not(inverted: bool, rule: Rule) -> Rule {
    if inverted { Rule::Not(Box::new(rule)) } else { rule }
}

fn plain(text: &str) -> Result<u64, Invalid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Invalid::new(format!("{text:?} is not a number"), "write one, such as 500"))
}

/// A time in microseconds, which are a unit here: a hit takes some tens of them.
fn micros(text: &str) -> Result<u64, Invalid> {
    if let Some(number) = text.strip_suffix("us") {
        return plain(number).map_err(|_| {
            Invalid::new(format!("{text:?} is not a time"), "write one unit with us, such as 50us")
        });
    }
    units::duration(text).map(super::micros)
}

fn expression(text: &str) -> Result<Regex, Invalid> {
    let built = RegexBuilder::new(text)
        .size_limit(EXPRESSION_BYTES)
        .dfa_size_limit(EXPRESSION_BYTES)
        .nest_limit(EXPRESSION_DEEP)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            Invalid::new("the expression is too large", "repeat less: a{1000} is a thousand times a")
        }
        error => {
            // The last line says what it is; those before it draw the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            let problem = format!("the expression cannot be read: {reason}");
            Invalid::new(problem, "expressions are those of the regex crate, such as \"^/api/\"")
        }
    })
}
