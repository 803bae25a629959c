//! Text files that the configuration names and that are part of it: secrets, lists of networks, passwords.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Check;
use crate::error::Invalid;

/// Reads a file of at most so many bytes, and notes that it is part of the configuration.
pub(super) fn read(check: &Check<'_>, path: &Path, most: u64) -> Result<String, Invalid> {
    const HINT: &str = "name a text file that clearcoat may read";
    check.files.borrow_mut().push(path.to_owned());
    let shown = path.display().to_string();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_string(&mut text))
        .map_err(|error| Invalid::new(format!("{shown:?} cannot be read: {error}"), HINT))?;
    if text.len() as u64 > most {
        return Err(Invalid::new(format!("{shown:?} is larger than {most} bytes"), HINT));
    }
    Ok(text)
}

/// The lines that say something, each with its number: `#` begins a comment.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(line, _)| line).trim());
    (1..).zip(lines).filter(|(_, line)| !line.is_empty())
}
