//! Where the suite comes from: the published package, or a checkout that a variable names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use clearcoat_tests::process::Process;

use crate::folder;

/// Names a checkout of the suite's repository, whose tests are newer than those of the package.
const CHECKOUT_VARIABLE: &str = "CACHE_TESTS";

/// How long npm may take to fetch some 40 MiB.
const INSTALLING: Duration = Duration::from_secs(300);

/// A copy of the suite, ready to run.
#[derive(Debug)]
pub(crate) struct Suite {
    folder: PathBuf,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    Package,
    Checkout,
}

impl Suite {
    /// The checkout that the environment names, else the package, which is installed into the build folder if need be.
    ///
    /// # Panics
    ///
    /// If the checkout is none, or the package cannot be installed.
    pub(crate) async fn find() -> Self {
        let Some(folder) = env::var_os(CHECKOUT_VARIABLE) else {
            return Self {
                folder: installed().await.join("node_modules/http-cache-tests"),
                origin: Origin::Package,
            };
        };
        let folder = PathBuf::from(folder);
        let folder = fs::canonicalize(&folder)
            .unwrap_or_else(|error| panic!("{CHECKOUT_VARIABLE}={}: {error}", folder.display()));
        for (part, hint) in
            [("tests/index.mjs", "is no checkout of the suite"), ("node_modules", "needs an `npm install`")]
        {
            assert!(folder.join(part).exists(), "{} {hint}", folder.display());
        }
        Self { folder, origin: Origin::Checkout }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is called in a report.
    pub(crate) fn name(&self) -> String {
        match self.origin {
            Origin::Package => "http-cache-tests".to_owned(),
            Origin::Checkout => format!("cache-tests in {}", self.folder.display()),
        }
    }

    /// The list of what is known to fail, in this folder.
    pub(crate) fn list(&self) -> &'static str {
        match self.origin {
            Origin::Package => "expected.json",
            Origin::Checkout => "expected-newest.json",
        }
    }

    /// Whether it is the version that is pinned here.
    pub(crate) fn is_ours(&self) -> bool {
        self.origin == Origin::Package
    }
}

/// The folder in which npm has installed exactly what `package-lock.json` says.
async fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    fs::create_dir_all(&target).expect("the build folder takes a folder");
    let lock = fs::read_to_string(folder().join("package-lock.json"))
        .expect("package-lock.json is beside this file");
    // Written last, so that an installation that was cut short is begun anew.
    let done = target.join("installed");
    if fs::read_to_string(&done).is_ok_and(|last| last == lock) {
        return target;
    }
    for name in ["package.json", "package-lock.json"] {
        fs::copy(folder().join(name), target.join(name)).expect("copying into the build folder");
    }
    let mut npm = Command::new("npm");
    // Nothing of the packages runs while they are installed.
    npm.args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&target);
    let log = tempfile::tempdir().expect("a folder for npm's log");
    let mut process = Process::start("npm", &npm, log.path());
    let status = process.exit(INSTALLING).await;
    assert!(
        status.success(),
        "npm ci ended with {status}; to do without a registry, set {CHECKOUT_VARIABLE} to a checkout of the suite"
    );
    fs::write(&done, lock).expect("writing into the build folder");
    target
}
