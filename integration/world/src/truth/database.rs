//! The database's side of the truth: users and sessions.

use std::time::Duration;

use leasehold_core::clock::Moment;

use super::{How, Session, State, User};
use crate::plan::What;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(u64);

/// Why the database does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Down,
    Full,
    /// The user is no more, or has another password.
    Credentials,
    /// The session was cut.
    Cut,
    /// The answer to an older question came.
    OutOfStep,
}

impl State {
    pub(super) fn make_user(&mut self, role: usize, name: &str, password: &str) {
        let (lived_from, password) = (self.now, password.to_owned());
        let user = User { role, password, lived_from, dead: None, is_forgotten: false, sessions: 0 };
        self.users.insert(name.to_owned(), user);
    }

    pub(super) fn kill(&mut self, user: &str, at: Moment, how: How) {
        let Some(entry) = self.users.get_mut(user) else { return };
        entry.dead.get_or_insert((at, how));
    }

    /// Opens a session.
    pub(crate) fn connect(&mut self, user: &str, password: &str) -> Result<SessionId, Refusal> {
        if self.is(|what| matches!(what, What::DatabaseDown)) {
            return Err(Refusal::Down);
        }
        let now = self.now;
        let open = self.sessions.values().filter(|session| !session.is_cut).count();
        if open >= self.places || self.is(|what| matches!(what, What::DatabaseFull)) {
            return Err(Refusal::Full);
        }
        let lag = self.delay(|what| match what {
            What::ReplicaLags { millis } => Some(*millis),
            _ => None,
        });
        let arrived = |user: &User| lag.is_none_or(|lag| user.lived_from + lag <= now);
        let knows = |user: &User| user.dead.is_none() && user.password == password && arrived(user);
        let entry = self.users.get_mut(user).filter(|user| knows(user));
        let Some(entry) = entry else { return Err(Refusal::Credentials) };
        entry.sessions += 1;
        let role = entry.role;
        self.issued += 1;
        let id = self.issued;
        self.sessions.insert(id, Session { user: user.to_owned(), is_cut: false });
        let open = self.sessions_of_role(role);
        let most = self.most_sessions.entry(role).or_default();
        *most = open.max(*most);
        Ok(SessionId(id))
    }

    fn sessions_of_role(&self, role: usize) -> usize {
        let is_of = |name: &str| self.users.get(name).is_some_and(|user| user.role == role);
        self.sessions.values().filter(|session| !session.is_cut && is_of(&session.user)).count()
    }

    /// The most sessions that the users of a role had open at a time.
    pub(crate) fn most_sessions(&self, role: usize) -> usize {
        self.most_sessions.get(&role).copied().unwrap_or_default()
    }

    /// Runs a query in a session.
    pub(crate) fn query(&self, session: SessionId) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&session.0).filter(|session| !session.is_cut) else {
            return Err(Refusal::Cut);
        };
        match self.users.get(&session.user) {
            Some(user) if user.dead.is_none() => Ok(()),
            _ => Err(Refusal::Credentials),
        }
    }

    pub(crate) fn is_open(&self, session: SessionId) -> bool {
        self.sessions.get(&session.0).is_some_and(|session| !session.is_cut)
    }

    pub(crate) fn close(&mut self, session: SessionId) {
        let Some(Session { user, .. }) = self.sessions.remove(&session.0) else { return };
        if let Some(entry) = self.users.get_mut(&user) {
            entry.sessions -= 1;
        }
    }

    pub(crate) fn cut_sessions(&mut self) {
        self.sessions.values_mut().for_each(|session| session.is_cut = true);
    }

    /// Ends every session of a user, and returns how many there were.
    pub(crate) fn terminate(&mut self, user: &str) -> usize {
        let of = self.sessions.values_mut().filter(|session| session.user == user && !session.is_cut);
        of.map(|session| session.is_cut = true).count()
    }

    pub(crate) fn drop_users(&mut self, role: usize) {
        let of = self.users.iter().filter(|(_, user)| user.role == role && user.dead.is_none());
        for name in of.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if !name.starts_with("static-") {
                self.kill(&name, self.now, How::ByOthers);
            }
        }
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// How many sessions of a user are open.
    pub(crate) fn sessions_of(&self, user: &str) -> usize {
        self.sessions.values().filter(|session| session.user == user && !session.is_cut).count()
    }

    /// How many users of a role live that the server knows.
    pub(crate) fn living_users(&self, role: usize) -> usize {
        let lives = |user: &&User| user.role == role && user.dead.is_none() && !user.is_forgotten;
        self.users.values().filter(lives).count()
    }

    /// Forgets the dead whom nobody asks about any more.
    pub(crate) fn bury(&mut self) {
        let now = self.now;
        self.users.retain(|_, user| user.sessions > 0 || user.dead.is_none_or(|(at, _)| now < at + KEPT_FOR));
    }
}

/// The dead are kept for the oracle's questions.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
