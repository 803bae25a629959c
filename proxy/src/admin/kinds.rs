//! The kinds that are counted apart, each with the word by which it is known outside.
//!
//! The words are the labels of the metrics and stand in the access log, so they are part of what operators build on:
//! a new one is an addition, a changed one breaks dashboards. What is done with them is the counters' business.

/// Declares an enum whose variants index counters and carry the label that the metrics show.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All variants, in the order in which they are shown.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the metric's label.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

counted! {
    /// How a request of a client was answered.
    RequestResult {
        /// From the cache, fresh.
        Hit => "hit",
        /// From the cache, stale within its grace, while a newer copy is fetched (RFC 5861 §3).
        Grace => "grace",
        /// Fetched from a node because of this request, and stored.
        Miss => "miss",
        /// Waited for the fetch that another request had started.
        Collapsed => "collapsed",
        /// Fetched from a node, and the answer may not be stored.
        Uncacheable => "uncacheable",
        /// Streamed through without a look into the cache: the method or the route says so.
        Pass => "pass",
        /// A purge, whatever its outcome.
        Purge => "purge",
        /// Not a request that we serve: malformed, over a limit, no such site, or for what is stored only and nothing is.
        Refused => "refused",
        /// An error answer of our own: no node is left, or the node failed.
        Unavailable => "unavailable",
        /// The client left before it had its answer.
        ClientGone => "client_gone",
        /// Sent to the same URL by https.
        Redirect => "redirect",
        /// The page that stands in place of the site.
        Maintenance => "maintenance",
    }
}

counted! {
    /// Classes of response status, as the first digit tells them.
    StatusClass {
        /// 100 to 199, such as 101 of an upgrade.
        Informational => "1xx",
        /// 200 to 299.
        Success => "2xx",
        /// 300 to 399.
        Redirection => "3xx",
        /// 400 to 499.
        ClientError => "4xx",
        /// 500 to 599.
        ServerError => "5xx",
        /// Anything else; also an answer that was never begun because the client had gone (status 0).
        Other => "other",
    }
}

