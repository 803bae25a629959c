//! What of a query belongs to a page: the order of parameters and the list of those that count.
//!
//! The rules make one URL of many, and the node of a cacheable request is asked for that very URL. So what is not in the key
//! is never at the node either, and whoever puts something into a parameter that is dropped puts it nowhere. For the same
//! reason values are never decoded or rewritten: only whole parameters are left out or moved.
//!
//! Parameters end at `&` alone, as in PHP. To a reader that also ends them at `;`, `a=1;utm_x=2` would be two; here it is one
//! with the value `1;utm_x=2`, so a second opinion about where one ends cannot bring anything past the list.

use std::borrow::Cow;

use clearcoat_conf::NamePattern;
use smallvec::SmallVec;

use super::names::{before_equals, decoded, variable};

/// Which parameters count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Parameters {
    /// All.
    #[default]
    All,
    /// Those with these names.
    Keep(Box<[NamePattern]>),
    /// All but those with these names.
    Drop(Box<[NamePattern]>),
}

/// What is done to the query of a cacheable request before anything looks at it. Default: nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct QueryRules {
    /// Whether parameters are brought into the order of their names. Those that PHP puts into one variable (`a=1&a=2`,
    /// `a[]=1&a[]=2`, also under different spellings of the name) keep their order, because it matters to it.
    pub(crate) sort: bool,
    /// Compared with each name as it is written and as it reads decoded: `utm%5fsource` is `utm_source`.
    pub(crate) parameters: Parameters,
}

