//! What connections of every kind do alike as pingora's `IO`: a socket, and the layers over one.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a client may take to hear the end where nobody else sets a deadline.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Ends a connection: best effort, but not for ever, for the client may have stopped reading.
pub(super) async fn say_last_words(stream: &mut (impl AsyncWrite + Unpin)) {
    let _ = timeout(LAST_WORDS, stream.shutdown()).await;
}

/// What a layer does not know better than the connection below it, in this field of type `Stream`: who it is, where it
/// comes from and since when.
macro_rules! tell_of_below {
    ($layer:ty, $below:ident) => {
        const _: () = {
            use std::sync::Arc;

            use pingora_core::protocols::raw_connect::ProxyDigest;
            use pingora_core::protocols::{
                GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, TimingDigest, UniqueID,
                UniqueIDType,
            };

            impl UniqueID for $layer {
                fn id(&self) -> UniqueIDType {
                    self.$below.id()
                }
            }

            impl GetTimingDigest for $layer {
                fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                    self.$below.get_timing_digest()
                }
            }

            impl GetProxyDigest for $layer {
                fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                    self.$below.get_proxy_digest()
                }

                fn set_proxy_digest(&mut self, digest: ProxyDigest) {
                    self.$below.set_proxy_digest(digest);
                }
            }

            impl GetSocketDigest for $layer {
                fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                    self.$below.get_socket_digest()
                }

                fn set_socket_digest(&mut self, digest: SocketDigest) {
                    self.$below.set_socket_digest(digest);
                }
            }

            impl Peek for $layer {}
        };
    };
}
pub(super) use tell_of_below;
