//! Becoming another user, for good.

use std::ffi::CString;
use std::fmt;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setegid, seteuid, setgroups, setresgid,
    setresuid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};

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

/// Whether the process is this user already; without a group, whichever that has.
pub(super) fn is_present(name: &str, group: Option<&str>) -> anyhow::Result<bool> {
    let (user, group) = numbers(name, group)?;
    Ok(is(user, group))
}

/// The numbers of a user and of a group; without one that of the user.
pub(super) fn numbers(name: &str, group: Option<&str>) -> anyhow::Result<(Uid, Gid)> {
    let group = match (group, find_user(name)?) {
        (Some(group), _) => group_id(group)?,
        (None, Some(user)) => user.gid,
        (None, None) => bail!("the user {name} has no name and so no group: add group"),
    };
    Ok((user_id(name)?, group))
}

/// Becomes a user and a group; without one that of the user. No way leads back, and nothing of root is left.
///
/// The calls hold for all threads, since the C library sees to that; there is only one yet.
pub(super) fn become_user(name: &str, group: Option<&str>) -> anyhow::Result<Present> {
    let user = find_user(name)?;
    let (id, group) = numbers(name, group)?;
    if is(id, group) {
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
    // To the system the largest number means "as it is".
    ensure!(is(id, group), "the system did not do it: is {name} the number of nobody?");
    let back = !id.is_root() && (setresuid(ROOT, ROOT, ROOT).is_ok() || seteuid(ROOT).is_ok());
    let back = back || group.as_raw() != 0 && !id.is_root() && setegid(Gid::from_raw(0)).is_ok();
    ensure!(!back, "root can be had again");
    Ok(present())
}

const ROOT: Uid = Uid::from_raw(0);

/// Whether the process is this user and group, and neither was nor could be anybody else.
fn is(user: Uid, group: Gid) -> bool {
    getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user; 3])
        && getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [group; 3])
}

/// Gives up what is left of root in one who is not: what systemd or a container lent to bind a port with. Of this thread and those
/// that it starts.
///
/// # Errors
///
/// What the system says; it has nothing against having less.
pub(super) fn give_up_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    // Where the kernel knows none there are none.
    let _ = clear_ambient_capability_set();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
