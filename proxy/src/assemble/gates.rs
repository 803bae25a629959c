//! What stands before the sites of a configuration.

use std::sync::Arc;

use clearcoat_conf as conf;
use http::Method;

use super::routes::path_rule;
use crate::front::gate::{Addresses, CountBy, Gate, Maintenance, NetSet, Passwords, RateRule, Turns};

/// What the routes of a site have in common. It is kept for as long as they are, so that what takes their place goes on with
/// what is known of the visitors.
pub(crate) struct Builder {
    hosts: Vec<conf::HostPattern>,
    redirect_to_https: bool,
    maintenance: Option<Arc<Maintenance>>,
    rates: Arc<[RateRule]>,
    turns: Option<(u32, Arc<Turns>)>,
    /// What stands before the site itself and before routes that say nothing else of passwords.
    passwords: Option<(conf::BasicAuth, Arc<Passwords>)>,
}

impl Builder {
    /// For a site. Of those in `before`, the one with the same hosts is the same site.
    pub(crate) fn new(site: &conf::Site, before: &[Self]) -> anyhow::Result<Self> {
        let before = before.iter().find(|before| before.hosts == site.hosts);
        let maintenance = site.maintenance.as_ref().map(|settings| {
            let conf::Maintenance { flag, page, retry_after, except } = settings.clone();
            Arc::new(Maintenance::new(flag, page, retry_after, NetSet::new(&except)))
        });
        let rates = site.rate_limits.iter().map(|settings| {
            let mut rule = rate_rule(settings)?;
            let before = before.and_then(|before| before.rates.iter().find(|known| known.name == rule.name));
            if let Some(before) = before {
                rule.go_on_from(before);
            }
            anyhow::Ok(rule)
        });
        let passwords = site.gate.basic_auth.as_ref().map(|settings| {
            let known = before.and_then(|before| before.passwords.clone());
            known
                .filter(|(before, _)| before == settings)
                .unwrap_or_else(|| (settings.clone(), Arc::new(passwords(settings))))
        });
        Ok(Self {
            hosts: site.hosts.clone(),
            redirect_to_https: site.redirect_to_https,
            maintenance,
            rates: rates.collect::<anyhow::Result<_>>()?,
            turns: site.max_concurrent.map(|most| {
                let known = before.and_then(|before| before.turns.as_ref()).map(|(_, turns)| turns.clone());
                (most.get(), known.unwrap_or_else(|| Arc::new(Turns::new(most.get()))))
            }),
            passwords,
        })
    }

    /// Its routes are in force now.
    pub(super) fn begin(&self) {
        if let Some((most, turns)) = &self.turns {
            turns.set_most(*most);
        }
    }

    /// What stands before the site, or one of its routes; `None`: nothing.
    pub(super) fn gate(&self, settings: &conf::Gate) -> anyhow::Result<Option<Arc<Gate>>> {
        let conf::Gate { access, basic_auth, max_body, response_headers: _ } = settings;
        let gate = Gate {
            addresses: Addresses {
                allow: access.allow.as_deref().map(NetSet::new),
                deny: NetSet::new(&access.deny),
            },
            redirect_to_https: self.redirect_to_https,
            maintenance: self.maintenance.clone(),
            max_body: max_body.map(u64::from),
            passwords: match (basic_auth, &self.passwords) {
                (None, _) => None,
                // What is known of the one is known of the other.
                (Some(own), Some((settings, passwords))) if own == settings => Some(passwords.clone()),
                (Some(own), _) => Some(Arc::new(passwords(own))),
            },
            rates: self.rates.clone(),
            turns: self.turns.as_ref().map(|(_, turns)| turns.clone()),
        };
        Ok((!gate.is_open()).then(|| Arc::new(gate)))
    }
}

fn passwords(settings: &conf::BasicAuth) -> Passwords {
    let users = settings.users.iter();
    let users = users.map(|(name, hash)| (name.as_str().into(), hash.expose().into())).collect();
    Passwords::new(settings.realm.as_str(), users, NetSet::new(&settings.except))
}

fn rate_rule(settings: &conf::RateLimit) -> anyhow::Result<RateRule> {
    let conf::RateLimit { name, paths, methods, by, rate, burst, except } = settings;
    let methods = methods.iter().map(|method| Method::from_bytes(method.as_str().as_bytes()));
    let mut rule = RateRule::new(name.as_str(), rate.count.get(), rate.per, burst.get());
    rule.paths = paths.iter().map(path_rule).collect();
    rule.methods = methods.collect::<Result<_, _>>()?;
    rule.by = match by {
        conf::RateKey::Client => CountBy::Client,
        conf::RateKey::Path => CountBy::Path,
        conf::RateKey::Header(name) => CountBy::Header(name.as_str().into()),
        conf::RateKey::Cookie(name) => CountBy::Cookie(name.as_str().into()),
    };
    rule.except = NetSet::new(except);
    Ok(rule)
}
