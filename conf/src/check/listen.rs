//! `[[listen]]` and `[admin]`: addresses, and that no two clash.

use std::ops::Range;
use std::path::PathBuf;

use super::Check;
use super::misc::secret;
use super::process::SocketKeys;
use super::{distinct, nets, purge};
use crate::config::{
    Admin, Certificate, ClientAuth, ClientHeader, HeaderName, HostPattern, Listen, ListenAddress, ListenTls,
    Peer, PurgeDialect, SocketFile,
};
use crate::file::{AdminTable, At, ClientAuthTable, ClientHeaderWord, ListenTable, ListenTlsTable};

/// Checks the listeners and the admin API together, as they share the ports of the machine. `dialects` are those of `[purge]`.
pub(super) fn check(
    check: &mut Check<'_>,
    listen: Option<At<Vec<At<ListenTable>>>>,
    admin: Option<At<AdminTable>>,
    dialects: &[PurgeDialect],
) -> (Vec<Listen>, Option<Admin>) {
    // A missing `listen` has been reported by its shape.
    if let Some(list) = &listen
        && list.value.is_empty()
        && !check.damaged.contains(&list.span)
    {
        check.report(&list.span, "there is no listener", "add [[listen]] with address = \"0.0.0.0:80\"");
    }
    let mut taken: Vec<(ListenAddress, Range<usize>)> = Vec::new();
    let mut listeners = Vec::new();
    for At { value: table, span } in listen.into_iter().flat_map(|list| list.value) {
        let http2 = table.http2.as_ref().is_some_and(|http2| http2.value);
        let purge_dialects =
            table.purge_dialects.map_or_else(|| dialects.to_vec(), |list| purge::dialects(check, list));
        let tls = table.tls.and_then(|tls| check_tls(check, tls));
        if let (true, Some(at)) = (http2, table.http2)
            && (tls.is_some() || check.is_wrong(&check.key_under(&span, "tls")))
        {
            check.report(
                &at.span,
                "this is HTTP/2 without TLS, and the listener has TLS",
                "take it out: with TLS it is tls.http2, which is true unless you say otherwise",
            );
        }
        let proxy_protocol = table.proxy_protocol.map(|list| (list.span.clone(), peers(check, list)));
        let trusted_proxies = table.trusted_proxies.map(|list| (list.span.clone(), peers(check, list)));
        let client_header = match table.client_header.map(|word| word.value) {
            None | Some(ClientHeaderWord::XForwardedFor) => ClientHeader::XForwardedFor,
            Some(ClientHeaderWord::Forwarded) => ClientHeader::Forwarded,
        };
        let hosts = table.hosts.map(|list| distinct(check, list, "host", str::parse::<HostPattern>));
        let keys = SocketKeys { mode: table.socket_mode, user: table.socket_user, group: table.socket_group };
        let Some(at) = table.address else { continue };
        let Some(address) = check.value::<ListenAddress>(&at) else { continue };
        let socket = keys.check(check, Some(&address), SocketFile::FOR_GROUP);
        let mut reachable = |list: Option<(Range<usize>, Vec<Peer>)>| {
            let Some((span, peers)) = list else { return Vec::new() };
            check_peers(check, &span, &peers, &address);
            peers
        };
        let (proxy_protocol, trusted_proxies) = (reachable(proxy_protocol), reachable(trusted_proxies));
        if let Some((other, first)) = taken.iter().find(|(other, _)| other.clashes_with(&address)) {
            let line = check.line(first);
            let message = if *other == address {
                format!("{address} is listened on twice, first in line {line}")
            } else {
                format!("{address} and {other} in line {line} are the same port")
            };
            check.report(&at.span, message, "take one of them out or choose another port");
            continue;
        }
        listeners.push(Listen {
            address: address.clone(),
            http2,
            tls,
            purge_dialects,
            proxy_protocol,
            trusted_proxies,
            client_header,
            hosts,
            socket,
        });
        taken.push((address, at.span));
    }
    let admin = check_admin(check, admin, &taken);
    (listeners, admin)
}

fn peers(check: &mut Check<'_>, list: At<Vec<At<String>>>) -> Vec<Peer> {
    nets::list(check, list, "peer", str::parse)
}

/// Reports those who can never come to this address.
fn check_peers(check: &mut Check<'_>, span: &Range<usize>, peers: &[Peer], address: &ListenAddress) {
    let over_unix = matches!(address, ListenAddress::Unix(_));
    if let Some(stray) = peers.iter().find(|peer| matches!(peer, Peer::Unix) != over_unix) {
        let message = format!("nobody comes to {address} as {stray}");
        let hint = if over_unix {
            "on a Unix socket, write \"unix\""
        } else {
            "write addresses or networks, such as 10.0.0.0/8"
        };
        check.report(span, message, hint);
    }
}

