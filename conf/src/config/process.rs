//! `[process]`: who the process is once it listens, and what it may do then.

/// Who the process is once it listens, and what it may do then.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// The user that it becomes, by name or number. `None`, the default: it stays who it is.
    pub user: Option<String>,
    /// The group that it becomes, by name or number. `None`, the default: that of the user. Never without a user.
    pub group: Option<String>,
    /// What it gives up. Default [`Sandbox::Auto`].
    pub sandbox: Sandbox,
    /// Whether a crash may write the memory to a file. Default false.
    pub core_dumps: bool,
}

/// How far the process gives up what it never needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sandbox {
    /// As far as the kernel can.
    #[default]
    Auto,
    /// All of it, or it does not start.
    Require,
    /// Not at all.
    Off,
}

impl Sandbox {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// Who may use a Unix socket: what its file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SocketFile {
    /// Bits as of chmod. Default 0660: its owner and its group; of the admin interface 0600.
    pub mode: u32,
    /// By name or number. `None`, the default: who starts the process.
    pub user: Option<String>,
    /// By name or number. `None`, the default: the group of who starts the process.
    pub group: Option<String>,
}

impl SocketFile {
    /// For its owner and its group.
    pub const FOR_GROUP: Self = Self { mode: 0o660, user: None, group: None };
    /// For its owner.
    pub const FOR_OWNER: Self = Self { mode: 0o600, user: None, group: None };
}
