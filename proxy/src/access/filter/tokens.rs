//! A filter's text as words and signs.

use clearcoat_conf::Invalid;

/// Where in the text, in bytes, something is wrong, and what.
pub(super) type Wrong = (usize, Invalid);

/// A word or a sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// A name or a bare value.
    Word(String),
    /// A value in quotes.
    Text(String),
    And,
    Or,
    Not,
    Open,
    Close,
    Comparison(Comparison),
    /// There is no more.
    End,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    Matches,
    MatchesNot,
}

/// Signs, each before those that it begins with.
const SIGNS: [(&str, Token); 13] = [
    ("&&", Token::And),
    ("||", Token::Or),
    ("==", Token::Comparison(Comparison::Equal)),
    ("!=", Token::Comparison(Comparison::Unequal)),
    ("!~", Token::Comparison(Comparison::MatchesNot)),
    ("<=", Token::Comparison(Comparison::AtMost)),
    (">=", Token::Comparison(Comparison::AtLeast)),
    ("<", Token::Comparison(Comparison::Less)),
    (">", Token::Comparison(Comparison::More)),
    ("~", Token::Comparison(Comparison::Matches)),
    ("!", Token::Not),
    ("(", Token::Open),
    (")", Token::Close),
];

/// The tokens with their places; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = one(rest, first).map_err(|wrong| (at, wrong))?;
        found.push((at, token));
        at += length;
    }
    found.push((text.len(), Token::End));
    Ok(found)
}

/// The token with which a text begins, and how many bytes it takes.
fn one(rest: &str, first: char) -> Result<(Token, usize), Invalid> {
    if let Some((sign, token)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Ok((token.clone(), sign.len()));
    }
    match first {
        '"' | '\'' => return quoted(rest, first),
        '=' => return Err(Invalid::new("= compares nothing", "write ==")),
        '&' => return Err(Invalid::new("a single & is nothing", "write &&")),
        '|' => return Err(Invalid::new("a single | is nothing", "write ||")),
        _ => {}
    }
    let ends = |character: char| character.is_whitespace() || "()&|!=<>~\"'".contains(character);
    let length = rest.find(ends).unwrap_or(rest.len());
    Ok((Token::Word(rest[..length].to_owned()), length))
}

/// A text up to the quote with which it began. A backslash before that quote takes it in; all others stay as they are,
/// for expressions have many.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), Invalid> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Ok((Token::Text(text), at + 1));
        }
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some((_, next)) if next == quote => text.push(quote),
            Some((_, next)) => text.extend(['\\', next]),
            None => break,
        }
    }
    Err(Invalid::new("the text that begins here has no end", format!("end it with {quote}")))
}
