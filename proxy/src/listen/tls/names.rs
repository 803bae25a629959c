//! Which certificate a visitor gets, by the name that it asks for (SNI, RFC 6066 section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use smallvec::{SmallVec, smallvec};

use super::certificate::Certificate;

/// Certificates for one name, such as an ECDSA one and an RSA one for old clients, in the order of the configuration.
type SameName = SmallVec<[Arc<CertifiedKey>; 2]>;

/// The certificates of a listener by name.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<Box<str>, SameName>,
    /// By what stands behind `*.`; the star is one label (RFC 6125 section 6.4.3).
    wildcard: HashMap<Box<str>, SameName>,
    /// The certificate for unknown names and for clients that name none: the first. Others with the same names may stand in
    /// for it where its kind of key is not understood.
    default: SameName,
}

impl Names {
    /// `None` if there is no certificate at all.
    pub(super) fn new(certificates: Vec<Certificate>) -> Option<Self> {
        let first = certificates.first()?;
        let mut default: SameName = smallvec![first.key.clone()];
        let alike = certificates[1..].iter().filter(|other| other.names == first.names);
        default.extend(alike.map(|other| other.key.clone()));
        let mut names = Self { exact: HashMap::new(), wildcard: HashMap::new(), default };
        for Certificate { key, names: named, .. } in certificates {
            for name in named {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut names.wildcard, rest),
                    None => (&mut names.exact, &*name),
                };
                map.entry(name.into()).or_default().push(key.clone());
            }
        }
        Some(names)
    }

    fn find(&self, name: Option<&str>) -> &SameName {
        let Some(name) = name else { return &self.default };
        let name = name.strip_suffix('.').unwrap_or(name);
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).unwrap_or(&self.default)
    }

    pub(super) fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let found = self.find(name);
        let usable = found.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        // Where none can be used the handshake says so.
        usable.or(found.first()).unwrap_or(&self.default[0]).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::test::{loaded, loaded_of_kind};
    use super::*;

    const ANY: [SignatureScheme; 2] = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

    #[test]
    fn names_choose_certificates() {
        let certificates: Vec<_> = [
            &["default.test"][..],
            &["example.com", "*.example.com"],
            &["shop.example.com"],
            &["*.a.example.com"],
        ]
        .map(loaded)
        .into();
        let names = Names::new(certificates.clone()).unwrap();
        for (name, expected) in [
            ("example.com", 1),
            ("EXAMPLE.com", 1),
            ("example.com.", 1),
            ("www.example.com", 1),
            // The exact name goes before the wildcard.
            ("shop.example.com", 2),
            ("b.a.example.com", 3),
            // One label, and at least one.
            ("a.b.example.com", 0),
            ("a.example.com", 1),
            ("default.test", 0),
            ("unknown.test", 0),
            ("com", 0),
            ("", 0),
        ] {
            let chosen = names.choose(Some(name), &ANY);
            let found = certificates.iter().position(|one| Arc::ptr_eq(&one.key, &chosen));
            assert_eq!(found, Some(expected), "{name}");
        }
        assert!(Arc::ptr_eq(&names.choose(None, &ANY), &certificates[0].key));
        assert!(Names::new(Vec::new()).is_none());
    }

    #[test]
    fn of_two_for_one_name_the_client_gets_what_it_understands() {
        let certificates = vec![
            loaded_of_kind(&["a.test"], &rcgen::PKCS_ED25519),
            loaded_of_kind(&["a.test"], &rcgen::PKCS_ECDSA_P256_SHA256),
        ];
        let names = Names::new(certificates.clone()).unwrap();
        for (schemes, expected) in [
            (&ANY[..], 0),
            (&[SignatureScheme::ECDSA_NISTP256_SHA256], 1),
            (&[SignatureScheme::ED25519], 0),
            (&[SignatureScheme::RSA_PSS_SHA256], 0),
        ] {
            for name in [Some("a.test"), None] {
                let chosen = names.choose(name, schemes);
                assert!(Arc::ptr_eq(&chosen, &certificates[expected].key), "{schemes:?} {name:?}");
            }
        }
    }
}
