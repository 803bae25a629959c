//! Ranges of what is not in memory yet (RFC 9110 section 14).
//!
//! Whoever asks for a part of a page joins or starts the fetch of the whole like everybody else, so that the next visitor
//! finds it. When the head is there, the part is cut from the body as it comes, if its first byte is there or near.
//! Farther on the wait would be that for everything before it, so a node is asked for just that part, beside the fill and
//! not stored. The same where it is known that the whole will not be kept: there is no fill that others could use.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use clearcoat_cache::Recoding;
use http::HeaderMap;
use http::header::{self, HeaderName};

use super::range::{self, Part};
use super::{Front, Obtained, conditional};
use crate::admin::Forward;
use crate::fetch::{Caching, FetchError, Plan, Reader};

/// How far beyond what has come the first byte of a part may lie for it to be waited for.
const NEAR_BYTES: u64 = 1 << 20;

/// The largest body that is waited for to its end because several parts of it are asked for.
const SMALL_BYTES: u64 = 1 << 20;

/// What is read at a time of a body that is waited for.
const STEP_BYTES: usize = 64 * 1024;

/// What a client gets of an answer that is on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// All of it, whatever its status.
    Whole,
    /// This range (206), as its bytes come.
    One { range: Range<u64>, length: u64 },
    /// These ranges (206, multipart/byteranges); the body was waited for.
    Several { ranges: Vec<Range<usize>>, body: Bytes },
    /// Nothing of what was asked for is there (416).
    Unsatisfiable { length: u64 },
}

/// What is to be done about a range.
#[derive(Debug, Eq, PartialEq)]
enum Course {
    Serve(Cut),
    /// The whole body has to be there first.
    WaitForWhole(Vec<Range<usize>>),
    /// A node is asked for the part.
    AskNode,
}

/// The lines of a request that ask for a part; `None` where it asks for all. A range of a HEAD means nothing (RFC 9110
/// section 14.2).
pub(crate) fn wanted(plan: &Plan) -> Option<HeaderMap> {
    const NAMES: [HeaderName; 2] = [header::RANGE, header::IF_RANGE];
    if !plan.wants_part() || plan.caching == Caching::Bypass {
        return None;
    }
    let mut kept = HeaderMap::with_capacity(2);
    for name in NAMES {
        for value in plan.headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    Some(kept)
}

impl Front {
    /// Gets an answer for `plan`, and tells what of it the client gets. `wanted` is what [`wanted`] found in it,
    /// `conditions` are those that come before a range (RFC 9110 section 13.2.2).
    pub(crate) async fn obtain_part(
        &self,
        plan: Box<Plan>,
        wanted: &HeaderMap,
        conditions: &HeaderMap,
    ) -> Result<(Obtained, Cut), FetchError> {
        let mut beside = Plan { caching: Caching::Part, stale: None, ..Plan::clone(&plan) };
        let mut obtained = self.obtain(plan).await?;
        let Obtained::Stream { answer, reader, .. } = &mut obtained else {
            return Ok((obtained, Cut::Whole));
        };
        let status = answer.status.as_u16();
        let is_page = answer.recoding == Recoding::Assemble;
        if is_page || conditional::is_not_modified(status, &answer.block, conditions) {
            return Ok((obtained, Cut::Whole));
        }
        let length = reader.whole_length().map(|length| length as u64).or(answer.length);
        let asked = range::part_of(
            status,
            &answer.block,
            length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX),
            wanted,
        );
        match course(asked, length, reader.poured_bytes(), answer.stored) {
            Course::Serve(cut) => {
                if let Cut::One { range, .. } = &cut {
                    reader.narrow(range.clone());
                }
                Ok((obtained, cut))
            }
            Course::WaitForWhole(ranges) => {
                let body = whole(reader).await?;
                Ok((obtained, Cut::Several { ranges, body }))
            }
            // It was asked already, and sends the whole all the same.
            Course::AskNode if answer.caching == Caching::Part => Ok((obtained, Cut::Whole)),
            Course::AskNode => {
                if answer.stored {
                    beside.forward = Forward::Partial;
                } else if answer.shared && !beside.uncacheable_for.is_zero() {
                    // Too large to be kept. The next one who wants a part need not ask for the whole first.
                    let until = self.clock.now().saturating_add(beside.uncacheable_for);
                    self.store.mark_uncacheable(beside.key, until);
                }
                // First of all the fill is left: if nobody else reads it, it need not keep its place at the node.
                drop(obtained);
                Ok((self.obtain(beside).await?, Cut::Whole))
            }
        }
    }
}

