//! Which nodes may be chosen at all for a request, before [`super::balance`] picks one of them.
//!
//! Pure: every node is seen as a [`View`]. The tiers, best first: usable primaries, usable backups, drained nodes that
//! are up, and when every node looks down all of them, since a probe may be wrong and an answer is not worse than none.
//! Within a tier full nodes are not passed over to the next tier: the request waits for a place.

/// How a node stands for traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Takes traffic.
    Ready,
    /// Up, but to be left alone while another will do.
    Draining,
    /// Looks down by probes, or is ejected.
    Down,
    /// Not probed yet.
    Unknown,
    /// Cannot be used: switched off, or its name has no address.
    Off,
}

/// One node as a request sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// How it stands.
    pub(crate) standing: Standing,
    /// Whether it is for emergencies only.
    pub(crate) backup: bool,
    /// Whether this request failed at it before.
    pub(crate) tried: bool,
}

/// Which nodes may serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tier {
    /// Usable primaries, tried or not as told.
    Primaries {
        /// Whether those tried before are meant.
        tried: bool,
    },
    /// Usable backups.
    Backups {
        /// Whether those tried before are meant.
        tried: bool,
    },
    /// Drained nodes that are up.
    Drained {
        /// Whether those tried before are meant.
        tried: bool,
    },
    /// Nodes that look down, since all do.
    Desperate {
        /// Whether those tried before are meant.
        tried: bool,
    },
    /// None yet, but the first probes are under way.
    Wait,
    /// None.
    Nothing,
}

/// Every tier that holds nodes, best first.
const ORDER: [Tier; 6] = [
    Tier::Primaries { tried: false },
    Tier::Backups { tried: false },
    Tier::Drained { tried: false },
    Tier::Primaries { tried: true },
    Tier::Backups { tried: true },
    Tier::Drained { tried: true },
];

impl Tier {
    /// The best tier that any of `views` is in. Nodes that are still unknown are waited for before nodes that look down
    /// are bothered, unless `impatient`.
    pub(crate) fn best(views: &[View], impatient: bool) -> Self {
        let holds = |tier: Tier| views.iter().any(|view| tier.includes(view));
        if let Some(tier) = ORDER.into_iter().find(|tier| holds(*tier)) {
            return tier;
        }
        if !impatient && views.iter().any(|view| view.standing == Standing::Unknown) {
            return Self::Wait;
        }
        [Self::Desperate { tried: false }, Self::Desperate { tried: true }]
            .into_iter()
            .find(|tier| holds(*tier))
            .unwrap_or(Self::Nothing)
    }

    /// Whether `view` is in this tier.
    pub(crate) fn includes(self, view: &View) -> bool {
        match self {
            Self::Primaries { tried } => {
                view.standing == Standing::Ready && !view.backup && view.tried == tried
            }
            Self::Backups { tried } => view.standing == Standing::Ready && view.backup && view.tried == tried,
            Self::Drained { tried } => view.standing == Standing::Draining && view.tried == tried,
            Self::Desperate { tried } => view.standing == Standing::Down && view.tried == tried,
            Self::Wait | Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word per node: `r`eady, `d`raining, `x` down, `?` unknown, `o`ff; `b` backup; `t` tried.
    fn views(text: &str) -> Vec<View> {
        text.split_whitespace()
            .map(|word| View {
                standing: match word.as_bytes()[0] {
                    b'r' => Standing::Ready,
                    b'd' => Standing::Draining,
                    b'x' => Standing::Down,
                    b'?' => Standing::Unknown,
                    _ => Standing::Off,
                },
                backup: word.contains('b'),
                tried: word.contains('t'),
            })
            .collect()
    }

    #[test]
    fn the_best_tier_serves() {
        for (nodes, expected) in [
            ("r rb d", "0"),
            ("rt r rb", "1"),
            ("x rb d", "1"),
            ("rt rb", "1"),
            ("rt rt", "0 1"),
            ("rt x", "0"),
            ("rt rbt", "0"),
            ("rt d", "1"),
            ("x d o", "1"),
            ("x dt", "1"),
            ("x xb x", "0 1 2"),
            ("x xt x", "0 2"),
            ("xt xt", "0 1"),
            ("x o", "0"),
            ("? r", "1"),
            ("? x", "wait"),
            ("? ?b", "wait"),
            ("? d", "1"),
            ("o o", "nothing"),
            ("", "nothing"),
        ] {
            assert_eq!(served_by(nodes, false), expected, "{nodes:?}");
        }
    }

    #[test]
    fn who_waited_long_enough_takes_what_looks_down() {
        assert_eq!(served_by("? x xt", true), "1");
        assert_eq!(served_by("? ?", true), "nothing");
    }

    fn served_by(nodes: &str, impatient: bool) -> String {
        let views = views(nodes);
        match Tier::best(&views, impatient) {
            Tier::Wait => "wait".to_owned(),
            Tier::Nothing => "nothing".to_owned(),
            tier => {
                let included: Vec<_> = (0..views.len())
                    .filter(|index| tier.includes(&views[*index]))
                    .map(|index| index.to_string())
                    .collect();
                included.join(" ")
            }
        }
    }
}
