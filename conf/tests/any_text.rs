//! Whatever the text, `parse` answers: with a configuration that holds, or with mistakes that have places.
#![allow(clippy::unwrap_used)]

use clearcoat_conf::parse;
use proptest::prelude::*;

const EXAMPLES: [&str; 5] = [
    include_str!("../examples/minimal.toml"),
    include_str!("../examples/cluster.toml"),
    include_str!("../examples/balancing.toml"),
    include_str!("../examples/every-key.toml"),
    include_str!("many_mistakes.toml"),
];

/// Values of every type, good and bad ones.
const VALUES: [&str; 24] = [
    "0",
    "1",
    "-1",
    "101",
    "70000",
    "99999999999999999999",
    "1.5",
    "nan",
    "true",
    "false",
    "\"\"",
    "\"*\"",
    "\"/\"",
    "\"5s\"",
    "\"1GiB\"",
    "\"web\"",
    "\"0.0.0.0:80\"",
    "\"10.0.0.1:80\"",
    "[]",
    "[\"*\"]",
    "[[1], {}]",
    "{}",
    "{ env = \"A\" }",
    "2020-01-01",
];

fn check(text: &str) -> Result<(), TestCaseError> {
    let is_toml = toml::from_str::<toml::Table>(text).is_ok();
    match parse(text, "edge.toml", &|_| Some("token".to_owned())) {
        Ok(config) => {
            prop_assert!(is_toml);
            prop_assert!(!config.listen.is_empty() && !config.sites.is_empty());
            for site in &config.sites {
                prop_assert!(!site.hosts.is_empty() && config.pools.contains_key(&site.pool));
                let pools = site.routes.iter().filter_map(|route| route.pool.as_ref());
                prop_assert!(pools.into_iter().all(|pool| config.pools.contains_key(pool)));
            }
            prop_assert!(config.pools.values().all(|pool| pool.nodes.iter().any(|node| !node.backup)));
            if config.admin.as_ref().is_none_or(|admin| admin.token.is_none()) && config.purge.token.is_none()
            {
                let shown = config.to_toml();
                prop_assert_eq!(parse(&shown, "shown.toml", &|_| None), Ok(config), "{}", shown);
            }
        }
        Err(mistakes) => {
            prop_assert!(mistakes.len() > 0);
            prop_assert_eq!(mistakes.to_string().lines().count(), mistakes.len());
            for mistake in &mistakes {
                let place = mistake.place.unwrap();
                prop_assert!(place.line <= text.split('\n').count());
                prop_assert!(
                    place.column <= text.split('\n').nth(place.line - 1).unwrap().chars().count() + 1
                );
                // What is TOML is understood by the schema: serde has nothing left to mind.
                prop_assert!(!is_toml || !mistake.message.starts_with("not TOML"), "{}", mistake);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn an_example_with_a_few_bytes_changed(
        example in 0..EXAMPLES.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, "[\\]\\[{}=\",.#0-9a-z\n]{0,4}"), 1..4),
    ) {
        let mut text: Vec<char> = EXAMPLES[example].chars().collect();
        for (at, length, new) in cuts {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        check(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn an_example_with_other_values(
        example in 0..EXAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..VALUES.len()), 1..4),
    ) {
        // Keys in comments come into force; `#` and a letter at once is how the examples mark them.
        let in_force = |line: &str| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key.to_owned(),
            _ => line.to_owned(),
        };
        let mut lines: Vec<String> = EXAMPLES[example].lines().map(in_force).collect();
        for (at, value) in changes {
            let line = at.get_mut(&mut lines);
            if let (Some((key, _)), false) = (line.split_once(" = "), line.starts_with('#')) {
                *line = format!("{key} = {}", VALUES[value]);
            }
        }
        check(&lines.join("\n"))?;
    }
}
