//! Who comes to a site at all: what stands before it, whatever a request will meet behind.
//!
//! In this order: addresses that may not come, https, maintenance, the size of the body, rates, a password, the crowd. All of it
//! is looked at without a trace, so that it can be told why; then the request is counted, once, when it is known whether its
//! password is good. Purges do not come through here, they have rules of their own; fragments neither, whose page did.

mod maintenance;
mod meant;
mod nets;
mod passwords;
mod rates;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::key::canonical_host;
use clearcoat_cache::{Moment, Scheme};
use smallvec::SmallVec;

pub(crate) use maintenance::Maintenance;
pub(crate) use meant::meant;
pub(crate) use nets::{Addresses, NetSet};
pub(crate) use passwords::{Passwords, Verification};
pub(crate) use rates::{CountBy, RateRule};
pub(crate) use turns::{Turn, Turns};

use crate::admin::{Counters, Limit, RequestResult};
use crate::front::visitor::Visitor;
use crate::listen::head::{Framing, Head, Method, Names};
use crate::respond::Local;

/// What stands before a site or route.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) addresses: Addresses,
    /// Visitors who come by http are sent to https.
    pub(crate) redirect_to_https: bool,
    pub(crate) maintenance: Option<Arc<Maintenance>>,
    /// Bytes that the body of a request may have; `None`: any number.
    pub(crate) max_body: Option<u64>,
    pub(crate) passwords: Option<Arc<Passwords>>,
    pub(crate) rates: Arc<[RateRule]>,
    /// Requests at a time that are not answered from memory; `None`: any number.
    pub(crate) turns: Option<Arc<Turns>>,
}

/// Why a request does not come in.
#[derive(Debug)]
pub(crate) enum Shut<'g> {
    /// Its address may not.
    Denied,
    /// It is to come by https.
    Redirect,
    /// There is a page in place of the site.
    Maintenance(&'g Maintenance),
    /// It says that its body is larger than may be.
    TooLarge,
    /// It has no password, or none that is good.
    Password(&'g Arc<Passwords>),
    /// Whether its password is good has to be found out first.
    Unverified(Box<Verification>),
    /// Too many of its kind came; how long until the next may.
    TooMany(&'g RateRule, Duration),
}

/// Room for the lines of a head from which some are taken.
pub(crate) type Left<'b> = SmallVec<[httparse::Header<'b>; 32]>;

impl Gate {
    /// Whether there is anything to look at.
    pub(crate) fn is_open(&self) -> bool {
        let Self { addresses, redirect_to_https, maintenance, max_body, passwords, rates, turns } = self;
        addresses.are_all()
            && !redirect_to_https
            && maintenance.is_none()
            && max_body.is_none()
            && passwords.is_none()
            && rates.is_empty()
            && turns.is_none()
    }

    /// Why the request does not come in, if it does not. Leaves no trace.
    pub(crate) fn look(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Option<Shut<'_>> {
        if !self.addresses.admit(visitor.address) {
            return Some(Shut::Denied);
        }
        // Whoever looks whether a certificate may be given asks by http, and the answer is wanted there (RFC 8555 section 8.3).
        let is_for_acme = head.target.starts_with(b"/.well-known/acme-challenge/");
        // `*` is no path.
        let has_url = head.target.starts_with(b"/");
        if self.redirect_to_https && visitor.scheme == Scheme::Http && has_url && !is_for_acme {
            return Some(Shut::Redirect);
        }
        if let Some(maintenance) = &self.maintenance
            && !is_for_acme
            && maintenance.is_shown_to(visitor.address)
        {
            return Some(Shut::Maintenance(maintenance));
        }
        if let (Some(most), Framing::Length(length)) = (self.max_body, head.framing)
            && length > most
        {
            return Some(Shut::TooLarge);
        }
        let over = || self.rates.iter().find_map(|rule| Some((rule, rule.wait(head, visitor, now)?)));
        let credentials = match &self.passwords {
            Some(passwords) if !is_for_acme => passwords.look(head, visitor.address),
            Some(_) | None => None,
        };
        // Whoever guesses too often is not heard at all. What is not known yet is counted when it is.
        if let Some((rule, wait)) = over() {
            return Some(Shut::TooMany(rule, wait));
        }
        credentials
    }

    /// What of it holds for another spelling of its path: that the address may come, the size, the password.
    pub(crate) fn look_strictly(&self, head: &Head<'_, '_>, visitor: Visitor) -> Option<Shut<'_>> {
        if !self.addresses.admit(visitor.address) {
            return Some(Shut::Denied);
        }
        if let (Some(most), Framing::Length(length)) = (self.max_body, head.framing)
            && length > most
        {
            return Some(Shut::TooLarge);
        }
        self.passwords.as_ref().and_then(|passwords| passwords.look(head, visitor.address))
    }

    /// As [`Gate::look`], and the request is counted, unless it comes again when its password is known.
    pub(crate) fn pass(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Option<Shut<'_>> {
        let shut = self.look(head, visitor, now);
        if matches!(shut, None | Some(Shut::Password(_))) {
            for rule in &*self.rates {
                if let Some(wait) = rule.take(head, visitor, now) {
                    return Some(Shut::TooMany(rule, wait));
                }
            }
        }
        shut
    }

    /// The head as those behind see it: what was said to us alone is not in it.
    pub(crate) fn inward<'b, 'h>(&self, head: &Head<'b, '_>, left: &'h mut Left<'b>) -> Option<Head<'b, 'h>> {
        if self.passwords.is_none() || !head.values("authorization").any(passwords::is_basic) {
            return None;
        }
        let is_ours = |line: &httparse::Header<'_>| {
            line.name.eq_ignore_ascii_case("authorization") && passwords::is_basic(line.value)
        };
        left.extend(head.headers.iter().filter(|line| !is_ours(line)).copied());
        Some(Head { headers: left, names: Names::of(left), ..*head })
    }

    /// Whether those behind do not see this value of `Authorization`.
    pub(crate) fn keeps_back(&self, authorization: &[u8]) -> bool {
        self.passwords.is_some() && passwords::is_basic(authorization)
    }
}

