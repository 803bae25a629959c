//! Another configuration for a process that runs: all of it at once, or none of it.
//!
//! Everything that can fail comes first and touches nothing that is in force: reading, checking, certificates, sockets, routes.
//! Then what is shared goes by the new one, each listener gets its new lane, and the old lanes end with the requests that
//! they were asked for. A request goes by one of the two configurations, never by parts of both; for a moment two listeners may
//! differ.
//!
//! Changes come one after the other, under one lock. None holds up a request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clearcoat_conf as conf;
use parking_lot::Mutex;
use pingora_core::server::configuration::ServerConf;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::generation::{Base, Current, Generation};
use super::pools::pool_settings;
use crate::admin::configurations::{ChangeView, Changed, ConfigurationView, MistakeView, unified};
use crate::listen::doors::{Doors, Wanted};
use crate::listen::service::BoundSocket;
use crate::session::pin::Pins;

/// Reads the configuration again.
pub(crate) type Source = Arc<dyn Fn() -> Result<conf::Config, conf::Mistakes> + Send + Sync>;

/// Configurations that are kept, those that were refused included.
const KEPT: usize = 10;

/// Why something cannot be had that is there.
const BEYOND_REACH: &str = "; the process has given up what it did not need when it started: files in other folders than \
    those of its first configuration, ports below 1024. A start anew has them, or process.sandbox = \"off\"";

/// See the module's page.
pub(super) struct Reloading {
    /// `None`: the process was started without a file.
    source: Option<Source>,
    /// What the process was started with: some of it holds until it ends.
    started: Arc<conf::Config>,
    base: Arc<Base>,
    server: Arc<ServerConf>,
    doors: Arc<Doors>,
    pub(super) current: Current,
    /// Whose servers are looked after.
    pinning: watch::Sender<Option<Arc<Pins>>>,
    history: Mutex<History>,
    /// Held by the one change that is under way.
    changing: Mutex<()>,
}

#[derive(Default)]
struct History {
    last: u64,
    in_force: u64,
    /// Newest first.
    known: VecDeque<Known>,
}

struct Known {
    view: ConfigurationView,
    /// `None`: it was refused.
    config: Option<Arc<conf::Config>>,
}

impl History {
    fn note(&mut self, by: &str, config: Option<Arc<conf::Config>>, refused: Vec<String>) -> u64 {
        self.last += 1;
        if config.is_some() {
            self.in_force = self.last;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let view = ConfigurationView {
            number: self.last,
            at,
            by: by.to_owned(),
            refused,
            ..ConfigurationView::default()
        };
        self.known.push_front(Known { view, config });
        // The one in force is never forgotten, whatever is refused after it.
        let in_force = self.in_force;
        while self.known.len() > KEPT {
            let oldest = self.known.iter().rposition(|known| known.view.number != in_force);
            let Some(oldest) = oldest else { break };
            self.known.remove(oldest);
        }
        self.last
    }

    fn find(&self, number: u64) -> Option<&Known> {
        self.known.iter().find(|known| known.view.number == number)
    }
}

impl Reloading {
    /// For a process that has started with this generation.
    pub(super) fn new(
        source: Option<Source>,
        base: Arc<Base>,
        server: Arc<ServerConf>,
        doors: Arc<Doors>,
        current: Current,
    ) -> Arc<Self> {
        let generation = current.load_full();
        let mut history = History::default();
        history.note("start", Some(generation.config.clone()), Vec::new());
        Arc::new(Self {
            source,
            started: generation.config.clone(),
            base,
            server,
            doors,
            current,
            pinning: watch::Sender::new(generation.pins.clone()),
            history: Mutex::new(history),
            changing: Mutex::default(),
        })
    }

    /// Whose servers are looked after, now and later.
    pub(super) fn pinning(&self) -> watch::Receiver<Option<Arc<Pins>>> {
        self.pinning.subscribe()
    }

    /// Reads the file again and puts it into force. May take as long as that takes.
    pub(super) fn reload(&self, by: &str) -> Changed {
        let _one_at_a_time = self.changing.lock();
        let Some(source) = &self.source else {
            let why = "this process was started without a file: there is nothing to read again";
            warn!("{by}: {why}");
            return Changed::Impossible(why.to_owned());
        };
        match source() {
            Ok(config) => self.put_into_force(Arc::new(config), by),
            Err(mistakes) => self.refuse(mistakes.iter().map(mistake_view).collect(), by),
        }
    }

    /// Puts an earlier configuration into force again, without reading any file: the one before, or that of a number.
    pub(super) fn roll_back(&self, to: Option<u64>, by: &str) -> Changed {
        let _one_at_a_time = self.changing.lock();
        let found = {
            let history = self.history.lock();
            let before = || {
                let earlier = history.known.iter().filter(|known| known.view.number < history.in_force);
                earlier.clone().find(|known| known.config.is_some()).map(|known| known.view.number)
            };
            let number = to.or_else(before);
            number.and_then(|number| Some((number, history.find(number)?.config.clone()?)))
        };
        match found {
            Some((number, config)) => self.put_into_force(config, &format!("{by}, back to number {number}")),
            None => Changed::Impossible(match to {
                Some(number) => {
                    format!("there is no configuration {number} that was in force; see /api/configurations")
                }
                None => "there is no configuration before this one".to_owned(),
            }),
        }
    }

