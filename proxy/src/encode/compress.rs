//! The compressors, and the way back.
//!
//! Levels were chosen by measurement; `benches/README.md` has the table. Pages are compressed once and sent often, on
//! a thread that nobody waits for, so each level is the last one before time grows much faster than bytes shrink.

use std::io::{self, Read, Write};

use clearcoat_cache::coding::Coding;

/// Of 1 to 9, and zlib's own default. Level 9 takes three times as long for a hundredth less.
const GZIP_LEVEL: u32 = 6;

/// Of 0 to 11. Level 7 takes five times as long for three hundredths less.
const BR_LEVEL: i32 = 5;

/// Of 1 to 19. As small as brotli's level, in half its time; level 15 takes twice as long for three hundredths less.
const ZSTD_LEVEL: i32 = 12;

/// log2 of the window: 4 MiB, brotli's usual. More than the largest body by default.
const BR_WINDOW_BITS: i32 = 22;

/// log2 of the largest window that a decoder has to provide for content on the web: 8 MiB (RFC 9659 section 3).
const ZSTD_WINDOW_BITS: u32 = 23;

/// Why a body has no plain text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecodable {
    /// It is larger than allowed.
    #[error("the plain text has more than {0} bytes")]
    TooLarge(usize),
    /// The bytes are not in the coding they are said to be in.
    #[error("the body is not what its coding says")]
    Broken(#[source] io::Error),
}

/// `plain` in a coding.
///
/// # Errors
///
/// What the library reports; with a buffer on either side nothing is expected.
pub(crate) fn compress(coding: Coding, plain: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Identity => Ok(plain.to_vec()),
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Coding::Br => {
            let mut encoded = Vec::new();
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BR_LEVEL,
                lgwin: BR_WINDOW_BITS,
                size_hint: plain.len(),
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &*plain, &mut encoded, &parameters)?;
            Ok(encoded)
        }
        // Told the size, it takes no larger a window than that, and the level's own is within what browsers take.
        Coding::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
    }
}

/// The plain text of a body, if it has at most so many bytes: a small body may stand for any amount of text.
///
/// # Errors
///
/// [`Undecodable`]; nothing of the text is of use then.
pub(crate) fn decompress(coding: Coding, body: &[u8], most_bytes: usize) -> Result<Vec<u8>, Undecodable> {
    match coding {
        Coding::Identity => read(body, most_bytes),
        Coding::Gzip => read(flate2::read::MultiGzDecoder::new(body), most_bytes),
        Coding::Br => read(brotli::Decompressor::new(body, 4096), most_bytes),
        Coding::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                // The decoder allocates the window that the frame demands.
                decoder.window_log_max(ZSTD_WINDOW_BITS)?;
                Ok(decoder)
            });
            read(decoder.map_err(Undecodable::Broken)?, most_bytes)
        }
    }
}

fn read(source: impl Read, most_bytes: usize) -> Result<Vec<u8>, Undecodable> {
    let mut plain = Vec::new();
    let most = u64::try_from(most_bytes).unwrap_or(u64::MAX);
    source.take(most.saturating_add(1)).read_to_end(&mut plain).map_err(Undecodable::Broken)?;
    if plain.len() > most_bytes { Err(Undecodable::TooLarge(most_bytes)) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const CODED: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    #[test]
    fn what_is_compressed_comes_back() {
        let text = "<p>one page like another</p>\n".repeat(1000);
        for coding in CODED {
            let coded = compress(coding, text.as_bytes()).unwrap();
            assert!(coded.len() < text.len() / 10, "{coding:?}: {}", coded.len());
            assert_eq!(decompress(coding, &coded, text.len()).unwrap(), text.as_bytes(), "{coding:?}");
            let empty = compress(coding, b"").unwrap();
            assert_eq!(decompress(coding, &empty, 0).unwrap(), b"", "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_defused() {
        let zeros = vec![0; 32 << 20];
        for coding in CODED {
            let bomb = compress(coding, &zeros).unwrap();
            assert!(bomb.len() < 40_000, "{coding:?}: {}", bomb.len());
            let result = decompress(coding, &bomb, 1 << 20);
            assert!(matches!(result, Err(Undecodable::TooLarge(_))), "{coding:?}");
        }
    }

    #[test]
    fn a_part_of_a_body_is_no_body() {
        let text = "one page like another ".repeat(100);
        for coding in CODED {
            let coded = compress(coding, text.as_bytes()).unwrap();
            for cut in [1, coded.len() / 2, coded.len() - 1] {
                let result = decompress(coding, &coded[..cut], text.len());
                assert!(matches!(result, Err(Undecodable::Broken(_))), "{coding:?}, {cut} bytes");
            }
        }
    }

    #[test]
    fn several_members_are_one_text() {
        // RFC 1952 section 2.2, RFC 8878 section 3.1.
        for coding in [Coding::Gzip, Coding::Zstd] {
            let two = [compress(coding, b"one").unwrap(), compress(coding, b"two").unwrap()].concat();
            assert_eq!(decompress(coding, &two, 100).unwrap(), b"onetwo", "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for coding in CODED {
                let coded = compress(coding, &bytes).unwrap();
                prop_assert_eq!(&decompress(coding, &coded, bytes.len()).unwrap(), &bytes);
            }
        }

        #[test]
        fn garbage_is_refused_or_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for coding in CODED {
                if let Ok(plain) = decompress(coding, &bytes, 5000) {
                    prop_assert!(plain.len() <= 5000);
                }
            }
        }
    }
}
