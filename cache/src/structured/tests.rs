//! Dictionaries in every form, and that what is written comes back when it is read.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn item(bare: Bare<'_>) -> Member<'_> {
    Member::Item(Item { bare, parameters: Vec::new() })
}

#[track_caller]
fn check(text: &str, expected: &[(&str, Member<'_>)]) {
    let found = Dictionary::parse(text.as_bytes());
    assert_eq!(found, Ok(Dictionary(expected.to_vec())), "text: {text:?}");
}

#[track_caller]
fn check_value(text: &str, expected: Bare<'_>) {
    check(&format!("a={text}"), &[("a", item(expected))]);
}

#[track_caller]
fn refuse(text: &str) {
    let found = Dictionary::parse(text.as_bytes());
    assert!(found.is_err(), "text: {text:?}, found: {found:?}");
}

#[test]
fn values_of_every_type_are_read() {
    for (text, expected) in
        [("0", 0), ("-0", 0), ("007", 7), ("-15", -15), ("999999999999999", 999_999_999_999_999)]
    {
        check_value(text, Bare::Integer(expected));
    }
    for (text, expected) in [("1.5", 1500), ("-0.001", -1), ("123456789012.25", 123_456_789_012_250)] {
        check_value(text, Bare::Decimal(expected));
    }
    for (text, expected) in [(r#""""#, ""), (r#""a, b""#, "a, b"), (r#""a\"b\\c""#, r#"a"b\c"#)] {
        check_value(text, Bare::String(expected.into()));
    }
    for text in ["a", "A", "*", "foo/bar:1", "a!#$%&'*+-.^_`|~"] {
        check_value(text, Bare::Token(text));
    }
    for text in ["", "YQ==", "YQ", "YWI=", "YWJj", "+/+/"] {
        check_value(&format!(":{text}:"), Bare::Bytes(text));
    }
    check_value("?1", Bare::Boolean(true));
    check_value("?0", Bare::Boolean(false));
    check_value("@-5", Bare::Date(-5));
    check_value(r#"%"a %c3%bc %25""#, Bare::Display("a ü %".into()));
    check_value(r#"%"""#, Bare::Display("".into()));
}

#[test]
fn what_is_no_value_is_refused() {
    for text in [
        "",
        "-",
        "--1",
        "+1",
        "1.",
        ".5",
        "1.2345",
        "1234567890123.0",
        "1234567890123456",
        "1a",
        "0x1",
        "'a'",
        "\"a",
        "\"a\\",
        "\"\\a\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\"ü\"",
        ":YQ==",
        ":a:",
        ":a=b=:",
        ":Y Q:",
        ":====:",
        "?",
        "?2",
        "?true",
        "@",
        "@1.5",
        "@x",
        "%a",
        "%\"",
        "%\"%C3%BC\"",
        "%\"%c3\"",
        "%\"%c\"",
        "%\"\u{1}\"",
        "(",
        "(a",
        "(a,b)",
        "(a\"b\")",
        "((a))",
        "=1",
        "{}",
        "&",
    ] {
        refuse(&format!("a={text}"));
    }
}

#[test]
fn members_have_names_and_commas() {
    let yes = || item(Bare::Boolean(true));
    let number = |number| item(Bare::Integer(number));
    check("", &[]);
    check("   ", &[]);
    check("a", &[("a", yes())]);
    check("  a,b=1 \t,\t c-d_e.f*9 ", &[("a", yes()), ("b", number(1)), ("c-d_e.f*9", yes())]);
    check("*a=1", &[("*a", number(1))]);
    // The last value stands at the first place.
    check("a=1, b, a=2", &[("a", number(2)), ("b", yes())]);
    for text in [
        "A", "aB=1", "1a", "-a", "_a", ",", "a,", ",a", "a,,b", "a b", "a =1", "a= 1", "\ta", "a;", "é",
        "a=1;B", "a; =1",
    ] {
        refuse(text);
    }
}

#[test]
fn lists_and_parameters_are_read() {
    let with =
        |bare, parameters: &[(&'static str, Bare<'static>)]| Item { bare, parameters: parameters.to_vec() };
    let (one, yes) = (|| Bare::Integer(1), || Bare::Boolean(true));
    check(
        "a;x;  y=1, b=1;x=2;x",
        &[
            ("a", Member::Item(with(yes(), &[("x", yes()), ("y", one())]))),
            ("b", Member::Item(with(one(), &[("x", yes())]))),
        ],
    );
    check(
        "a=(), b=( 1;x  t )",
        &[
            ("a", Member::InnerList(Vec::new(), Vec::new())),
            (
                "b",
                Member::InnerList(
                    vec![with(one(), &[("x", yes())]), with(Bare::Token("t"), &[])],
                    Vec::new(),
                ),
            ),
        ],
    );
    check("a=(1);x", &[("a", Member::InnerList(vec![with(one(), &[])], vec![("x", yes())]))]);
}

#[test]
fn there_is_an_end_to_everything() {
    let names = |count: usize, between: &str| {
        (0..count).map(|number| format!("a{number}")).collect::<Vec<_>>().join(between)
    };
    assert!(Dictionary::parse(names(MAX_MEMBERS, ",").as_bytes()).is_ok());
    refuse(&names(MAX_MEMBERS + 1, ","));
    assert!(Dictionary::parse(format!("a;{}", names(MAX_PARTS, ";")).as_bytes()).is_ok());
    refuse(&format!("a;{}", names(MAX_PARTS + 1, ";")));
    assert!(Dictionary::parse(format!("a=({})", names(MAX_PARTS, " ")).as_bytes()).is_ok());
    refuse(&format!("a=({})", names(MAX_PARTS + 1, " ")));
}

#[test]
fn members_are_found_by_name() {
    let dictionary = Dictionary::parse(b"a=1, b").unwrap_or_default();
    assert_eq!(dictionary.get("b"), Some(&item(Bare::Boolean(true))));
    assert_eq!(dictionary.get("c"), None);
    assert_eq!(dictionary.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    assert!(!dictionary.is_empty());
    assert_eq!(Dictionary::parse(b"a=&"), Err(NotADictionary { at: 2 }));
}

/// The text of a dictionary (RFC 9651 §4.1).
fn write(dictionary: &Dictionary<'_>) -> String {
    let members = dictionary.iter().map(|(name, member)| match member {
        Member::Item(Item { bare: Bare::Boolean(true), parameters }) => {
            name.to_owned() + &parameters_text(parameters)
        }
        Member::Item(item) => format!("{name}={}", item_text(item)),
        Member::InnerList(items, parameters) => {
            let items: Vec<_> = items.iter().map(item_text).collect();
            format!("{name}=({}){}", items.join(" "), parameters_text(parameters))
        }
    });
    members.collect::<Vec<_>>().join(", ")
}

fn item_text(item: &Item<'_>) -> String {
    bare_text(&item.bare) + &parameters_text(&item.parameters)
}

fn parameters_text(parameters: &Parameters<'_>) -> String {
    parameters.iter().fold(String::new(), |text, (name, bare)| format!("{text};{name}={}", bare_text(bare)))
}

fn bare_text(bare: &Bare<'_>) -> String {
    match bare {
        Bare::Integer(number) => number.to_string(),
        Bare::Decimal(number) => {
            let sign = if *number < 0 { "-" } else { "" };
            format!("{sign}{}.{:03}", number.abs() / 1000, number.abs() % 1000)
        }
        Bare::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Bare::Token(text) => (*text).to_owned(),
        Bare::Bytes(text) => format!(":{text}:"),
        Bare::Boolean(value) => format!("?{}", u8::from(*value)),
        Bare::Date(seconds) => format!("@{seconds}"),
        Bare::Display(text) => {
            let escaped = text.bytes().fold(String::new(), |mut all, byte| {
                match byte {
                    b'%' | b'"' | 0..=0x1f | 0x7f.. => {
                        write!(all, "%{byte:02x}").expect("a string takes all")
                    }
                    _ => all.push(char::from(byte)),
                }
                all
            });
            format!("%\"{escaped}\"")
        }
    }
}

const KEYS: &[&str] = &["a", "max-age", "*", "b.c_d*9"];

fn any_bare() -> impl Strategy<Value = Bare<'static>> {
    const MOST: i64 = 999_999_999_999_999;
    prop_oneof![
        (-MOST..=MOST).prop_map(Bare::Integer),
        (-MOST..=MOST).prop_map(Bare::Decimal),
        "[ -~]{0,8}".prop_map(|text| Bare::String(text.into())),
        prop::sample::select(vec!["t", "*", "T:/~"]).prop_map(Bare::Token),
        prop::sample::select(vec!["", "YQ==", "YWJj"]).prop_map(Bare::Bytes),
        any::<bool>().prop_map(Bare::Boolean),
        (-MOST..=MOST).prop_map(Bare::Date),
        any::<String>().prop_map(|text| Bare::Display(text.into())),
    ]
}

/// Each name once, in any order.
fn any_named<T: std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(&'static str, T)>> {
    let names = prop::sample::subsequence(KEYS, 0..=KEYS.len()).prop_shuffle();
    (names, prop::collection::vec(value, KEYS.len()))
        .prop_map(|(names, values)| names.into_iter().zip(values).collect())
}

fn any_item() -> impl Strategy<Value = Item<'static>> {
    (any_bare(), any_named(any_bare())).prop_map(|(bare, parameters)| Item { bare, parameters })
}

fn any_member() -> impl Strategy<Value = Member<'static>> {
    prop_oneof![
        any_item().prop_map(Member::Item),
        (prop::collection::vec(any_item(), 0..4), any_named(any_bare()))
            .prop_map(|(items, parameters)| Member::InnerList(items, parameters)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in any_named(any_member())) {
        let dictionary = Dictionary(members);
        let text = write(&dictionary);
        prop_assert_eq!(Dictionary::parse(text.as_bytes()), Ok(dictionary), "text: {}", text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Err(error) = Dictionary::parse(&bytes) {
            prop_assert!(error.at <= bytes.len());
        }
    }

    /// Text that looks like a dictionary gets further than noise does.
    #[test]
    fn what_is_read_can_be_written_again(text in r#"[a-c*=;,() \t"\\?@:%0-9.\-]{0,24}"#) {
        if let Ok(dictionary) = Dictionary::parse(text.as_bytes()) {
            let again = write(&dictionary);
            prop_assert_eq!(Dictionary::parse(again.as_bytes()), Ok(dictionary), "{} then {}", text, again);
        }
    }
}
