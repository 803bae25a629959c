//! Whether an address can be listened on, asked before anything starts.
//!
//! Pingora binds inside its services, tries for half a minute and then panics. A short look beforehand turns a taken
//! port into one clear line. Somebody may take the port in between; then pingora's answer is as good as any.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use clearcoat_conf::ListenAddress;

use super::Trouble;

/// Checks that `address` can be bound. `option` says what to change if it cannot, such as `--listen`.
///
/// # Errors
///
/// [`Trouble::Failed`] if it is taken, not of this machine, or privileged.
pub(super) fn require_free(address: &ListenAddress, option: &str) -> Result<(), Trouble> {
    match address {
        // `[::]` means IPv6 only here, which a plain bind does not; it would clash with 0.0.0.0 of the same port.
        ListenAddress::Tcp(address) if address.is_ipv6() && address.ip().is_unspecified() => Ok(()),
        ListenAddress::Tcp(address) => settle(*address, option).map(|_| ()),
        ListenAddress::Unix(_) => Ok(()),
    }
}

/// The same, with port 0 replaced by one that is free at this moment.
pub(super) fn settle(address: SocketAddr, option: &str) -> Result<SocketAddr, Trouble> {
    match TcpListener::bind(address).and_then(|listener| listener.local_addr()) {
        Ok(bound) => Ok(bound),
        Err(error) => Err(Trouble::Failed(anyhow::Error::msg(refusal(address, option, &error)))),
    }
}

fn refusal(address: SocketAddr, option: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("cannot listen on {address}: another program does already; choose another with {option}")
        }
        ErrorKind::AddrNotAvailable => {
            format!(
                "cannot listen on {address}: it is no address of this machine; choose another with {option}"
            )
        }
        ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE; \
             or choose another with {option}"
        ),
        _ => format!("cannot listen on {address}: {error}; choose another with {option}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_taken_port_is_told_with_the_option_to_use() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let trouble = require_free(&ListenAddress::Tcp(address), "--listen").unwrap_err().to_string();
        assert!(trouble.contains(&address.to_string()) && trouble.contains("--listen"), "{trouble}");
        drop(holder);
        require_free(&ListenAddress::Tcp(address), "--listen").unwrap();
    }

    #[test]
    fn port_0_is_settled() {
        let settled = settle("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
        assert_ne!(settled.port(), 0);
    }

    #[test]
    fn a_foreign_address_is_refused() {
        // TEST-NET-1 (RFC 5737) belongs to no machine.
        let trouble = settle("192.0.2.1:80".parse().unwrap(), "--admin").unwrap_err().to_string();
        assert!(trouble.contains("--admin"), "{trouble}");
    }
}
