//! The configuration file of Clearcoat: text as written, checked values, schema.
