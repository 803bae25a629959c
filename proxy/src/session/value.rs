//! What a server keeps for us under a key: a header of ours, and behind it the client's value.
//!
//! The header carries the version of what was written, so that of two copies the newer one can be told, and whether it is a
//! value or the mark of a deletion. A value without it was put there by somebody else, past us: it is older than all of ours.

use bytes::Bytes;

/// How a header begins. No text begins so: 0xF5 is no byte of UTF-8, and serialised PHP is text or begins with a zero byte.
const MAGIC: [u8; 4] = [0xf5, b'C', b'c', 1];

const VALUE: u8 = 0;
const TOMBSTONE: u8 = 1;

/// Bytes of the header.
pub(crate) const HEADER: usize = 13;

/// When something was written, as a number that grows: of two writes the later has the larger one, on whatever edge. It is
/// also what clients are told as CAS.
///
/// Microseconds since 1970 in the upper 52 bits, in the lower 12 a number that an edge has for itself; see
/// [`Versions`](super::version::Versions).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Version(pub(crate) u64);

impl Version {
    /// Of what was not written by us.
    pub(crate) const NONE: Self = Self(0);
}

/// What a key holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    /// A client's value.
    Value { version: Version, value: Bytes },
    /// It was deleted, so long ago that a copy from before may still turn up somewhere.
    Tombstone { version: Version },
}

impl Kept {
    /// Reads what a server keeps.
    pub(crate) fn read(mut stored: Bytes) -> Self {
        let header = stored.first_chunk::<HEADER>().filter(|header| header[..4] == MAGIC);
        let Some([_, _, _, _, kind, version @ ..]) = header else {
            return Self::Value { version: Version::NONE, value: stored };
        };
        let (kind, version) = (*kind, Version(u64::from_be_bytes(*version)));
        if kind == TOMBSTONE {
            return Self::Tombstone { version };
        }
        Self::Value { version, value: stored.split_off(HEADER) }
    }

    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Value { version, .. } | Self::Tombstone { version } => *version,
        }
    }
}

/// The header before a value.
pub(crate) fn header(version: Version) -> [u8; HEADER] {
    encoded(VALUE, version)
}

/// What stands for a value that was deleted.
pub(crate) fn tombstone(version: Version) -> [u8; HEADER] {
    encoded(TOMBSTONE, version)
}

fn encoded(kind: u8, version: Version) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = kind;
    header[5..].copy_from_slice(&version.0.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(header: [u8; HEADER], value: &[u8]) -> Bytes {
        [&header[..], value].concat().into()
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [&b""[..], b"n|i:1;", &MAGIC, &[0; 100]] {
            let version = Version(0x0123_4567_89ab_cdef);
            let kept = Kept::read(stored(header(version), value));
            assert_eq!(kept, Kept::Value { version, value: Bytes::copy_from_slice(value) });
        }
        let kept = Kept::read(stored(tombstone(Version(7)), b""));
        assert_eq!((kept.version(), kept), (Version(7), Kept::Tombstone { version: Version(7) }));
    }

    #[test]
    fn what_others_wrote_is_a_value_older_than_all_of_ours() {
        let cut = &header(Version(9))[..HEADER - 1];
        for value in [&b""[..], b"1", b"a:1:{i:0;i:1;}", &MAGIC, cut] {
            let kept = Kept::read(Bytes::copy_from_slice(value));
            assert_eq!(kept, Kept::Value { version: Version::NONE, value: Bytes::copy_from_slice(value) });
        }
    }
}
