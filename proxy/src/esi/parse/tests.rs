#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A template in words: text as it is, everything else in brackets.
fn shown(body: &[u8], parts: &[Part]) -> String {
    let source = |source: &Source| match source {
        Source::Path(path) => String::from_utf8_lossy(path).into_owned(),
        Source::Host(host, path) => {
            format!("//{}{}", String::from_utf8_lossy(host), String::from_utf8_lossy(path))
        }
        Source::Relative(path) => format!("~{}", String::from_utf8_lossy(path)),
        Source::Unusable => "-".into(),
    };
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(span) => text.push_str(&String::from_utf8_lossy(&body[span.range()])),
            Part::Include(include) => {
                text.push_str(&format!("[{}", source(&include.src)));
                if let Some(alt) = &include.alt {
                    text.push_str(&format!(" or {}", source(alt)));
                }
                text.push_str(if include.or_nothing { " or nothing]" } else { "]" });
            }
            Part::Variable(_) => text.push_str("[$]"),
            Part::Try(block) => text.push_str(&format!(
                "[try {} else {}]",
                shown(body, &block.attempt),
                shown(body, &block.except)
            )),
            Part::Choose(block) => {
                text.push_str("[choose");
                for (test, parts) in &block.whens {
                    let when = if *test == Test::Never { "never" } else { "when" };
                    text.push_str(&format!(" {when} {}", shown(body, parts)));
                }
                text.push_str(&format!(" else {}]", shown(body, &block.otherwise)));
            }
        }
    }
    text
}

#[track_caller]
fn check(body: &str, expected: &str) {
    let template = parse(body.as_bytes());
    assert_eq!(shown(body.as_bytes(), &template.parts), expected, "body: {body:?}");
}

#[test]
fn includes_are_found() {
    check("a<esi:include src=\"/b\"/>c", "a[/b]c");
    check("<esi:include src='/b' />", "[/b]");
    check(
        "<esi:include\n\tonerror = \"continue\"  alt='/c?x=1&amp;y=2' src=\"/b\" />",
        "[/b or /c?x=1&y=2 or nothing]",
    );
    check(
        "<esi:include src=\"/_fragment?_hash=a%3D&amp;_path=b&#38;c&#x26;d&quot;&unknown;\" />",
        "[/_fragment?_hash=a%3D&_path=b&c&d%22&unknown;]",
    );
    check("<esi:include src=\"/b\"></esi:include>c", "[/b]c");
    check("<esi:include src=\"/b\">c", "[/b]c");
    check("<esi:include src=/b />", "[/b]");
    check("<esi:include src=\"/b>c\"/>", "[/b%3Ec]");
    check("<esi:include onerror=\"stop\" src=\"//h/b\"/>", "[//h/b]");
    check("<esi:include alt=\"/c\"/>", "[- or /c]");
    check("<esi:include src/>", "[-]");
    check("<esi:include xsrc=\"/a\" src=\"b\" =/>", "[~b]");
    check("<a><b><esi:include src=\"/b\"/><esi:include src=\"/c\"/></b>", "<a><b>[/b][/c]</b>");
}

#[test]
fn what_is_for_other_processors_goes() {
    check("a<esi:comment text=\"x\"/>b<esi:comment text='y' ></esi:comment>c", "abc");
    check("a<esi:remove> <b><esi:include src=\"/x\"/></b> </esi:remove>b", "ab");
    check("a<esi:remove/>b", "ab");
    check("a<esi:remove>b", "a<esi:remove>b");
    check("a<esi:remove>b<esi:remove>c</esi:remove>d", "ad");
}

#[test]
fn comments_for_esi_are_opened() {
    check("a<!--esi b<esi:include src=\"/c\"/> -->d", "a b[/c] d");
    check("a<!--esi b <!--esi c --> d", "a b  c  d");
    check("<!--esi <p>--><!-- esi --><!--esi-->", " <p><!-- esi -->");
    check("a<!--esi b", "a<!--esi b");
    check("a<!--esix --> b", "a<!--esix --> b");
    check("--> a<!--esi b", "--> a<!--esi b");
    // A value goes over the end; the next one is it.
    check("<!--esi <esi:include src=\"/a-->\"/>b-->c", " [/a--%3E]bc");
}

#[test]
fn blocks_are_read() {
    check(
        "a<esi:try> x <esi:attempt>b<esi:include src=\"/c\"/></esi:attempt> y <esi:except>d</esi:except> z </esi:try>e",
        "a[try b[/c] else d]e",
    );
    check("<esi:try><esi:attempt>a</esi:attempt></esi:try>", "[try a else ]");
    check(
        "<esi:choose><esi:when test=\"$(HTTP_HOST)=='a'\">a</esi:when><esi:when test='?'>b</esi:when> x \
         <esi:otherwise>c</esi:otherwise></esi:choose>",
        "[choose when a never b else c]",
    );
    check(
        "$(HTTP_HOST)<esi:vars>a$(HTTP_HOST)b$(X)$(</esi:vars>$(HTTP_HOST)",
        "$(HTTP_HOST)a[$]b$(X)$($(HTTP_HOST)",
    );
    check(
        "<esi:vars><esi:try><esi:attempt>$(HTTP_HOST)</esi:attempt></esi:try></esi:vars>",
        "[try [$] else ]",
    );
}

