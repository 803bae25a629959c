//! A small closed-loop load: some connections that each ask again as soon as they have an answer.
//!
//! It is there to notice failures while something happens to the nodes, not to measure speed: every body is compared, every transport
//! error is kept in words. Each connection is a task of the test's runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Connection, Request};
use crate::wait;

/// Errors kept in words; the rest is counted only.
const KEPT_ERRORS: usize = 10;

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Answers that came by a fault of the connection not at all.
    pub errors: usize,
    /// The first errors in words.
    pub words: Vec<String>,
    /// Answers of status 200 with another body than expected.
    pub mismatches: usize,
    /// The longest time from sending a request to the end of its answer.
    pub slowest: Duration,
}

impl Report {
    /// All answers.
    pub fn answers(&self) -> usize {
        self.statuses.values().sum()
    }

    /// Everything that is not a 200 with the right body.
    pub fn failures(&self) -> usize {
        self.answers() - self.statuses.get(&200).copied().unwrap_or(0) + self.errors + self.mismatches
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statuses, errors, words, mismatches, slowest } = self;
        write!(
            out,
            "statuses {statuses:?}, errors {errors}, mismatches {mismatches}, slowest {slowest:?}, {words:?}"
        )
    }
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    targets: Vec<(Request, Option<Bytes>)>,
    /// Turns are handed out from here, so that connections share the targets instead of repeating them.
    turn: AtomicUsize,
    /// Turns in all; without an end if the load goes on until it is stopped.
    turns: usize,
    stopping: AtomicBool,
    answered: AtomicUsize,
    report: Mutex<Report>,
}

/// A load under way. Dropped without [`Load::stop`], its connections are closed and its report is lost.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    connections: JoinSet<()>,
}

impl Load {
    /// Starts `connections` that take `targets` in turn, over and over, until [`Load::stop`]. A target's body is compared where one
    /// is given.
    pub fn start(
        address: SocketAddr,
        connections: usize,
        targets: impl IntoIterator<Item = (Request, Option<Bytes>)>,
    ) -> Self {
        Self::begin(address, connections, targets.into_iter().collect(), usize::MAX)
    }

    /// Starts `connections` that share `targets` among them, each target once; see [`Load::finish`].
    pub fn once(
        address: SocketAddr,
        connections: usize,
        targets: impl IntoIterator<Item = (Request, Option<Bytes>)>,
    ) -> Self {
        let targets: Vec<_> = targets.into_iter().collect();
        let turns = targets.len();
        Self::begin(address, connections, targets, turns)
    }

    fn begin(
        address: SocketAddr,
        connections: usize,
        targets: Vec<(Request, Option<Bytes>)>,
        turns: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            address,
            targets,
            turn: AtomicUsize::new(0),
            turns,
            stopping: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            report: Mutex::default(),
        });
        assert!(!shared.targets.is_empty(), "a load asks for something");
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(ask_on(Arc::clone(&shared)));
        }
        Self { shared, connections: tasks }
    }

    /// Waits for so many more answers or failures, so that whatever happened before has met traffic.
    pub async fn go_on(&self, count: usize) {
        let goal = self.shared.answered.load(Ordering::SeqCst) + count;
        wait::until_true("more answers of the load", || self.shared.answered.load(Ordering::SeqCst) >= goal)
            .await;
    }

    /// Lets every request under way finish, and tells what came.
    pub async fn stop(self) -> Report {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.finish().await
    }

    /// Waits until every target of [`Load::once`] had its turn, and tells what came.
    pub async fn finish(mut self) -> Report {
        wait::soon("the load's last answers", async {
            while self.connections.join_next().await.is_some() {}
        })
        .await;
        self.shared.report().clone()
    }
}

impl Shared {
    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut report = self.report();
        report.errors += 1;
        if report.words.len() < KEPT_ERRORS {
            report.words.push(format!("{error:#}"));
        }
    }
}

async fn ask_on(shared: Arc<Shared>) {
    let mut connection: Option<Connection> = None;
    while !shared.stopping.load(Ordering::SeqCst) {
        let turn = shared.turn.fetch_add(1, Ordering::SeqCst);
        if turn >= shared.turns {
            return;
        }
        let (request, expected) = &shared.targets[turn % shared.targets.len()];
        let started = Instant::now();
        let mut used = match connection.take() {
            Some(used) => used,
            None => match Connection::try_open(shared.address).await {
                Ok(opened) => opened,
                Err(error) => {
                    shared.failed(&error);
                    shared.answered.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            },
        };
        match used.try_ask(request).await {
            Ok(answer) => {
                let mut report = shared.report();
                *report.statuses.entry(answer.status).or_default() += 1;
                let differs = expected.as_ref().is_some_and(|expected| *expected != answer.body);
                report.mismatches += usize::from(answer.status == 200 && differs);
                report.slowest = report.slowest.max(started.elapsed());
                drop(report);
                connection = (!answer.closes()).then_some(used);
            }
            Err(error) => shared.failed(&error),
        }
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
}
