//! Which files the process may touch (Landlock).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, make_bitflags, path_beneath_rules,
};

/// What every process reads now and then: the resolver's files, time zones, certificates of authorities, its own state.
const SYSTEM: [&str; 9] = ["/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/run", "/var/run"];

/// What the rules are written for; older kernels leave out what they do not know.
const VERSION: ABI = ABI::V5;

/// Shuts the process out of all files but these: nothing is run, and nothing written elsewhere. Tells what is in force, or why nothing is.
pub(super) fn restrict(reads: &[PathBuf], writes: &[PathBuf]) -> Result<String, String> {
    let may_read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let may_write =
        may_read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | MakeSock | RemoveFile | Refer});
    // What keeps nothing. Standard output and the like are open already.
    let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];
    let may_open = make_bitflags!(AccessFs::{ReadFile | WriteFile});
    let named = with_targets(reads);
    let restricted = (|| {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(VERSION))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, may_read))?
            .add_rules(path_beneath_rules(named, may_read))?
            .add_rules(path_beneath_rules(devices, may_open))?
            .add_rules(path_beneath_rules(with_targets(writes), may_write))?
            .restrict_self()
    })();
    let status = restricted.map_err(|error| error.to_string())?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled => return Err("the kernel has it turned off".into()),
        LandlockStatus::NotImplemented => return Err("the kernel does not have it".into()),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(format!("ABI {version}")),
        RulesetStatus::PartiallyEnforced => Ok(format!("ABI {version}, in part")),
        RulesetStatus::NotEnforced => Err("the kernel does not enforce it".into()),
    }
}

/// The folders of these files, or the folders themselves, as they are called and where they lead: a file that is written anew is another one,
/// and certbot's are links.
fn with_targets(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths {
        for path in [Some(path.clone()), std::fs::canonicalize(path).ok()].into_iter().flatten() {
            folders.extend(if path.is_dir() { Some(path) } else { path.parent().map(Path::to_owned) });
        }
    }
    // A name without a folder is in the present one.
    folders.into_iter().map(|path| if path.as_os_str().is_empty() { ".".into() } else { path }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_are_followed_to_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["live", "archive"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("archive/a1.pem"), "").unwrap();
        std::os::unix::fs::symlink("../archive/a1.pem", root.join("live/a.pem")).unwrap();
        let found = with_targets(&[root.join("live/a.pem"), root.join("missing/b.pem")]);
        let expected = ["archive", "live", "missing"].map(|name| root.join(name));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(with_targets(&["a.pem".into()]), [PathBuf::from(".")].into());
    }
}
