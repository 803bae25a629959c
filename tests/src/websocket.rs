//! The server's side of a WebSocket (RFC 6455), as far as browsers need it: frames come back as they were.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::scripted::Talk;

/// The longest frame that is taken.
const LONGEST: u64 = 64 << 20;

/// The answer that agrees to speak it.
///
/// # Errors
///
/// If nobody asked.
pub fn agreement(talk: &Talk) -> Result<String> {
    let key = talk.header("sec-websocket-key").context("no key")?;
    let protocol = talk.header("upgrade").context("no protocol")?;
    ensure!(protocol.eq_ignore_ascii_case("websocket"), "{protocol}");
    ensure!(talk.header("sec-websocket-version") == Some("13"));
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    ))
}

/// What proves that a key was read (RFC 6455 section 4.2.2).
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Agrees, and sends each frame back until the client closes.
///
/// # Errors
///
/// If nobody asked, or what comes is no WebSocket.
pub async fn echo(mut talk: Talk) -> Result<()> {
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;
    let agreement = agreement(&talk)?;
    talk.say(agreement).await?;
    loop {
        let head = talk.hear_exactly(2).await?;
        let (first, second) = (head[0], head[1]);
        ensure!(second & 0x80 != 0, "clients mask what they send");
        let length = match second & 0x7f {
            126 => number(&talk.hear_exactly(2).await?),
            127 => number(&talk.hear_exactly(8).await?),
            length => u64::from(length),
        };
        ensure!(length <= LONGEST, "{length} bytes in a frame");
        let mask = talk.hear_exactly(4).await?;
        let mut content = talk.hear_exactly(length).await?.to_vec();
        content.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let answer = match first & 0x0f {
            PING => first & 0xf0 | PONG,
            PONG => continue,
            _ => first,
        };
        let mut frame = vec![answer];
        match content.len() {
            short @ 0..=125 => frame.push(short as u8),
            longer @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(longer as u16).to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&content);
        talk.say(frame).await?;
        if first & 0x0f == CLOSE {
            return Ok(());
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_as_in_the_rfc() {
        // RFC 6455 section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
