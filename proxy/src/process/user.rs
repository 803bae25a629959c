//! Becoming another user, for good.

use std::ffi::CString;
use std::fmt;

use anyhow::{Context as _, bail, ensure};
use nix::sys::prctl;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, initgroups, setgroups, setresgid, setresuid, setuid,
};

/// Who the process is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Present {
    name: String,
    pub(super) is_root: bool,
}

impl fmt::Display for Present {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

/// Who it is now.
pub(super) fn present() -> Present {
    let id = geteuid();
    let name = User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
    Present { name, is_root: id.is_root() }
}

/// The number of a user, by name or number.
pub(crate) fn user_id(name: &str) -> anyhow::Result<Uid> {
    Ok(find_user(name)?.map_or_else(|| name.parse().map(Uid::from_raw), |user| Ok(user.uid))?)
}

/// The number of a group, by name or number.
pub(crate) fn group_id(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name)? {
        Some(group) => Ok(group.gid),
        None => match name.parse() {
            Ok(number) => Ok(Gid::from_raw(number)),
            Err(_) => bail!("there is no group {name}: groupadd --system {name} makes it"),
        },
    }
}

/// `None`: it is a number that has no name.
fn find_user(name: &str) -> anyhow::Result<Option<User>> {
    let found = User::from_name(name)?;
    match (found, name.parse()) {
        (Some(user), _) => Ok(Some(user)),
        (None, Ok(number)) => Ok(User::from_uid(Uid::from_raw(number))?),
        (None, Err(_)) => bail!("there is no user {name}: useradd --system {name} makes it"),
    }
}

/// Becomes a user and a group; without one that of the user. No way leads back, and nothing of root is left.
///
/// The calls hold for all threads, since the C library sees to that; there is only one yet.
pub(super) fn become_user(name: &str, group: Option<&str>) -> anyhow::Result<Present> {
    let user = find_user(name)?;
    let id = user_id(name)?;
    let group = match (group, &user) {
        (Some(group), _) => group_id(group)?,
        (None, Some(user)) => user.gid,
        (None, None) => bail!("the user {name} has no name and so no group: add group"),
    };
    if geteuid() == id && getegid() == group {
        // Who started it has seen to that already.
        return Ok(present());
    }
    ensure!(geteuid().is_root(), "only root can become another user, and this is {}", present());
    match &user {
        Some(user) => initgroups(&CString::new(user.name.as_str())?, group)?,
        None => setgroups(&[group])?,
    }
    setresgid(group, group, group).context("changing the group")?;
    setresuid(id, id, id).context("changing the user")?;
    // What is not root any more has no capabilities, unless it could become root again.
    ensure!(id.is_root() || setuid(Uid::from_raw(0)).is_err(), "root can be had again");
    prctl::set_no_new_privs()?;
    Ok(present())
}