impl QueryRules {
    /// The target as this cache knows it. Nothing is allocated unless something changes.
    ///
    /// With any rule, parameters without a name and a value (`&&`) go, and so does a `?` with nothing left behind it.
    pub(crate) fn apply<'a>(&self, target: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.sort && self.parameters == Parameters::All {
            return Cow::Borrowed(target);
        }
        let Some(mark) = memchr::memchr(b'?', target) else { return Cow::Borrowed(target) };
        let (path, query) = (&target[..mark], &target[mark + 1..]);
        let kept = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty() && self.counts(pair));
        let mut kept: SmallVec<[&[u8]; 16]> = kept.collect();
        if self.sort {
            kept.sort_by(|a, b| variable(before_equals(a)).cmp(variable(before_equals(b))));
        }
        if query.split(|byte| *byte == b'&').eq(kept.iter().copied()) {
            return Cow::Borrowed(target);
        }
        let mut changed = Vec::with_capacity(target.len());
        changed.extend_from_slice(path);
        for (at, pair) in kept.iter().enumerate() {
            changed.push(if at == 0 { b'?' } else { b'&' });
            changed.extend_from_slice(pair);
        }
        Cow::Owned(changed)
    }

    fn counts(&self, pair: &[u8]) -> bool {
        let name = before_equals(pair);
        let listed = |names: &[NamePattern]| {
            names.iter().any(|known| known.matches(name.iter().copied()) || known.matches(decoded(name)))
        };
        match &self.parameters {
            Parameters::All => true,
            Parameters::Keep(names) => listed(names),
            Parameters::Drop(names) => !listed(names),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn patterns(names: &[&str]) -> Box<[NamePattern]> {
        names.iter().map(|name| NamePattern::parameter(name).unwrap()).collect()
    }

    fn sorted() -> QueryRules {
        QueryRules { sort: true, parameters: Parameters::All }
    }

    fn without(names: &[&str]) -> QueryRules {
        QueryRules { sort: false, parameters: Parameters::Drop(patterns(names)) }
    }

    fn only(names: &[&str]) -> QueryRules {
        QueryRules { sort: false, parameters: Parameters::Keep(patterns(names)) }
    }

    #[track_caller]
    fn check(rules: &QueryRules, target: &str, expected: &str) {
        let found = rules.apply(target.as_bytes());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{target}");
        let unchanged = target == expected;
        assert_eq!(matches!(found, Cow::Borrowed(_)), unchanged, "allocated only for a change: {target}");
    }

    #[test]
    fn without_rules_nothing_changes() {
        for target in ["/", "/a?", "/a?b=1&a=2&&", "*", "/a?x?y"] {
            check(&QueryRules::default(), target, target);
        }
    }

    #[test]
    fn parameters_are_sorted_by_name_and_those_of_one_name_keep_their_order() {
        check(&sorted(), "/a?b=1&a=2", "/a?a=2&b=1");
        check(&sorted(), "/a?a=2&a=1", "/a?a=2&a=1");
        check(&sorted(), "/a?b&a=2&a=1", "/a?a=2&a=1&b");
        check(&sorted(), "/a?x[]=2&x[]=1&x[a]=0", "/a?x[]=2&x[]=1&x[a]=0");
        // PHP puts each of these pairs into one variable, where the last counts.
        check(&sorted(), "/a?b=1&%61=2&a=3", "/a?%61=2&a=3&b=1");
        check(&sorted(), "/a?a_b=1&a.b=2", "/a?a_b=1&a.b=2");
        check(&sorted(), "/a?x[b]=1&x=2", "/a?x[b]=1&x=2");
    }

    #[test]
    fn parameters_go_by_their_names() {
        let utm = without(&["utm_*", "gclid"]);
        check(&utm, "/a?utm_source=x&id=1&gclid=2", "/a?id=1");
        check(&utm, "/a?utm%5Fsource=x&id=1", "/a?id=1");
        check(&utm, "/a?%75tm_source=x", "/a");
        check(&utm, "/a?utm_source", "/a");
        check(&utm, "/a?id=utm_source&gclids=1", "/a?id=utm_source&gclids=1");
        check(&utm, "/a?UTM_SOURCE=x", "/a?UTM_SOURCE=x");
        check(&only(&["id", "page"]), "/a?x=1&page=2&id=3&idx=4", "/a?page=2&id=3");
        check(&only(&["ids[]"]), "/a?ids%5B%5D=2&x=1&ids[]=1", "/a?ids%5B%5D=2&ids[]=1");
        check(&only(&[]), "/a?x=1", "/a");
        check(&only(&["*"]), "/a?x=1", "/a?x=1");
        let both = QueryRules { sort: true, parameters: Parameters::Keep(patterns(&["b", "a"])) };
        check(&both, "/a?c=1&b=2&a=3", "/a?a=3&b=2");
    }

    #[test]
    fn nothing_is_left_of_an_empty_query() {
        for target in ["/a?", "/a?&", "/a?&&&"] {
            check(&sorted(), target, "/a");
        }
        check(&sorted(), "/a?&b=1&&a=2&", "/a?a=2&b=1");
        check(&sorted(), "/a?=x", "/a?=x");
    }

    #[test]
    fn a_semicolon_is_part_of_a_value() {
        let utm = without(&["utm_*"]);
        // A reader that ends parameters at semicolons too must not find another `id` than this one.
        check(&utm, "/a?id=1&utm_x=1;id=2", "/a?id=1");
        check(&utm, "/a?id=1;utm_x=1", "/a?id=1;utm_x=1");
        check(&utm, "/a?id=1;utm_x=1&utm_y=2", "/a?id=1;utm_x=1");
    }

    #[test]
    fn values_are_never_touched() {
        check(&sorted(), "/a?b=%41%2f+&a=1=2", "/a?a=1=2&b=%41%2f+");
        check(&without(&["x"]), "/%3Fx=1?y=%26x=2&x=3", "/%3Fx=1?y=%26x=2");
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(query in "[ab%5f_x=&;+]{0,40}", sort: bool, keep: bool) {
            let names = patterns(&["a*", "x_b"]);
            let parameters = if keep { Parameters::Keep(names) } else { Parameters::Drop(names) };
            let rules = QueryRules { sort, parameters };
            let target = format!("/?{query}").into_bytes();
            let once = rules.apply(&target).into_owned();
            prop_assert_eq!(&*rules.apply(&once), &once[..]);
        }
    }
}