impl StatusClass {
    /// The class of `status`.
    pub(crate) const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

counted! {
    /// A limit that fired. Each has a counter so that no refusal is a mystery.
    Limit {
        /// A request head larger than allowed.
        HeaderBytes => "header_bytes",
        /// More header fields than allowed.
        HeaderCount => "header_count",
        /// A request head that took too long to arrive.
        HeaderTimeout => "header_timeout",
        /// A request body that took too long to arrive.
        BodyTimeout => "body_timeout",
        /// A request body that came, all in all, slower than allowed.
        BodyRate => "body_rate",
        /// A request body larger than allowed.
        BodyBytes => "body_bytes",
        /// A connection closed because nothing was asked on it.
        Idle => "idle",
        /// A client that took too long to accept our answer.
        WriteTimeout => "write_timeout",
        /// A client that took an answer, all in all, slower than allowed.
        ResponseRate => "response_rate",
        /// A request that took longer, from its head to the last byte of its answer, than it may.
        RequestLifetime => "request_lifetime",
        /// A tunnel closed because nothing went through it for too long.
        TunnelTimeout => "tunnel_timeout",
        /// A URL longer than allowed.
        UrlBytes => "url_bytes",
        /// An HTTP/2 connection ended because its client took back, or got wrong, far more requests than it let be answered, or
        /// sent far more frames that are neither.
        Http2Flood => "http2_flood",
        /// A request refused because its address may not come to the site.
        Address => "address",
        /// A request refused because it had no good password.
        Password => "password",
        /// A request refused because too many of its kind came.
        Rate => "rate",
        /// A request refused because enough of its site were at nodes.
        Concurrent => "concurrent",
        /// A connection refused because enough are open.
        Connections => "connections",
        /// A connection closed because its client has enough others.
        ConnectionsPerClient => "connections_per_client",
        /// A connection to the admin listener refused because enough are open.
        AdminConnections => "admin_connections",
        /// A reader of the live log refused because there are enough.
        TailReaders => "tail_readers",
        /// A record not shown to a reader of the live log who does not keep up.
        TailRecords => "tail_records",
        /// A response with more tags, or longer ones, than are indexed.
        Tags => "tags",
        /// A URL with more variants than are kept.
        Variants => "variants",
        /// A request that stopped waiting for the fetch of another.
        CollapseTimeout => "collapse_timeout",
        /// A request refused because enough wait for the fetch of another.
        CollapseWaiters => "collapse_waiters",
        /// A fetch for the cache ended because all its visitors had left and much was still to come.
        FillAbandoned => "fill_abandoned",
        /// A response not stored because bodies on their way take all of the memory.
        FillMemory => "fill_memory",
        /// A request refused because the queue of its pool is full.
        QueueFull => "queue_full",
        /// A request that waited in the queue of its pool for too long.
        QueueTimeout => "queue_timeout",
        /// A retry not made because too many were made of late.
        RetryBudget => "retry_budget",
        /// The cache made smaller because the process takes more memory than is in use; once each time it begins.
        Memory => "memory",
        /// A response too large to be stored.
        EntrySize => "entry_size",
        /// A page that was not compressed yet because enough others wait for it.
        EncodeQueue => "encode_queue",
        /// A response head of a node larger than allowed.
        NodeHeaderBytes => "node_header_bytes",
        /// A response that is not what the extension of its path promises, and was to be stored on the operator's word.
        Deception => "deception",
        /// A node that took too long to begin its answer or to go on with it.
        NodeTimeout => "node_timeout",
        /// A fragment left out because it stands in too many pages within each other.
        EsiDepth => "esi_depth",
        /// A fragment left out because its page has too many.
        EsiFragments => "esi_fragments",
        /// A fragment left out or cut because its page has become too large, or a page too large to be read for tags.
        EsiBytes => "esi_bytes",
        /// A fragment left out or cut because it took too long.
        EsiTimeout => "esi_timeout",
    }
}

counted! {
    /// Why a request went to a node; the labels are the words of `fwd` in `Cache-Status` (RFC 9211 §2.2).
    Forward {
        /// Its route says that requests are passed, or it asks for more than an answer from memory can be: it carries a
        /// body or asks for another protocol.
        Bypass => "bypass",
        /// Its method is not one that is answered from memory.
        Method => "method",
        /// Nothing of its URL is stored.
        UriMiss => "uri-miss",
        /// Only variants of its URL that it does not select are stored.
        VaryMiss => "vary-miss",
        /// What is stored is too old.
        Stale => "stale",
        /// What is stored is fresh, but the request does not want it unasked.
        Request => "request",
        /// What it asks for a part of is on its way, and that part is far from there yet.
        Partial => "partial",
    }
}

counted! {
    /// How one exchange with a node ended.
    FetchResult {
        /// The node answered in full, whatever the status.
        Ok => "ok",
        /// No connection could be made.
        ConnectFailed => "connect_failed",
        /// The node was silent for too long.
        TimedOut => "timed_out",
        /// The connection broke, or what came was not HTTP, or the body was cut short.
        Broken => "broken",
        /// The exchange was tried again on another node; counted beside the failure that caused it.
        Retried => "retried",
    }
}

counted! {
    /// What went wrong where pages were put together, limits apart.
    EsiTrouble {
        /// A fragment that could not be had, nor its alternative.
        Failed => "failed",
        /// A fragment that broke off after its beginning had gone out.
        Broken => "broken",
        /// A tag left out because nobody knows it, or it means nothing where it stands; counted when its page is read.
        StrayTag => "stray_tag",
    }
}

counted! {
    /// What a purge named.
    PurgeKind {
        /// One URL with all its variants.
        Url => "url",
        /// All entries that carry one of some tags.
        Tags => "tags",
        /// All entries that match some expressions. What it takes is counted by the store, when it is known.
        Ban => "ban",
    }
}

counted! {
    /// Which way something goes through a tunnel.
    Towards {
        /// From the node.
        Client => "client",
        /// From the client.
        Node => "node",
    }
}

counted! {
    /// How a TLS handshake with a client ended.
    Handshake {
        /// A new session.
        Full => "full",
        /// The client went on with an earlier session.
        Resumed => "resumed",
        /// There was none: the client left, took too long, or cannot be agreed with.
        Failed => "failed",
    }
}

counted! {
    /// What came of certificates that were written anew.
    Renewal {
        /// They are shown.
        Shown => "shown",
        /// They cannot be used, and those of before are still shown.
        Failed => "failed",
    }
}

counted! {
    /// What a connection began with that had to begin with a PROXY header.
    ProxyHeader {
        /// A good one.
        Read => "read",
        /// None, or one that cannot be read; the connection was closed.
        Refused => "refused",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_class_is_the_first_digit() {
        for (status, class) in [
            (101, StatusClass::Informational),
            (200, StatusClass::Success),
            (304, StatusClass::Redirection),
            (405, StatusClass::ClientError),
            (503, StatusClass::ServerError),
            (0, StatusClass::Other),
            (600, StatusClass::Other),
        ] {
            assert_eq!(StatusClass::of(status), class, "status {status}");
        }
    }

    #[test]
    fn labels_are_distinct() {
        fn distinct(labels: impl ExactSizeIterator<Item = &'static str>) -> bool {
            let number = labels.len();
            labels.collect::<HashSet<_>>().len() == number
        }
        assert!(distinct(RequestResult::ALL.iter().map(|r| r.label())));
        assert!(distinct(StatusClass::ALL.iter().map(|c| c.label())));
        assert!(distinct(Limit::ALL.iter().map(|l| l.label())));
        assert!(distinct(Forward::ALL.iter().map(|f| f.label())));
        assert!(distinct(EsiTrouble::ALL.iter().map(|e| e.label())));
        assert!(distinct(FetchResult::ALL.iter().map(|f| f.label())));
        assert!(distinct(PurgeKind::ALL.iter().map(|k| k.label())));
        assert!(distinct(Handshake::ALL.iter().map(|h| h.label())));
        assert!(distinct(ProxyHeader::ALL.iter().map(|h| h.label())));
        assert!(distinct(Renewal::ALL.iter().map(|r| r.label())));
        assert!(distinct(Towards::ALL.iter().map(|t| t.label())));
    }
}
