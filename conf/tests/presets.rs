//! Presets: what each comes to, what goes before it, and how that is told.
#![allow(clippy::unwrap_used)]

mod one_site;

use clearcoat_conf::{Preset, explain, parse, schema};

use self::one_site::FILE;

/// The lines of sites and routes that are said to come from `origin`, without it.
fn said_by(text: &str, origin: &str) -> Vec<String> {
    let page = explain(&format!("{FILE}{text}\n"), "edge.toml", &|_| None)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut said = Vec::new();
    for line in page.lines() {
        if let Some((rule, from)) = line.rsplit_once("  # ")
            && from == origin
        {
            said.push(rule.trim_end().to_owned());
        }
    }
    said
}

/// The ends of names that eZ Platform's VCL takes for files.
const FILES: &str = concat!(
    r#"["*.css", "*.js", "*.gif", "*.jpg", "*.jpeg", "*.bmp", "*.png", "*.tif", "*.tiff", "*.ico", "*.img", "*.tga", "#,
    r#""*.wmf", "*.svg", "*.swf", "*.mp3", "*.mp4", "*.m4a", "*.ogg", "*.mov", "*.avi", "*.wmv", "*.zip", "*.gz", "#,
    r#""*.pdf", "*.ttf", "*.eot", "*.wof"]"#
);

#[test]
fn what_each_preset_comes_to() {
    let as_sent = "user_context.authorized = false";
    let ez = |context: &[&str], hidden: &str, suffix: bool| {
        let before = [
            r#"default_ttl = "2m""#,
            r#"grace = "1h""#,
            r#"keep = "10m""#,
            r#"uncacheable_ttl = "2m""#,
            r#"cookies = "share""#,
            r#"keep_cookies = ["eZSESSID*"]"#,
            "query.sort = true",
            "esi = true",
            "grace_for_sessions = false",
        ];
        let mut lines: Vec<String> = before.iter().chain(context).map(|line| (*line).to_owned()).collect();
        let header = lines.iter().position(|line| line.starts_with("user_context.header")).unwrap();
        lines.insert(header + 1, format!("user_context.except = {FILES}"));
        lines.extend([
            "user_context.rewrite_cache_control = true".to_owned(),
            format!("hide_headers = [{hidden}]"),
        ]);
        if suffix {
            let stale = lines.iter().position(|line| line.starts_with("grace_for_sessions")).unwrap();
            lines.insert(stale + 1, r#"tag_suffix_header = "x-lang""#.to_owned());
            lines.insert(stale + 2, r#"purge_token_path = "/_ez_http_invalidatetoken""#.to_owned());
        }
        lines
    };
    let old_header = r#"user_context.header = "x-user-hash""#;
    let anonymous = r#"user_context.anonymous = "38015b703d82206ebc01d17a39c727e5""#;
    for (preset, expected) in [
        (Preset::Http, vec![]),
        (
            Preset::Symfony,
            vec![
                r#"request_no_cache = "refresh""#.to_owned(),
                "esi = true".to_owned(),
                r#"debug_header = "x-cache-debug""#.to_owned(),
                r#"hide_headers = ["x-user-context-hash"]"#.to_owned(),
            ],
        ),
        (
            Preset::EzPlatform,
            ez(
                &[r#"user_context.header = "x-user-context-hash""#, as_sent],
                r#""x-user-context-hash", "x-lang""#,
                true,
            ),
        ),
        (Preset::EzPlatform2, ez(&[old_header, as_sent], r#""x-user-hash", "x-lang""#, true)),
        (Preset::EzPlatform1, ez(&[old_header, anonymous], r#""x-user-hash", "x-lang""#, false)),
    ] {
        let found = said_by(&format!("preset = \"{preset}\""), &format!("preset {preset}"));
        assert_eq!(found, expected, "{preset}");
    }
    // A table without keys says nothing by itself, but it is there.
    let context = said_by("preset = \"symfony\"", "default");
    assert!(context.contains(&r#"user_context.path = "/_fos_user_context_hash""#.to_owned()), "{context:?}");
}

#[test]
fn every_preset_fits_the_schema_as_a_site_does() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for preset in Preset::ALL {
        let tables = preset.text().replace("[user_context]", "[site.user_context]");
        let text = format!("{FILE}{tables}");
        let value = serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{preset}: {errors:?}");
        // Written out it is the same.
        let [written, named] = [text, format!("{FILE}preset = \"{preset}\"\n")]
            .map(|text| parse(&text, "x", &|_| None).unwrap());
        assert_eq!(written.sites[0].rules, named.sites[0].rules, "{preset}");
    }
}

#[test]
fn the_nearest_word_counts_and_is_named() {
    let text = r#"
        preset = "ez-platform"
        grace = "2h"
        query = { drop = ["utm_*"] }
        user_context = { path = "/hash" }
        route = [
            { path = "/a", keep = "1s", user_context = { path = "/hash-a" } },
            { path = "/b", user_context = false, hide_headers = [] },
        ]
        [cache]
        keep = "3h"
        stale_if_error = "4h"
        compress.enabled = true
    "#;
    // Each line is that of the site, then those of the routes that store.
    for (origin, expected) in [
        ("[cache]", [r#"stale_if_error = "4h""#, "compress = true"].repeat(3)),
        (
            "site",
            vec![
                r#"grace = "2h""#,
                "query.sort = false",
                r#"query.drop = ["utm_*"]"#,
                r#"user_context.path = "/hash""#,
                r#"grace = "2h""#,
                "query.sort = false",
                r#"query.drop = ["utm_*"]"#,
                r#"grace = "2h""#,
                "query.sort = false",
                r#"query.drop = ["utm_*"]"#,
            ],
        ),
        (
            "route",
            vec![
                r#"keep = "1s""#,
                r#"user_context.path = "/hash-a""#,
                "user_context = false",
                "hide_headers = []",
            ],
        ),
    ] {
        assert_eq!(said_by(text, origin), expected, "{origin}");
    }
    let preset = said_by(text, "preset ez-platform");
    assert_eq!(
        preset.iter().filter(|line| line.starts_with("keep =")).collect::<Vec<_>>(),
        [r#"keep = "10m""#; 2]
    );
    assert_eq!(preset.iter().filter(|line| line.starts_with("user_context.header")).count(), 2);
}

#[test]
fn a_site_may_name_a_lifetime_although_its_preset_has_one() {
    let text = format!("{FILE}preset = \"ez-platform\"\nttl = \"1h\"\n");
    assert_eq!(parse(&text, "x", &|_| None).unwrap().sites[0].rules.ttl.unwrap().as_secs(), 3600);
}

#[test]
fn what_is_explained_is_a_configuration_again() {
    for preset in Preset::ALL {
        let text = format!("{FILE}preset = \"{preset}\"\nroute = [{{ path = \"/a\", grace = \"1s\" }}]\n");
        let page = explain(&text, "x", &|_| None).unwrap();
        assert_eq!(parse(&page, "x", &|_| None).unwrap(), parse(&text, "x", &|_| None).unwrap(), "{page}");
    }
}