impl Shut<'_> {
    /// What the client hears. `None` where that has to be found out first.
    pub(crate) fn answer(&self, head: &Head<'_, '_>) -> Option<(Local, RequestResult)> {
        let refused = |local| Some((local, RequestResult::Refused));
        match self {
            Self::Denied => refused(Local::denied()),
            Self::Redirect => Some((redirect(head), RequestResult::Redirect)),
            Self::Maintenance(maintenance) => Some((maintenance.answer(), RequestResult::Maintenance)),
            Self::TooLarge => refused(Local::body_too_large()),
            Self::Password(passwords) => refused(Local::password_wanted(passwords.realm())),
            Self::TooMany(_, wait) => refused(Local::too_many(*wait)),
            Self::Unverified(_) => None,
        }
    }

    /// Counts it.
    pub(crate) fn note(&self, counters: &Counters) {
        match self {
            Self::Denied => counters.limit(Limit::Address),
            Self::TooLarge => counters.limit(Limit::BodyBytes),
            Self::Password(_) => counters.limit(Limit::Password),
            Self::TooMany(..) => counters.limit(Limit::Rate),
            Self::Redirect | Self::Maintenance(_) | Self::Unverified(_) => {}
        }
    }
}

/// Where a request is to be asked for by https. Without a port: that of the one scheme is none of the other's.
fn redirect(head: &Head<'_, '_>) -> Local {
    let (name, _) = canonical_host(Scheme::Http, head.host);
    let [name, target] = [name, head.target].map(String::from_utf8_lossy);
    let keeps_method = !matches!(head.method, Method::Get | Method::Head);
    Local::moved(format!("https://{name}{target}"), keeps_method)
}
