//! What the process may do once it listens, as the configuration has it.

use std::path::PathBuf;

use anyhow::Context as _;
use clearcoat_conf as conf;

use crate::process::{self, Settings};

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
    let log = config.log.access.iter().filter_map(|access| match &access.target {
        conf::AccessTarget::File(path) => Some(path.clone()),
        conf::AccessTarget::Stdout => None,
    });
    Settings {
        user: config.process.user.clone(),
        group: config.process.group.clone(),
        sandbox: config.process.sandbox,
        core_dumps: config.process.core_dumps,
        // What belongs to the configuration is read again with it.
        reads: renewed.iter().chain(&config.files).cloned().chain(pages).chain(authorities).collect(),
        writes: log.collect(),
        removes: sockets.filter_map(unix).collect(),
        renewed,
    }
}

/// What will fail later because the user of the configuration has no right to it, each with what to do; for `check`, as the process
/// becomes that user for it if it is root.
///
/// # Errors
///
/// If there is no such user or group.
pub(crate) fn look_ahead(config: &conf::Config) -> anyhow::Result<Vec<String>> {
    let files = config
        .listen
        .iter()
        .map(|listen| &listen.socket)
        .chain(config.admin.iter().map(|admin| &admin.socket));
    for file in files.chain([&config.sessions.socket]) {
        file.user.as_deref().map(process::user_id).transpose().context("socket_user")?;
        file.group.as_deref().map(process::group_id).transpose().context("socket_group")?;
    }
    process::look_ahead(&settings(config))
}
