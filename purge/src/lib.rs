//! What a purge request means, who may send it, and carrying it out.
