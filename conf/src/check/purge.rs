//! `[purge]`: who may purge, and how they ask for it.

use super::misc::secret;
use super::{Check, distinct, nets};
use crate::config::{HeaderName, Preset, Purge, PurgeDialect, parse_net};
use crate::file::{At, DialectWord, PurgeTable};

/// Checks `[purge]`; `presets` are those of all sites, which say how their applications ask where nothing else is written.
pub(super) fn check(
    check: &mut Check<'_>,
    table: Option<At<PurgeTable>>,
    presets: impl Iterator<Item = Preset>,
) -> Purge {
    let table = table.map(|at| at.value).unwrap_or_default();
    let mut purge = Purge::default();
    if let Some(list) = table.allow {
        purge.allow = nets::list(check, list, "network", parse_net);
    }
    purge.dialects = match table.dialects {
        Some(list) => dialects(check, list),
        None => {
            let spoken: Vec<_> = presets.flat_map(|preset| preset.dialects()).collect();
            PurgeDialect::ALL.into_iter().filter(|dialect| spoken.contains(&dialect)).collect()
        }
    };
    if let Some(list) = table.ban_headers {
        purge.ban_headers = distinct(check, list, "header", |text| text.parse::<HeaderName>());
    }
    if let Some(list) = table.tag_headers {
        purge.tag_headers = distinct(check, list, "header", |text| text.parse::<HeaderName>());
    }
    purge.token = table.token.and_then(|token| secret(check, token));
    purge.keep_tag_headers = table.keep_tag_headers.is_some_and(|keep| keep.value);
    purge
}

/// A list of dialects, each once.
pub(super) fn dialects(check: &mut Check<'_>, list: At<Vec<At<DialectWord>>>) -> Vec<PurgeDialect> {
    let mut dialects = Vec::new();
    for word in list.value {
        let dialect = match word.value {
            DialectWord::Purge => PurgeDialect::Purge,
            DialectWord::Purgekeys => PurgeDialect::PurgeKeys,
            DialectWord::Ban => PurgeDialect::Ban,
            DialectWord::Key => PurgeDialect::Key,
            DialectWord::LocationId => PurgeDialect::LocationId,
            DialectWord::SurrogateKey => PurgeDialect::SurrogateKey,
        };
        if dialects.contains(&dialect) {
            check.report(&word.span, format!("{:?} is there twice", dialect.as_str()), "write it once");
        } else {
            dialects.push(dialect);
        }
    }
    dialects
}
