//! `[process]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::At;

/// Who the process is once it listens, and what it may do then.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessTable {
    /// The user that the process becomes once it listens, by name or number. Default: it stays who it is.
    #[schemars(extend("examples" = ["clearcoat", "www-data"]))]
    pub(crate) user: Option<At<String>>,
    /// The group that it becomes, by name or number; needs user. Default: that of the user.
    #[schemars(extend("examples" = ["clearcoat"]))]
    pub(crate) group: Option<At<String>>,
    /// Whether it gives up what it never needs: to write files but its own, to run programs, and calls such as ptrace. auto:
    /// as far as the kernel can; require: all of it, or it does not start; off. Default auto.
    pub(crate) sandbox: Option<At<SandboxWord>>,
    /// Whether a crash may write the memory, with keys and what visitors sent, to a file. Default false.
    pub(crate) core_dumps: Option<At<bool>>,
}

/// How far the process gives up what it never needs.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum SandboxWord {
    /// As far as the kernel can.
    Auto,
    /// All of it, or it does not start.
    Require,
    /// Not at all.
    Off,
}
