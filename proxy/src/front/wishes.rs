//! What a request says to caches on its way (RFC 9111 section 5.2.1), as far as it is listened to.

use clearcoat_cache::directive::{delta_seconds, directives};

use crate::listen::head::Head;

/// Whether the client wants nothing from memory that was not asked after for it: `no-cache` or `max-age=0`, or
/// `Pragma: no-cache` where there is no Cache-Control (section 5.4). Only routes that say so listen to it, because it lets
/// anybody send requests to the nodes.
pub(crate) fn asks_anew(head: &Head<'_, '_>) -> bool {
    let mut lines = head.values("cache-control").peekable();
    if lines.peek().is_none() {
        return has(head.values("pragma"), b"no-cache");
    }
    lines.flat_map(directives).any(|directive| {
        directive.name.eq_ignore_ascii_case(b"no-cache")
            || directive.name.eq_ignore_ascii_case(b"max-age")
                && directive.value.and_then(delta_seconds) == Some(0)
    })
}

/// Whether the client wants what is in memory or nothing: `only-if-cached` (section 5.2.1.7). It is always listened to: it
/// keeps requests from the nodes.
pub(crate) fn only_if_stored(head: &Head<'_, '_>) -> bool {
    has(head.values("cache-control"), b"only-if-cached")
}

fn has<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> bool {
    lines.flat_map(directives).any(|directive| directive.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    #[track_caller]
    fn check(headers: &str, anew: bool, stored: bool) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
        let mut room = lines();
        let limits = HeadLimits { bytes: 1000, count: 10, url_bytes: 100 };
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut room, &limits) else { panic!("{text}") };
        assert_eq!((asks_anew(&head), only_if_stored(&head)), (anew, stored), "{headers}");
    }

    #[test]
    fn wishes_are_read() {
        check("X: y", false, false);
        check("Cache-Control: no-cache", true, false);
        check("cache-control: foo, No-Cache", true, false);
        check("Cache-Control: max-age=0", true, false);
        check("Cache-Control: max-age=\"0\"", true, false);
        check("Cache-Control: max-age=00", true, false);
        check("Cache-Control: max-age=1", false, false);
        check("Cache-Control: max-age=x", false, false);
        check("Cache-Control: max-age", false, false);
        check("Cache-Control: no-store, min-fresh=5, max-stale", false, false);
        check("Cache-Control: foo=\"no-cache\"", false, false);
        check("Pragma: no-cache", true, false);
        check("Pragma: foo, no-cache", true, false);
        check("Pragma: no-cache\r\nCache-Control: foo", false, false);
        check("Cache-Control: only-if-cached", false, true);
        check("Cache-Control: max-age=0\r\nCache-Control: ONLY-IF-CACHED", true, true);
    }
}
