//! What the configuration is, was, and how another comes into force.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /api/reload` | reads the file again; 200 with what changed, 422 with every mistake, 409 if there is no file |
//! | `POST /api/rollback` | puts an earlier one into force; `number=N`, or the one before |
//! | `GET /api/configurations` | the last ones, those that were refused too |
//! | `GET /api/configuration` | the one in force as TOML, every default filled in, without secrets; or `number=N` |
//! | `GET /api/configuration/diff` | what one has that another has not; `from=N&to=N`, or the one in force and the one before |

use serde::Serialize;

use super::http1::{Answer, Request};
use super::routes::json;
use super::view::Observed;

/// One configuration that was to come into force.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ConfigurationView {
    /// Counted from 1, with which the process started.
    pub(crate) number: u64,
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// Who wanted it: `start`, a signal, or who asked on the admin listener.
    pub(crate) by: String,
    /// It is in force now.
    pub(crate) in_force: bool,
    /// Why it did not come into force, a line for each mistake; empty if it did.
    pub(crate) refused: Vec<String>,
    /// Keys of it that only a start anew puts into force.
    pub(crate) restart: Vec<String>,
}

/// A mistake, and where it stands.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct MistakeView {
    /// As for people: `file:line:column: key: what is wrong; what to do about it`.
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// What came of a wish for another configuration.
#[derive(Clone, Debug)]
pub(crate) enum Changed {
    /// It is in force.
    Done(ChangeView),
    /// It has mistakes, and the one before goes on.
    Refused(Vec<MistakeView>),
    /// There is nothing that it could be; why.
    Impossible(String),
}

/// A configuration that came into force.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ChangeView {
    pub(crate) number: u64,
    /// Whether it is another one than before.
    pub(crate) changed: bool,
    /// Keys of it that only a start anew puts into force.
    pub(crate) restart: Vec<String>,
    /// What is different, in the unified format of `diff`, with every default filled in and without secrets.
    pub(crate) diff: String,
}

#[derive(Serialize)]
struct Mistakes {
    mistakes: Vec<MistakeView>,
}

/// The answer, if the path is one of these.
pub(super) fn answer(request: &Request, observed: &dyn Observed) -> Option<Answer> {
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let writes = request.method == "POST";
    Some(match request.path.as_str() {
        "/api/reload" | "/api/rollback" if !writes => Answer::method_not_allowed("POST"),
        "/api/reload" => changed(observed.reload("the admin listener")),
        "/api/rollback" => match number(request, "number") {
            Ok(number) => changed(observed.roll_back(number, "the admin listener")),
            Err(answer) => answer,
        },
        "/api/configurations" | "/api/configuration" | "/api/configuration/diff" if !reads => {
            Answer::method_not_allowed("GET, HEAD")
        }
        "/api/configurations" => json(&observed.configurations()),
        "/api/configuration" => match number(request, "number") {
            Ok(number) => observed.configuration(number).map_or_else(unknown, toml),
            Err(answer) => answer,
        },
        "/api/configuration/diff" => match (number(request, "from"), number(request, "to")) {
            (Ok(from), Ok(to)) => diff(observed, from, to),
            (Err(answer), _) | (_, Err(answer)) => answer,
        },
        _ => return None,
    })
}

fn changed(changed: Changed) -> Answer {
    match changed {
        Changed::Done(view) => json(&view),
        Changed::Refused(mistakes) => {
            let answer = json(&Mistakes { mistakes });
            Answer { status: 422, ..answer }
        }
        Changed::Impossible(why) => Answer::text(409, why),
    }
}

fn diff(observed: &dyn Observed, from: Option<u64>, to: Option<u64>) -> Answer {
    let before = || {
        let known = observed.configurations();
        let in_force = known.iter().position(|one| one.in_force)?;
        known[in_force + 1..].iter().find(|one| one.refused.is_empty()).map(|one| one.number)
    };
    let Some(from) = from.or_else(before) else {
        return Answer::text(404, "there is no configuration before this one");
    };
    match (observed.configuration(Some(from)), observed.configuration(to)) {
        (Some(old), Some(new)) => Answer::text(200, unified(&old, &new, &format!("number {from}"))),
        (None, _) | (_, None) => unknown(),
    }
}

/// The difference of two texts, in the unified format.
pub(crate) fn unified(old: &str, new: &str, name: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().context_radius(2).header(name, "now").to_string()
}

fn toml(text: String) -> Answer {
    Answer::new(200, "application/toml", text)
}

fn unknown() -> Answer {
    Answer::text(404, "there is no such configuration; GET /api/configurations lists those that are known")
}

/// A parameter that is a number, if it is there.
fn number(request: &Request, name: &str) -> Result<Option<u64>, Answer> {
    let pairs = request.query.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut found = None;
    for pair in pairs {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            let number = value.parse().map_err(|_| Answer::text(400, format!("{name} is not a number")))?;
            found = Some(number);
        } else if !["number", "from", "to"].contains(&key) {
            return Err(Answer::text(400, format!("{key} is none of the parameters")));
        }
    }
    Ok(found)
}
