//! Harness and end-to-end suite of Clearcoat, over the wire.
