//! What stands before the sites of a configuration.

use std::sync::Arc;

use clearcoat_conf as conf;
use http::Method;

use super::routes::path_rule;
use crate::front::gate::{Addresses, CountBy, Gate, Maintenance, NetSet, Passwords, RateRule, Turns};

/// What the routes of a site have in common.
pub(super) struct Builder {
    redirect_to_https: bool,
    maintenance: Option<Arc<Maintenance>>,
    rates: Arc<[RateRule]>,
    turns: Option<Arc<Turns>>,
    /// What stands before the site itself and before routes that say nothing else of passwords.
    passwords: Option<(conf::BasicAuth, Arc<Passwords>)>,
}

impl Builder {
    pub(super) fn new(site: &conf::Site) -> anyhow::Result<Self> {
        let maintenance = site.maintenance.as_ref().map(|settings| {
            let conf::Maintenance { flag, page, retry_after, except } = settings.clone();
            Arc::new(Maintenance::new(flag, page, retry_after, NetSet::new(&except)))
        });
        Ok(Self {
            redirect_to_https: site.redirect_to_https,
            maintenance,
            rates: site.rate_limits.iter().map(rate_rule).collect::<anyhow::Result<_>>()?,
            turns: site.max_concurrent.map(|most| Arc::new(Turns::new(most.get()))),
            passwords: site.gate.basic_auth.clone().map(|settings| {
                let passwords = Arc::new(passwords(&settings));
                (settings, passwords)
            }),
        })
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
            turns: self.turns.clone(),
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