#[test]
fn tags_without_sense_do_no_harm() {
    let check = |body: &str, expected: &str, strays: u32| {
        check(body, expected);
        assert_eq!(parse(body.as_bytes()).strays, strays, "{body}");
    };
    check("a<esi:inline name=\"x\">b</esi:inline>c", "abc", 2);
    check("a</esi:try>b", "ab", 1);
    check("<esi:attempt>a</esi:attempt>", "a", 1);
    check("<esi:try><esi:include src=\"/a\"/></esi:try>", "[try  else ]", 1);
    // Never closed: text with its tags put in.
    check("<esi:try>a<esi:attempt>b<esi:include src=\"/c\"/>", "<esi:try>ab[/c]", 0);
    check("<esi:try>a<esi:attempt>b</esi:attempt>c", "<esi:try>abc", 0);
    check("<esi:try>a<esi:attempt>b</esi:try>c", "[try b else ]c", 0);
    check("<esi:choose>a<esi:vars>b", "<esi:choose>a<esi:vars>b", 0);
    check("<esi:vars>a<esi:try>b</esi:vars>c", "a<esi:try>bc", 0);
    check("a<esi:include src=\"/b", "a<esi:include src=\"/b", 0);
    check("a<esi:include <esi:include src=\"/b\"/>", "a<esi:include [/b]", 0);
    check("a<esi:>b<esi", "a<esi:>b<esi", 0);
    check("desired <esi-x> esi:", "desired <esi-x> esi:", 0);
    check("", "", 0);
}

#[test]
fn a_tag_has_an_end_within_bounds() {
    let filler = "x".repeat(MAX_TAG_BYTES);
    let body = format!("<esi:include src=\"/a?{filler}\"/><esi:include src=\"/b\"/>");
    assert!(shown(body.as_bytes(), &parse(body.as_bytes()).parts).ends_with("\"/>[/b]"));
}

#[test]
fn blocks_and_parts_have_bounds() {
    let deep = "<esi:try><esi:attempt>".repeat(1000) + "x";
    assert!(shown(deep.as_bytes(), &parse(deep.as_bytes()).parts).ends_with('x'));
    let many = "a<esi:comment/>".repeat(MAX_PARTS * 2);
    let template = parse(many.as_bytes());
    assert!(template.parts.len() <= MAX_PARTS + 1);
    assert!(shown(many.as_bytes(), &template.parts).ends_with("a<esi:comment/>"));
}

#[test]
fn hostile_pages_are_read_to_their_end() {
    // Four megabytes each: a reading that looks back, or ahead, for every tag would take hours.
    for unit in [
        "<esi:a \"",
        "<esi:a '\"",
        "<esi:",
        "<esi:remove>",
        "<!--esi ",
        "<esi:try>",
        "</esi:try>",
        "<esi:vars>$(HTTP_HOST",
        "<!--esi --><esi:a b='-->'>",
        "esi",
    ] {
        let body = unit.repeat(4_000_000 / unit.len());
        let template = parse(body.as_bytes());
        assert!(template.parts.len() <= MAX_PARTS + 2 * MAX_BLOCKS, "{unit}");
    }
}

fn spans(parts: &[Part], all: &mut Vec<Span>) {
    for part in parts {
        match part {
            Part::Text(span) => all.push(*span),
            Part::Include(_) | Part::Variable(_) => {}
            Part::Try(block) => {
                spans(&block.attempt, all);
                spans(&block.except, all);
            }
            Part::Choose(block) => {
                block.whens.iter().for_each(|(_, parts)| spans(parts, all));
                spans(&block.otherwise, all);
            }
        }
    }
}

/// A piece of a page, and what is left of it when it is put together.
fn piece() -> impl Strategy<Value = (String, String)> {
    let text = "[a-z <>/!\"'=$-]{0,8}".prop_filter("no part of a tag", |text: &String| {
        !text.contains("esi") && !text.contains("--") && !text.contains('<')
    });
    prop_oneof![
        3 => text.clone().prop_map(|text| (text.clone(), text)),
        1 => "[a-z]{1,5}".prop_map(|path| (format!("<esi:include src='/{path}'/>"), format!("[/{path}]"))),
        1 => text.clone().prop_map(|text| (format!("<esi:remove>{text}</esi:remove>"), String::new())),
        1 => text.clone().prop_map(|text| (format!("<!--esi {text} -->"), format!(" {text} "))),
        1 => Just(("<esi:comment text=\"x\" />".into(), String::new())),
        1 => text.prop_map(|text| {
            (format!("<esi:try><esi:attempt>{text}</esi:attempt></esi:try>"), format!("[try {text} else ]"))
        }),
    ]
}

proptest! {
    #[test]
    fn tags_are_replaced_and_nothing_else(pieces in proptest::collection::vec(piece(), 0..20)) {
        let (body, expected): (String, String) = pieces.into_iter().unzip();
        prop_assert_eq!(shown(body.as_bytes(), &parse(body.as_bytes()).parts), expected);
    }

    #[test]
    fn any_bytes_are_a_page(
        units in proptest::collection::vec(prop_oneof![
            Just("<esi:".to_owned()), Just("</esi:".into()), Just("<!--esi".into()), Just("-->".into()), Just("include".into()),
            Just("try>".into()), Just("attempt>".into()), Just("except>".into()), Just("choose>".into()), Just("when ".into()),
            Just("vars>".into()), Just("remove>".into()), Just(" src=\"".into()), Just("\"".into()), Just("'".into()),
            Just("/>".into()), Just(">".into()), Just("$(HTTP_HOST".into()), Just(")".into()), ".{0,3}",
        ], 0..60),
    ) {
        let body: String = units.concat();
        let template = parse(body.as_bytes());
        let mut all = Vec::new();
        spans(&template.parts, &mut all);
        let mut end = 0;
        for span in all {
            prop_assert!(span.start >= end && span.end as usize <= body.len() && span.start < span.end);
            end = span.end;
        }
    }

    #[test]
    fn pages_without_tags_stay_whole(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assume!(memmem::find(&body, b"esi").is_none());
        prop_assert!(!parse(&body).has_work(body.len()));
    }
}
