//! An answer without an end: what comes is sent on, until one side leaves.

use std::fmt::Debug;
use std::io;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Answer, Ending, Limits, begun};

/// What is sent while it is made.
#[async_trait]
pub(crate) trait Live: Debug + Send + Sync {
    /// The next piece, as soon as there is one; never empty. Cancel safe.
    async fn next(&mut self) -> Bytes;
}

/// Sends the head and piece after piece. Nothing else is asked on the connection: what a client still says is thrown away, and
/// too much of it ends it. Of who does not take a piece in [`Limits::write_time`] nothing more is heard.
pub(super) async fn send<S>(
    stream: &mut S,
    answer: &Answer,
    mut live: Box<dyn Live>,
    chunked: bool,
    limits: &Limits,
) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut head = begun(answer);
    // Without chunks the end of the connection is that of the body (RFC 9112 section 6.3).
    head.push_str(if chunked { "Transfer-Encoding: chunked\r\n" } else { "" });
    head.push_str(&format!("Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())));
    head.push_str("Connection: close\r\n\r\n");
    let mut left = limits.head_bytes;
    let mut scrap = [0; 1024];
    if !written(stream, head.as_bytes(), limits).await {
        return Ending::Broken;
    }
    loop {
        let piece = tokio::select! {
            piece = live.next() => piece,
            taken = stream.read(&mut scrap) => match taken {
                Ok(0) => return Ending::Done,
                Ok(count) if count <= left => {
                    left -= count;
                    continue;
                }
                Ok(_) | Err(_) => return Ending::Broken,
            },
        };
        let sent = if chunked {
            let size = format!("{:x}\r\n", piece.len());
            written(stream, &[size.as_bytes(), &piece, b"\r\n"].concat(), limits).await
        } else {
            written(stream, &piece, limits).await
        };
        if !sent {
            return Ending::Broken;
        }
    }
}

/// Whether the client took it in time.
async fn written<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], limits: &Limits) -> bool {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        io::Result::Ok(())
    };
    matches!(timeout(limits.write_time, write).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{Handler, Request, serve};
    use super::*;

    /// Counts, and never ends.
    #[derive(Debug, Default)]
    struct Counting(u32);

    #[async_trait]
    impl Live for Counting {
        async fn next(&mut self) -> Bytes {
            self.0 += 1;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            format!("{}\n", self.0).into()
        }
    }

    #[async_trait]
    impl Handler for Counting {
        async fn answer(&self, _: Request) -> Answer {
            Answer::text(200, "").live(Self::default())
        }
    }

    /// What comes of a request, up to these words; then the client leaves.
    async fn exchange(request: &str, until: &str) -> (String, Ending) {
        let (mut client, mut server) = tokio::io::duplex(1 << 16);
        let serving =
            tokio::spawn(async move { serve(&mut server, &Counting::default(), &Limits::SMALL).await });
        client.write_all(request.as_bytes()).await.unwrap();
        let mut output = String::new();
        while !output.contains(until) {
            let mut piece = [0; 256];
            let count = client.read(&mut piece).await.unwrap();
            assert!(count > 0, "it ended: {output}");
            output.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        drop(client);
        (output, serving.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_are_chunks_until_the_client_leaves() {
        let (output, ending) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n3\r\n10\n\r\n").await;
        assert!(output.contains("Transfer-Encoding: chunked\r\n"), "{output}");
        assert!(!output.contains("Content-Length"), "{output}");
        assert!(output.contains("\r\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n"), "{output}");
        assert!(matches!(ending, Ending::Done | Ending::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn http_1_0_knows_no_chunks() {
        let (output, _) = exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "3\n").await;
        assert!(output.ends_with("\r\n\r\n1\n2\n3\n") && !output.contains("chunked"), "{output}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_does_not_read_is_left() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(serve(&mut server, &Counting::default(), &Limits::SMALL).await, Ending::Broken);
        drop(client);
    }
}
