//! Which of an entry's forms a client gets: the plain text, or one of its content codings.
//!
//! Only entries that say so ([`Entry::recoding`]) come here; for all others a hit costs the look at that one word.
//! What is decided here never changes which entry answers, nor whether it is fresh.

use std::sync::Arc;

use clearcoat_cache::coding::{Accepted, Coding, takes_named};
use clearcoat_cache::{Entry, Moment, Recoding, SelectingHeaders};
use http::HeaderMap;

use super::range::{self, Part};
use super::{Form, Front, conditional};
use crate::encode::coding_names;
use crate::fetch::Answer;
use crate::listen::head::Head;

/// How an entry can be given to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Given {
    /// In this form.
    As(Form),
    /// Decoded, once that is done.
    Decoded,
}

impl Front {
    /// The form in which a request from memory is answered; `form` is what it gets of the entry as stored.
    pub(super) fn recoded(&self, head: &Head<'_, '_>, entry: &Arc<Entry>, form: Form, now: Moment) -> Given {
        match entry.recoding() {
            Recoding::Never | Recoding::Assemble => Given::As(form),
            Recoding::Encode => {
                // A part of the body is a part of the plain text, whose entity tag may be strong (RFC 9110 section
                // 14.2); a 304 speaks of what would have been sent.
                let partial = match &form {
                    Form::Part(part) => *part != Part::Whole,
                    Form::NotModified => range::part(entry, head) != Part::Whole,
                    Form::Coded { .. } => false,
                };
                Given::As(self.encoded(head, entry, form, partial, now))
            }
            Recoding::Decode if is_readable(entry.head(), head) => Given::As(form),
            Recoding::Decode => decoded(entry, form),
        }
    }

    /// As [`Front::recoded`], for a request whose head is gone; `kept` is what
    /// [`conditional::conditions`] kept of it. `None` if it cannot be given to this client in any form.
    pub(crate) async fn recoded_whole(
        &self,
        kept: &HeaderMap,
        entry: &Arc<Entry>,
        form: Form,
        now: Moment,
    ) -> Option<Form> {
        let not_modified = form == Form::NotModified;
        let given = match entry.recoding() {
            Recoding::Never | Recoding::Assemble => Given::As(form),
            Recoding::Encode => {
                let partial = matches!(&form, Form::Part(part) if *part != Part::Whole);
                Given::As(self.encoded(kept, entry, form, partial, now))
            }
            Recoding::Decode if is_readable(entry.head(), kept) => Given::As(form),
            Recoding::Decode => decoded(entry, form),
        };
        match given {
            Given::As(form) => Some(form),
            Given::Decoded => {
                let decoded = self.decode(entry).await;
                decoded.then_some(Form::Coded { coding: Coding::Identity, not_modified })
            }
        }
    }

    fn encoded(
        &self,
        request: &dyn SelectingHeaders,
        entry: &Arc<Entry>,
        form: Form,
        partial: bool,
        now: Moment,
    ) -> Form {
        let accepted = Accepted::of(request);
        let Some(encoded) = entry.encoded() else {
            self.encoder.ask_for(entry, &accepted, now);
            return form;
        };
        if partial && accepted.takes(Coding::Identity) {
            return form;
        }
        let coded = encoded.forms().iter().map(|form| (form.coding(), form.body().len()));
        match accepted.best(coded.chain([(Coding::Identity, entry.body().len())])) {
            // Who takes nothing of what there is gets the plain text (RFC 9110 section 12.5.3).
            None | Some(Coding::Identity) => form,
            Some(coding) => Form::Coded { coding, not_modified: form == Form::NotModified },
        }
    }
}

/// An entry that this client cannot read as it is.
fn decoded(entry: &Entry, form: Form) -> Given {
    match entry.form(Coding::Identity) {
        // Ranges are given of the stored form only.
        Some(_) => {
            Given::As(Form::Coded { coding: Coding::Identity, not_modified: form == Form::NotModified })
        }
        None => Given::Decoded,
    }
}

/// Whether a client takes every coding that the body behind this serialised head has.
fn is_readable(head: &[u8], client: &dyn SelectingHeaders) -> bool {
    let accepted = Accepted::of(client);
    let mut names = conditional::lines(head, b"content-encoding").flat_map(coding_names);
    names.all(|name| match Coding::named(name) {
        Some(coding) => accepted.takes(coding),
        None => takes_named(client, name),
    })
}

/// Whether a client can read an answer that was fetched for another.
pub(super) fn is_readable_for(answer: &Answer, client: &HeaderMap) -> bool {
    answer.recoding != Recoding::Decode || is_readable(&answer.block, client)
}

/// Whether an entry that turned up while this request was to be fetched can be given to its client, as far as is known
/// without trying. If not, the fetch is made: it asks for what this client takes.
pub(super) fn can_be_given(entry: &Entry, client: &HeaderMap) -> bool {
    entry.recoding() != Recoding::Decode
        || is_readable(entry.head(), client)
        || entry.form(Coding::Identity).is_some()
        || only_coding(entry).is_some()
}

/// The coding of an entry that can be decoded: exactly one that is known.
pub(super) fn only_coding(entry: &Entry) -> Option<Coding> {
    let mut names = conditional::lines(entry.head(), b"content-encoding").flat_map(coding_names);
    match (names.next(), names.next()) {
        (Some(only), None) => Coding::named(only),
        _ => None,
    }
}
