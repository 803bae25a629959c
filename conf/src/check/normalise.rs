//! `[[site.normalise]]`: request headers of which only a few values are told apart.

use std::ops::Range;

use super::rules::is_about_one_request;
use super::{Check, distinct};
use crate::config::{Class, HeaderName, HeaderPattern, HeaderText, LanguageTag, NormaliseHow, Normaliser};
use crate::error::Invalid;
use crate::file::{At, ClassTable, NormaliseTable};

/// Checks all normalisers of a site.
pub(super) fn check(check: &mut Check<'_>, list: At<Vec<At<NormaliseTable>>>) -> Vec<Normaliser> {
    let mut normalisers: Vec<(Normaliser, Range<usize>)> = Vec::with_capacity(list.value.len());
    for At { value: mut table, span } in list.value {
        let how = how(check, &mut table, &span);
        let header = table.header.and_then(|at| {
            let name = check.read(&at.span, changeable(&at.value))?;
            Some((name, at.span))
        });
        let into = table.into.and_then(|at| {
            let name = check.read(&at.span, changeable(&at.value))?;
            Some((name, at.span))
        });
        let (Some((header, header_span)), Some(how)) = (header, how) else { continue };
        if let Some((into, span)) = &into
            && *into == header
        {
            check.report(span, "this is the header that is read", "leave as out to change it in place");
            continue;
        }
        let (into, span) = match into {
            Some((into, span)) => (Some(into), span),
            None => (None, header_span.clone()),
        };
        let normaliser = Normaliser { header, how, into };
        if let Some((_, first)) = normalisers.iter().find(|(other, _)| target(other) == target(&normaliser)) {
            let line = check.line(first);
            check.report(
                &span,
                format!("{} is written in line {line} already", target(&normaliser)),
                "keep one of the two, or write the value to another header with as",
            );
            continue;
        }
        // Whether the one would see the client's header or the other's value is nothing to guess.
        let feeds = |one: &Normaliser, other: &Normaliser| {
            one.into.as_ref().is_some_and(|into| *into == other.header)
        };
        if let Some((_, first)) =
            normalisers.iter().find(|(other, _)| feeds(other, &normaliser) || feeds(&normaliser, other))
        {
            let line = check.line(first);
            check.report(
                &span,
                format!("this and the one in line {line} read and write the same header"),
                "write the value to another header with as",
            );
            continue;
        }
        normalisers.push((normaliser, span));
    }
    normalisers.into_iter().map(|(normaliser, _)| normaliser).collect()
}

/// The header that carries the value.
fn target(normaliser: &Normaliser) -> &HeaderName {
    normaliser.into.as_ref().unwrap_or(&normaliser.header)
}

/// The name of a header whose value may be changed.
fn changeable(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse()?;
    match name.as_str() {
        "cookie" => Err(Invalid::new("cookies are no single value", "use keep_cookies and key_cookies")),
        _ if is_about_one_request(&name) => Err(Invalid::new(
            format!("{text} is about one request or its connection and cannot be changed"),
            "name another header",
        )),
        _ => Ok(name),
    }
}

/// How the value is found; `None` only together with a mistake.
fn how(check: &mut Check<'_>, table: &mut NormaliseTable, span: &Range<usize>) -> Option<NormaliseHow> {
    let otherwise = table.otherwise.take();
    match (table.languages.take(), table.classes.take()) {
        (Some(_), Some(classes)) => {
            check.report(
                &classes.span,
                "a header is told apart by languages or by classes, not by both",
                "keep one of the two",
            );
            None
        }
        (None, None) => {
            if !check.damaged.contains(span) {
                check.report(
                    span,
                    "nothing says which values are told apart",
                    "add languages = [\"en\"] or classes = [{ value = \"mobile\", pattern = \"(?i)mobi\" }]",
                );
            }
            None
        }
        (Some(languages), None) => {
            if let Some(at) = otherwise {
                check.report(
                    &at.span,
                    "means nothing beside languages: the first one is for the rest",
                    "take it out",
                );
            }
            if languages.value.is_empty() && !check.damaged.contains(&languages.span) {
                check.report(&languages.span, "there is no language", "name those that the nodes speak");
            }
            let languages = distinct(check, languages, "language", |text| text.parse::<LanguageTag>());
            Some(NormaliseHow::Languages(languages))
        }
        (None, Some(classes)) => {
            if classes.value.is_empty() && !check.damaged.contains(&classes.span) {
                check.report(
                    &classes.span,
                    "there is no class",
                    "add one, such as { value = \"mobile\", pattern = \"(?i)mobi\" }",
                );
            }
            let classes = classes.value.into_iter().filter_map(|at| class(check, at.value)).collect();
            let otherwise = otherwise.and_then(|at| check.value::<HeaderText>(&at));
            Some(NormaliseHow::Classes { classes, otherwise })
        }
    }
}

/// One class. A missing key has been reported by its shape.
fn class(check: &mut Check<'_>, table: ClassTable) -> Option<Class> {
    let value = table.value.and_then(|at| check.value::<HeaderText>(&at));
    let pattern = table.pattern.and_then(|at| check.value::<HeaderPattern>(&at));
    Some(Class { value: value?, pattern: pattern? })
}
