//! Lists of networks, in the configuration itself and in files of their own.

use super::{Check, text_file};
use crate::error::Invalid;
use crate::file::At;

/// The largest file of networks, in bytes: some hundred thousand lines.
const MAX_BYTES: u64 = 8 << 20;

/// What an item begins with that names a file.
const FILE: &str = "file:";

/// Reads a list whose items may stand in it once; `file:/path` stands for the lines of that file, of which each may be there
/// any number of times: such lists are made by others.
pub(super) fn list<T: Clone + PartialEq + ToString>(
    check: &mut Check<'_>,
    list: At<Vec<At<String>>>,
    what: &str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Vec<T> {
    let mut named: Vec<T> = Vec::with_capacity(list.value.len());
    let mut listed: Vec<T> = Vec::new();
    for at in list.value {
        if let Some(path) = at.value.strip_prefix(FILE) {
            let read = of_file(check, path, &parse);
            listed.extend(check.read(&at.span, read).unwrap_or_default());
            continue;
        }
        let Some(item) = check.read(&at.span, parse(&at.value)) else { continue };
        if named.contains(&item) {
            let message = format!("the {what} {} stands in this list already", item.to_string());
            check.report(&at.span, message, "take it out");
            continue;
        }
        named.push(item);
    }
    named.extend(listed);
    named
}

fn of_file<T>(
    check: &Check<'_>,
    path: &str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    if path.is_empty() {
        return Err(Invalid::new(
            "the path is empty",
            "write file:/path of a list, one network on each line",
        ));
    }
    let text = text_file::read(check, &check.path(path), MAX_BYTES)?;
    let items = text_file::lines(&text).map(|(number, line)| {
        parse(line).map_err(|invalid| {
            Invalid::new(
                format!("line {number} of {path:?}: {}", invalid.problem()),
                invalid.hint().to_owned(),
            )
        })
    });
    items.collect()
}
