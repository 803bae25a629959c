//! What the process may do once it listens, as the configuration has it.

use std::path::PathBuf;

use clearcoat_conf as conf;

use crate::process::Settings;

/// Which files it reads and writes while it runs, and who it is.
pub(super) fn settings(config: &conf::Config) -> Settings {
    let tls = config.listen.iter().filter_map(|listen| listen.tls.as_ref());
    let visitors = tls.clone().filter_map(|tls| Some(&tls.client_auth.as_ref()?.ca));
    let certificates = tls.flat_map(|tls| &tls.certificates);
    let renewed: Vec<PathBuf> = certificates
        .flat_map(|pair| [&pair.cert, &pair.key].into_iter().chain(&pair.ocsp))
        .chain(visitors)
        .cloned()
        .collect();
    let pages = config.sites.iter().filter_map(|site| site.maintenance.as_ref());
    let pages = pages.flat_map(|maintenance| [&maintenance.flag, &maintenance.page]).flatten().cloned();
    let authorities = config.pools.values().filter_map(|pool| pool.tls.as_ref()?.ca.clone());
    let unix = |address: &conf::ListenAddress| match address {
        conf::ListenAddress::Unix(path) => Some(path.clone()),
        conf::ListenAddress::Tcp(_) => None,
    };
    let listeners = config.listen.iter().map(|listen| &listen.address);
    let sockets =
        listeners.chain(config.admin.iter().map(|admin| &admin.address)).chain(&config.sessions.listen);
    let log = config.log.access.as_ref().and_then(|access| match &access.target {
        conf::AccessTarget::File(path) => Some(path.clone()),
        conf::AccessTarget::Stdout => None,
    });
    Settings {
        user: config.process.user.clone(),
        group: config.process.group.clone(),
        sandbox: config.process.sandbox,
        core_dumps: config.process.core_dumps,
        reads: renewed.iter().cloned().chain(pages).chain(authorities).collect(),
        // The folders of sockets: their files are taken away at the end.
        writes: sockets.filter_map(unix).chain(log).collect(),
        renewed,
    }
}