    fn refuse(&self, mistakes: Vec<MistakeView>, by: &str) -> Changed {
        for mistake in &mistakes {
            error!("configuration not changed: {}", mistake.text);
        }
        let lines = mistakes.iter().map(|mistake| mistake.text.clone()).collect();
        let number = self.history.lock().note(by, None, lines);
        error!(
            number,
            by,
            mistakes = mistakes.len(),
            "the configuration was refused, the one before goes on"
        );
        Changed::Refused(mistakes)
    }

    fn put_into_force(&self, config: Arc<conf::Config>, by: &str) -> Changed {
        let before = self.current.load_full();
        match self.change(&before, &config) {
            Ok(()) => {}
            Err(error) => {
                let mut text = format!("{error:#}");
                let denied = |cause: &(dyn std::error::Error + 'static)| {
                    let error = cause.downcast_ref::<std::io::Error>();
                    error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
                };
                if error.chain().any(denied) {
                    text.push_str(BEYOND_REACH);
                }
                let view = MistakeView { text, ..MistakeView::default() };
                return self.refuse(vec![view], by);
            }
        }
        let number = self.history.lock().note(by, Some(config.clone()), Vec::new());
        let restart = pending(&self.started, &config);
        let changed = *before.config != *config;
        info!(number, by, changed, "the configuration is in force");
        if !restart.is_empty() {
            warn!(keys = restart.join(" "), "these keys hold from the next start on");
        }
        let (old, new) = (before.config.to_toml(), config.to_toml());
        Changed::Done(ChangeView { number, changed, restart, diff: unified(&old, &new, "before") })
    }

    fn change(&self, before: &Arc<Generation>, config: &Arc<conf::Config>) -> anyhow::Result<()> {
        let acceptors = before.acceptors_for(config)?;
        let pools = pool_settings(config)?;
        let mut sockets = Vec::new();
        for listen in &config.listen {
            let is_open = self.doors.is_open(&listen.address);
            sockets.push(if is_open {
                None
            } else {
                Some(BoundSocket::bind(&listen.address, &listen.socket)?)
            });
        }
        // Routes hold their pools, so these have to be there; nobody finds the way to them yet.
        self.base.pools.add(pool_settings(config)?);
        let made = Generation::new(config.clone(), acceptors, &self.base, &self.server, Some(before));
        let generation = match made {
            Ok(generation) => generation,
            Err(error) => {
                self.base.pools.keep_only(&|name| before.config.pools.contains_key(name));
                return Err(error);
            }
        };
        // From here on nothing fails.
        self.base.pools.replace(pools);
        generation.begin(&self.base);
        let lanes = generation.lanes.iter().cloned();
        let wanted = config.listen.iter().zip(sockets).zip(lanes).map(|((listen, socket), lane)| Wanted {
            address: listen.address.clone(),
            socket,
            lane,
        });
        self.doors.set(wanted.collect());
        self.pinning.send_replace(generation.pins.clone());
        self.current.store(Arc::new(generation));
        Ok(())
    }

    /// The last configurations, newest first.
    pub(super) fn configurations(&self) -> Vec<ConfigurationView> {
        let history = self.history.lock();
        let view = |known: &Known| ConfigurationView {
            in_force: known.view.number == history.in_force,
            restart: known.config.as_ref().map(|config| pending(&self.started, config)).unwrap_or_default(),
            ..known.view.clone()
        };
        history.known.iter().map(view).collect()
    }

    /// One of them as TOML; `None`: the one in force.
    pub(super) fn configuration(&self, number: Option<u64>) -> Option<String> {
        let config = {
            let history = self.history.lock();
            history.find(number.unwrap_or(history.in_force))?.config.clone()?
        };
        Some(config.to_toml())
    }
}

/// The keys of a configuration that hold from the next start on, because they are others than those the process started with.
fn pending(started: &conf::Config, config: &conf::Config) -> Vec<String> {
    let mut keys = Vec::new();
    let mut differs = |key: &str, differs: bool| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    differs("threads", started.threads != config.threads);
    differs("admin", started.admin != config.admin);
    differs("process", started.process != config.process);
    differs("log", started.log != config.log);
    let replicates = started.sessions.mode.replicates() || config.sessions.mode.replicates();
    differs("sessions", replicates && started.sessions != config.sessions);
    for listen in &config.listen {
        let before = started.listen.iter().find(|before| before.address == listen.address);
        differs(
            &format!("listen {} (owner and mode of its socket)", listen.address),
            before.is_some_and(|before| before.socket != listen.socket),
        );
    }
    keys
}

fn mistake_view(mistake: &conf::Mistake) -> MistakeView {
    MistakeView {
        text: mistake.to_string(),
        file: Some(mistake.file.clone()),
        line: mistake.place.map(|place| place.line),
        column: mistake.place.map(|place| place.column),
        key: Some(mistake.key.clone()).filter(|key| !key.is_empty()),
        hint: Some(mistake.hint.clone()).filter(|hint| !hint.is_empty()),
    }
}
