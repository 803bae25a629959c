//! The user context of a site and its routes.

use std::sync::Arc;

use clearcoat_cache::{DefaultTtls, FreshnessSettings};
use clearcoat_conf as conf;
use http::header::{HeaderName, HeaderValue};

use super::routes::header_names;
use crate::front::context::ContextRules;
use crate::front::context::delivery::Delivery;
use crate::front::context::except::Except;
use crate::front::context::forged::Forgeries;
use crate::front::token;

/// How the contexts of a route's visitors are found out; `freshness` is the route's.
pub(super) fn rules(
    rules: &conf::Rules,
    freshness: &FreshnessSettings,
) -> anyhow::Result<Option<Arc<ContextRules>>> {
    let Some(context) = &rules.user_context else { return Ok(None) };
    Ok(Some(Arc::new(ContextRules {
        header: header(context)?,
        accept: HeaderValue::from_str(context.accept.as_str())?,
        path: context.path.as_str().into(),
        except: Except::new(context.except.iter().map(conf::UrlSuffix::as_str)),
        anonymous: match &context.anonymous {
            Some(hash) => Some(HeaderValue::from_str(hash.as_str())?),
            None => None,
        },
        authorized: context.authorized,
        freshness: as_said(freshness),
    })))
}

/// How the token is asked for that lets purges in: as a hash is, but that nobody has one of his own. What Varnish does in
/// `ez_invalidate_token`.
pub(super) fn purge_token(
    rules: &conf::Rules,
    freshness: &FreshnessSettings,
) -> anyhow::Result<Option<Arc<ContextRules>>> {
    Ok(rules.purge_token_path.as_ref().map(|path| {
        Arc::new(ContextRules {
            header: HeaderName::from_static(token::HEADER),
            accept: HeaderValue::from_static(token::TYPE),
            path: path.as_str().into(),
            except: Except::default(),
            anonymous: None,
            authorized: true,
            freshness: as_said(freshness),
        })
    }))
}

/// Only the application knows for how long rights stay as they are.
fn as_said(freshness: &FreshnessSettings) -> FreshnessSettings {
    FreshnessSettings {
        overrides: DefaultTtls::default(),
        defaults: DefaultTtls::default(),
        heuristic_percent: 0,
        ..freshness.clone()
    }
}

/// What of a route's answers is for visitors.
pub(super) fn delivery(
    rules: &conf::Rules,
    gate: &conf::Gate,
    hsts: Option<conf::Hsts>,
) -> anyhow::Result<Arc<Delivery>> {
    let set = |(name, value): (&conf::HeaderName, &conf::HeaderValue)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
        anyhow::Ok((name, HeaderValue::from_str(value.as_str())?))
    };
    let context = rules.user_context.as_ref();
    Ok(Arc::new(Delivery {
        set: gate.response_headers.iter().map(set).collect::<anyhow::Result<_>>()?,
        hsts: hsts.map(|hsts| HeaderValue::from_str(&hsts.to_string())).transpose()?,
        hide: header_names(&rules.hide_headers)?.into(),
        tag_suffix: match &rules.tag_suffix_header {
            Some(name) => Some(HeaderName::from_bytes(name.as_str().as_bytes())?),
            None => None,
        },
        debug: match &rules.debug_header {
            Some(name) => Some(HeaderName::from_bytes(name.as_str().as_bytes())?),
            None => None,
        },
        context: context.map(header).transpose()?,
        rewrite_cache_control: context.is_some_and(|context| context.rewrite_cache_control),
    }))
}

/// What requests of a site may not say; `None` if none of its routes knows a context or a token.
pub(super) fn forgeries(site: &conf::Site) -> anyhow::Result<Option<Arc<Forgeries>>> {
    let all = std::iter::once(&site.rules).chain(site.routes.iter().map(|route| &route.rules));
    let mut known = Vec::new();
    let has_token = all.clone().any(|rules| rules.purge_token_path.is_some());
    for context in all.filter_map(|rules| rules.user_context.as_ref()) {
        known.push((header(context)?, HeaderValue::from_str(context.accept.as_str())?));
    }
    let pairs = known.iter().map(|(header, accept)| (header, accept));
    Ok((has_token || !known.is_empty()).then(|| Arc::new(Forgeries::new(pairs))))
}

fn header(context: &conf::UserContext) -> anyhow::Result<HeaderName> {
    Ok(HeaderName::from_bytes(context.header.as_str().as_bytes())?)
}
