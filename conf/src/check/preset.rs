//! Presets: what their texts come to.

use serde::Deserialize;

use super::origin::{Origin, Origins};
use super::{Check, rules};
use crate::config::{Preset, Rules};
use crate::error::Mistake;
use crate::file::RulesTable;

/// The rules of a site that says no more than its preset, with where each comes from; `outer` is what stands below.
///
/// A preset that ships with mistakes would tell them; a test sees to it that none does.
pub(super) fn check(check: &mut Check<'_>, preset: Preset, outer: (&Rules, &Origins)) -> (Rules, Origins) {
    let (rules, origins, mistakes) = expand(preset, outer);
    check.mistakes.extend(mistakes);
    (rules, origins)
}

/// The same without a file.
pub(crate) fn expand(preset: Preset, outer: (&Rules, &Origins)) -> (Rules, Origins, Vec<Mistake>) {
    let name = format!("preset {preset}");
    let mut check = Check::new(preset.text(), &name, &|_| None);
    let (rules, origins) = match toml::Deserializer::parse(preset.text()).and_then(RulesTable::deserialize) {
        Ok(table) => {
            let origins = outer.1.under(&table.written(), Origin::Preset(preset));
            (rules::check(&mut check, table, &(0..0), outer.0), origins)
        }
        Err(error) => {
            check.report_toml(&error);
            (outer.0.clone(), outer.1.clone())
        }
    };
    (rules, origins, check.mistakes)
}
