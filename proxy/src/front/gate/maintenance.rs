//! A page in place of a site, for as long as a file exists or for good.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::NetSet;
use crate::respond::{Local, Text};

/// The largest page, in bytes.
const MAX_PAGE: u64 = 256 << 10;

/// The page of a site, and whether it is shown.
#[derive(Debug)]
pub(crate) struct Maintenance {
    flag: Option<PathBuf>,
    page: Option<PathBuf>,
    retry_after: Duration,
    except: NetSet,
    shown: AtomicBool,
    text: ArcSwap<Text>,
}

impl Maintenance {
    /// Shown from the first request on, if the file exists.
    pub(crate) fn new(
        flag: Option<PathBuf>,
        page: Option<PathBuf>,
        retry_after: Duration,
        except: NetSet,
    ) -> Self {
        let text = Text::plain("the site is being worked on, please come again later");
        let maintenance = Self {
            flag,
            page,
            retry_after,
            except,
            shown: AtomicBool::new(false),
            text: ArcSwap::from_pointee(text),
        };
        maintenance.look();
        maintenance
    }

    /// Looks whether the file exists; to be called now and then. The page is read when it begins to be shown, so that it can be put there first.
    pub(crate) fn look(&self) {
        let wanted = self.flag.as_deref().is_none_or(Path::exists);
        if wanted == self.shown.load(Ordering::Relaxed) {
            return;
        }
        if let (true, Some(page)) = (wanted, &self.page) {
            match read(page) {
                Ok(text) => self.text.store(Arc::new(text)),
                Err(error) => tracing::error!(
                    page = %page.display(), %error,
                    "the page of maintenance cannot be read: visitors get a line of text"
                ),
            }
        }
        self.shown.store(wanted, Ordering::Relaxed);
        if let Some(flag) = &self.flag {
            tracing::info!(flag = %flag.display(), shown = wanted, "maintenance has begun or ended");
        }
    }

    pub(super) fn is_shown_to(&self, address: Option<IpAddr>) -> bool {
        self.shown.load(Ordering::Relaxed) && !self.except.contains(address)
    }

    pub(super) fn answer(&self) -> Local {
        Local::maintenance(self.text.load_full(), self.retry_after)
    }
}

fn read(path: &Path) -> std::io::Result<Text> {
    let mut text = String::new();
    File::open(path)?.take(MAX_PAGE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_PAGE {
        return Err(std::io::Error::other("it is larger than 256 KiB"));
    }
    let is_html = path.extension().is_some_and(|end| end == "html" || end == "htm");
    Ok(Text { body: text.into(), html: is_html })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(maintenance: &Maintenance) -> String {
        String::from_utf8_lossy(maintenance.answer().body()).into_owned()
    }

    #[test]
    fn a_file_begins_and_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let [flag, page] = ["flag", "page.html"].map(|name| folder.path().join(name));
        let maintenance = Maintenance::new(
            Some(flag.clone()),
            Some(page.clone()),
            Duration::from_secs(60),
            NetSet::default(),
        );
        assert!(!maintenance.is_shown_to(None));
        std::fs::write(&flag, "").unwrap();
        maintenance.look();
        assert!(maintenance.is_shown_to(None));
        assert!(shown(&maintenance).contains("worked on"), "without a page there is a line of text");
        std::fs::remove_file(&flag).unwrap();
        maintenance.look();
        assert!(!maintenance.is_shown_to(None));
        std::fs::write(&page, "<p>later</p>").unwrap();
        std::fs::write(&flag, "").unwrap();
        maintenance.look();
        assert_eq!(shown(&maintenance).trim(), "<p>later</p>");
    }

    #[test]
    fn without_a_file_it_is_for_good() {
        let except = NetSet::new(&["10.0.0.0/8".parse().unwrap()]);
        let maintenance = Maintenance::new(None, None, Duration::from_secs(60), except);
        assert!(maintenance.is_shown_to(None) && !maintenance.is_shown_to("10.0.0.1".parse().ok()));
    }
}