/// What is to be done where `asked` is asked of a body of `length` bytes, if that is known, of which `poured` have come.
/// `stored`: it is kept to be stored.
fn course(asked: Part, length: Option<u64>, poured: u64, stored: bool) -> Course {
    match (asked, length) {
        (Part::One(range), _) if range.start as u64 > poured.saturating_add(NEAR_BYTES) => Course::AskNode,
        (Part::One(range), Some(length)) => {
            Course::Serve(Cut::One { range: range.start as u64..range.end as u64, length })
        }
        (Part::Several(ranges), Some(length)) if stored && length <= SMALL_BYTES => {
            Course::WaitForWhole(ranges)
        }
        (Part::Unsatisfiable, Some(length)) => Course::Serve(Cut::Unsatisfiable { length }),
        // The whole is always a right answer, and the only one to a range of a body that may end anywhere.
        (Part::Whole | Part::Several(_), _) | (Part::One(_) | Part::Unsatisfiable, None) => {
            Course::Serve(Cut::Whole)
        }
    }
}

/// The whole body, which is small.
async fn whole(reader: &mut Reader) -> Result<Bytes, FetchError> {
    let (mut body, mut pieces) = (BytesMut::new(), Vec::new());
    loop {
        match reader.read(&mut pieces, STEP_BYTES).await {
            Ok(true) => pieces.drain(..).for_each(|piece| body.extend_from_slice(&piece)),
            Ok(false) => return Ok(body.freeze()),
            Err(_) => return Err(FetchError::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_waited_for_and_what_is_far_is_asked_for() {
        const MIB: u64 = 1 << 20;
        let one = |range: Range<u64>| Part::One(range.start as usize..range.end as usize);
        let cut = |range: Range<u64>, length| Course::Serve(Cut::One { range, length });
        let whole = || Course::Serve(Cut::Whole);
        let several = || Part::Several(vec![0..1, 5..6]);
        for (asked, length, poured, stored, expected) in [
            (Part::Whole, Some(10), 0, true, whole()),
            (one(0..10), Some(10), 0, true, cut(0..10, 10)),
            (one(MIB..MIB + 1), Some(9 * MIB), 0, true, cut(MIB..MIB + 1, 9 * MIB)),
            (one(MIB + 1..MIB + 2), Some(9 * MIB), 0, true, Course::AskNode),
            (one(MIB + 1..MIB + 2), Some(9 * MIB), 1, true, cut(MIB + 1..MIB + 2, 9 * MIB)),
            (one(5 * MIB..6 * MIB), Some(9 * MIB), 9 * MIB, true, cut(5 * MIB..6 * MIB, 9 * MIB)),
            // Not kept: as long as it is near it costs nothing more.
            (one(3..5), Some(9 * MIB), 0, false, cut(3..5, 9 * MIB)),
            (one(5 * MIB..6 * MIB), Some(9 * MIB), 0, false, Course::AskNode),
            // Of unknown length, which stands for endless.
            (one(3..5), None, 0, true, whole()),
            (one(5 * MIB..6 * MIB), None, 0, true, Course::AskNode),
            (one(u64::MAX - 500..u64::MAX), None, 0, true, Course::AskNode),
            (Part::Unsatisfiable, None, 0, true, whole()),
            (Part::Unsatisfiable, Some(10), 0, true, Course::Serve(Cut::Unsatisfiable { length: 10 })),
            (several(), Some(10), 0, true, Course::WaitForWhole(vec![0..1, 5..6])),
            (several(), Some(10), 0, false, whole()),
            (several(), Some(MIB + 1), 0, true, whole()),
            (several(), None, 0, true, whole()),
        ] {
            let case = format!("{asked:?} of {length:?} with {poured} there, stored: {stored}");
            assert_eq!(course(asked, length, poured, stored), expected, "{case}");
        }
    }
}
