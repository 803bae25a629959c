//! What a web server may take a path for: `/%61dmin/`, `//admin/` and `/x/../admin/` are all `/admin/` to nginx and Apache.
//!
//! Routes and rates go by paths as they are sent, and so does the cache. What guards a path has to guard its other spellings too, so
//! whoever writes one has to pass what stands before either.

use std::borrow::Cow;

/// Path and query with the path as a web server may read it: decoded once, without empty and dot segments. Borrowed where that is
/// how it was sent.
pub(crate) fn meant(target: &[u8]) -> Cow<'_, [u8]> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if !is_doubtful(path) {
        return Cow::Borrowed(target);
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let decoded = decoded(path);
    let mut parts = decoded.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            b".." => drop(segments.pop()),
            b"." => {}
            b"" if !is_last => {}
            part => segments.push(part.to_vec()),
        }
        // A folder stays one.
        if is_last && matches!(part, b"." | b"..") {
            segments.push(Vec::new());
        }
    }
    let mut meant = Vec::with_capacity(target.len());
    for segment in &segments {
        meant.push(b'/');
        meant.extend_from_slice(segment);
    }
    if meant.is_empty() {
        meant.push(b'/');
    }
    meant.extend_from_slice(query);
    Cow::Owned(meant)
}

/// Whether a path may be written in another way than it is meant.
fn is_doubtful(path: &[u8]) -> bool {
    memchr::memchr2(b'%', b'\\', path).is_some() || path.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (*first, digit(behind.first()), digit(behind.get(1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &behind[2..];
            }
            (byte, ..) => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_web_servers_read_them() {
        for (sent, expected) in [
            ("/admin/x?y=%61", "/admin/x?y=%61"),
            ("/%61dmin/x?y=%61//", "/admin/x?y=%61//"),
            ("//admin///x", "/admin/x"),
            ("/./admin/./x/", "/admin/x/"),
            ("/x/../admin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/x/..%2fadmin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/../../admin", "/admin"),
            ("/admin/x/..", "/admin/"),
            ("/admin/.", "/admin/"),
            ("/admin/..", "/"),
            ("/admin%2", "/admin%2"),
            ("/admin%zz", "/admin%zz"),
            ("/admin%", "/admin%"),
            ("/%2561dmin", "/%61dmin"),
            ("/.well-known/x", "/.well-known/x"),
            ("/", "/"),
            ("//", "/"),
            ("*", "*"),
        ] {
            assert_eq!(String::from_utf8_lossy(&meant(sent.as_bytes())), expected, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn what_is_meant_has_no_dots_and_no_doubles(sent in "/[a-c/.%2eEfF\\\\]{0,30}") {
            let meant = meant(sent.as_bytes());
            prop_assert!(meant.starts_with(b"/"));
            // What was encoded twice is decoded once, as web servers do.
            let again = super::meant(&meant);
            prop_assert!(again.len() <= meant.len());
            prop_assert!(!meant.windows(4).any(|four| four == b"/../"), "{:?}", meant);
        }
    }
}
