//! Which files the process may touch (Landlock).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::Settings;

/// What every process reads now and then. `/etc` as a whole: names are looked up by its hosts file and `resolv.conf`, which are
/// replaced by others. Libraries, because the C library loads what `nsswitch.conf` names. Of processes its own state alone.
const SYSTEM: [&str; 11] = [
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/proc/self",
    "/dev/null",
];

/// Links in `/etc` that lead out of it on many systems.
const LINKED: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Links that are followed one after the other before it is taken for a circle, as the kernel does.
const MOST_LINKS: usize = 40;

/// What the rules are written for (Linux 6.12); older kernels leave out what they do not know.
const VERSION: ABI = ABI::V6;

/// Shuts the process out of all files but these: nothing is run, and nothing written elsewhere. Nor may it send signals to other
/// processes, or speak to their abstract sockets. Tells what is in force, or why nothing is.
pub(super) fn restrict(settings: &Settings) -> Result<String, String> {
    let may_read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let may_write = make_bitflags!(AccessFs::{WriteFile | MakeReg | ReadDir});
    // A socket that a reload asks for stands beside those that were there.
    let may_remove = make_bitflags!(AccessFs::{RemoveFile | MakeSock});
    let folders = |files: &[PathBuf]| files.iter().flat_map(|file| folders_of(file)).collect::<BTreeSet<_>>();
    let restricted = (|| {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            // What is not there is left out: no system has all of it.
            .add_rules(path_beneath_rules(SYSTEM, may_read))?
            .add_rules(path_beneath_rules(
                LINKED.iter().flat_map(|link| folders_of(Path::new(link))),
                may_read,
            ))?
            .add_rules(path_beneath_rules(folders(&settings.reads), may_read))?
            .add_rules(path_beneath_rules(folders(&settings.writes), may_write))?
            .add_rules(path_beneath_rules(folders(&settings.removes), may_remove))?
            .restrict_self()
    })();
    let status = restricted.map_err(|error| error.to_string())?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => kernel_abi.unwrap_or(effective_abi as i32),
        LandlockStatus::NotEnabled => return Err("the kernel has it turned off".into()),
        LandlockStatus::NotImplemented => return Err("the kernel does not have it".into()),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(format!("ABI {version}")),
        RulesetStatus::PartiallyEnforced => Ok(format!("ABI {version}, in part")),
        RulesetStatus::NotEnforced => Err("the kernel does not enforce it".into()),
    }
}

/// The folders in which a file is: where it is called so, and where each of its links leads. A file that is written anew is another one,
/// certbot's are links, and those of Kubernetes links to links.
fn folders_of(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        let here = folder(&file);
        folders.insert(here.canonicalize().unwrap_or_else(|_| here.clone()));
        // An absolute one takes the place of all.
        let Ok(target) = std::fs::read_link(&file) else { break };
        file = here.join(target);
    }
    folders
}

/// Where a file is.
pub(super) fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        // A name without a folder is in the present one.
        Some(_) | None => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_are_followed_to_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["live", "archive", "mount", "mount/..2026"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        std::fs::write(root.join("archive/a1.pem"), "").unwrap();
        link("../archive/a1.pem", "live/a.pem");
        link("../live/a.pem", "mount/tls.crt");
        link("..2026", "mount/..data");
        link("..data/key", "mount/tls.key");
        link("round", "live/round");
        for (file, expected) in [
            ("live/a.pem", &["archive", "live"][..]),
            ("mount/tls.crt", &["archive", "live", "mount"]),
            ("mount/tls.key", &["mount", "mount/..2026"]),
            ("live/round", &["live"]),
            ("missing/b.pem", &["missing"]),
        ] {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|name| root.join(name)).collect();
            assert_eq!(folders_of(&root.join(file)), expected, "{file}");
        }
        assert_eq!(folders_of(Path::new("a.pem")), [Path::new(".").canonicalize().unwrap()].into());
    }
}
