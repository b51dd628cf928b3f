//! The truth: the tokens and leases that live at the server, and the users and sessions of the database.

mod database;
mod vault;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fastrand::Rng;
use leasehold_core::clock::Moment;
use tokio::sync::Notify;

use crate::{
    plan::{Login, Made, Settings, What},
    streams::Streams,
    time::{Time, lock},
};
pub(crate) use database::{Refusal, SessionId};
pub(crate) use vault::{Answer, Given, errors};

/// What is true now. The oracle reads it, and the service never does.
pub(crate) struct Truth {
    pub(crate) time: Arc<Time>,
    state: Mutex<State>,
    /// A fault has begun or ended.
    pub(crate) changed: Notify,
}

pub(crate) struct State {
    pub(crate) now: Moment,
    login: Login,
    roles: Vec<Made>,
    /// The faults that are under way.
    pub(crate) weather: Vec<What>,
    tokens: BTreeMap<String, Token>,
    leases: BTreeMap<String, Lease>,
    statics: BTreeMap<usize, Static>,
    users: BTreeMap<String, User>,
    sessions: BTreeMap<u64, Session>,
    most_sessions: BTreeMap<usize, usize>,
    /// When the next token or lease ends, or the next password is replaced.
    next_end: Moment,
    issued: u64,
    deaths_of_tokens: u64,
    places: usize,
    draws: Rng,
}

struct Token {
    end: Moment,
    max_end: Moment,
    jwt_end: Moment,
    made: Moment,
    uses: Option<u64>,
}

struct Lease {
    role: usize,
    user: String,
    token: String,
    end: Moment,
    max_end: Moment,
    renewable: bool,
    made: Moment,
    ttl: Duration,
    /// Whether the service heard the answer in which this lease was.
    heard: bool,
}

struct Static {
    user: String,
    period: Duration,
    version: u64,
    /// When the version came. Before the first replacement it was always there.
    since: Moment,
    due: Moment,
    rotates_at: Moment,
}

/// A user of the database. One that is dead stays here for as long as a session of it is open.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) role: usize,
    password: String,
    pub(crate) lived_from: Moment,
    pub(crate) dead: Option<(Moment, How)>,
    /// Whether the server has forgotten the user, so that nobody will end it.
    pub(crate) is_forgotten: bool,
    sessions: usize,
}

struct Session {
    user: String,
    is_cut: bool,
}

/// How a user came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Its lease, or the token above it, ended by itself.
    Expired,
    /// As before, but the server would have renewed the lease.
    NotRenewed,
    /// The service revoked its lease, or the token above it.
    ByUs,
    /// An operator did, or somebody dropped it.
    ByOthers,
}

impl Truth {
    pub(crate) fn new(time: Arc<Time>, settings: &Settings, streams: Streams) -> Arc<Self> {
        let places: usize =
            settings.roles.iter().flat_map(|role| &role.pools).map(|pool| pool.size + 4).sum();
        let now = time.now();
        let mut state = State {
            now,
            login: settings.login,
            roles: settings.roles.iter().map(|role| role.made).collect(),
            weather: Vec::new(),
            tokens: BTreeMap::new(),
            leases: BTreeMap::new(),
            statics: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            most_sessions: BTreeMap::new(),
            next_end: Moment::NEVER,
            issued: 0,
            deaths_of_tokens: 0,
            places,
            draws: streams.named("server"),
        };
        state.make_static_users();
        Arc::new(Self { time, state: Mutex::new(state), changed: Notify::new() })
    }

    /// What is true now: all that was to end before this moment has ended.
    pub(crate) fn now(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.now = self.time.now();
        state.settle();
        state
    }
}

impl State {
    pub(crate) fn is(&self, what: impl Fn(&What) -> bool) -> bool {
        self.weather.iter().any(what)
    }

    /// The delay of the fault that is under way, if there is one that `millis` reads.
    pub(crate) fn delay(&self, millis: impl Fn(&What) -> Option<u64>) -> Option<Duration> {
        self.weather.iter().find_map(millis).map(Duration::from_millis)
    }

    /// Ends what has come to its end, at the moment of that.
    fn settle(&mut self) {
        if self.now < self.next_end {
            return;
        }
        let ended = self.leases.iter().filter(|(_, lease)| lease.end <= self.now);
        let how = |lease: &Lease| {
            let could_go_on = lease.renewable && lease.end + Duration::from_secs(1) < lease.max_end;
            if could_go_on { How::NotRenewed } else { How::Expired }
        };
        let ended: Vec<_> = ended.map(|(id, lease)| (id.clone(), lease.end, how(lease))).collect();
        for (id, end, how) in ended {
            self.end_lease(&id, end, how);
        }
        let ended = self.tokens.iter().filter(|(_, token)| token.end <= self.now);
        let ended: Vec<_> = ended.map(|(value, token)| (value.clone(), token.end)).collect();
        for (value, end) in ended {
            self.end_token(&value, end, How::Expired);
        }
        self.rotate_statics();
        let ends = self.leases.values().map(|lease| lease.end);
        let ends = ends.chain(self.tokens.values().map(|token| token.end));
        let ends = ends.chain(self.statics.values().map(|role| role.rotates_at));
        self.next_end = ends.min().unwrap_or(Moment::NEVER);
    }

    fn ends_at(&mut self, end: Moment) {
        self.next_end = self.next_end.min(end);
    }
}