/// `None` only together with a mistake.
fn check_tls(check: &mut Check<'_>, At { value: table, .. }: At<ListenTlsTable>) -> Option<ListenTls> {
    let client_auth = table.client_auth.and_then(|at| check_client_auth(check, at.value));
    // A missing list has been reported by its shape.
    let list = table.certificates?;
    if list.value.is_empty() && !check.damaged.contains(&list.span) {
        check.report(
            &list.span,
            "TLS needs at least one certificate",
            "add { cert = \"/etc/clearcoat/www.pem\", key = \"/etc/clearcoat/www.key\" }",
        );
    }
    let mut certificates: Vec<Certificate> = Vec::with_capacity(list.value.len());
    for At { value: table, .. } in list.value {
        let cert = table.cert.and_then(|at| Some((check_file(check, &at, PEM)?, at.span)));
        let key = table.key.and_then(|at| check_file(check, &at, PEM));
        let ocsp = table.ocsp.and_then(|at| check_file(check, &at, DER));
        let (Some((cert, span)), Some(key)) = (cert, key) else { continue };
        if certificates.iter().any(|other| other.cert == cert) {
            let message =
                format!("the certificate {:?} stands in this list already", cert.display().to_string());
            check.report(&span, message, "take one of the two out");
            continue;
        }
        certificates.push(Certificate { cert, key, ocsp });
    }
    (!certificates.is_empty()).then(|| ListenTls {
        certificates,
        http2: table.http2.is_none_or(|http2| http2.value),
        client_auth,
    })
}

/// Headers that nodes never get as a visitor sent them, whatever is configured.
const NEVER_SENT_ON: [&str; 9] = [
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-php-ob-level",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
];

/// `None` only together with a mistake.
fn check_client_auth(check: &mut Check<'_>, table: ClientAuthTable) -> Option<ClientAuth> {
    let subject_header = table.subject_header.and_then(|at| {
        let name = check.value::<HeaderName>(&at)?;
        let text = name.as_str();
        let is_free = text.starts_with("x-")
            && !text.starts_with("x-forwarded-")
            && !text.contains('_')
            && !NEVER_SENT_ON.contains(&text);
        if !is_free {
            let message = format!("{:?} cannot tell nodes of a certificate", at.value);
            check.report(&at.span, message, "choose a name of your own, such as X-Client-Subject");
        }
        is_free.then_some(name)
    });
    let ca = check_file(check, &table.ca?, PEM)?;
    Some(ClientAuth { ca, required: table.required.is_none_or(|required| required.value), subject_header })
}

/// What may stand for a file.
const PEM: &str = "name a PEM file, such as /etc/clearcoat/www.pem";
const DER: &str = "name a DER file, such as /etc/clearcoat/www.ocsp";

/// The path of a file. It is read when the listener starts.
fn check_file(check: &mut Check<'_>, at: &At<String>, hint: &str) -> Option<PathBuf> {
    if at.value.is_empty() {
        check.report(&at.span, "the path is empty", hint);
        return None;
    }
    Some(check.path(&at.value))
}

fn check_admin(
    check: &mut Check<'_>,
    table: Option<At<AdminTable>>,
    taken: &[(ListenAddress, Range<usize>)],
) -> Option<Admin> {
    let AdminTable { enabled, address, token, socket_mode, socket_user, socket_group } =
        table.map(|table| table.value).unwrap_or_default();
    let keys = SocketKeys { mode: socket_mode, user: socket_user, group: socket_group };
    let enabled = enabled.is_none_or(|enabled| enabled.value);
    let mut admin = Admin::default();
    let span = address.as_ref().map(|at| at.span.clone());
    if let Some(given) = address {
        admin.address = check.value(&given).unwrap_or(admin.address);
    }
    if !check.is_wrong("admin.address") {
        admin.socket = keys.check(check, Some(&admin.address), SocketFile::FOR_OWNER);
    }
    let token_is_given = token.is_some() || check.is_wrong("admin.token");
    admin.token = token.and_then(|token| secret(check, token));
    if !enabled {
        return None;
    }
    if check.is_wrong("admin.address") || check.is_wrong("admin.enabled") {
        return Some(admin);
    }

    if let Some((other, first)) = taken.iter().find(|(other, _)| other.clashes_with(&admin.address)) {
        let message =
            format!("the admin API at {} and the listener at {other} are the same port", admin.address);
        let hint = "give one of them another port; without admin.address the API is at 127.0.0.1:6082";
        check.report(span.as_ref().unwrap_or(first), message, hint);
    }
    // A token that is given but wrong has been reported.
    if let Some(span) = span
        && !admin.address.is_local()
        && !token_is_given
    {
        check.report(
            &span,
            format!("whoever reaches {} could purge everything", admin.address),
            "add a token under [admin], such as token = { env = \"CLEARCOAT_TOKEN\" }, or listen on 127.0.0.1",
        );
    }
    Some(admin)
}
