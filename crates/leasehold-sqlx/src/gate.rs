//! Which generation opened a connection, told by its age, and whether it may still be handed out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use leasehold_core::{
    Credentials, Generation, Issued,
    clock::{Clock, Moment},
    in_place::{Freshness, hard_phase},
};

#[expect(
    clippy::disallowed_types,
    reason = "the clock by which sqlx measures ages, which are all it is used for"
)]
type AgeClock = std::time::Instant;

/// What the hooks of a pool and its rotation share: the credentials in force, and those they replaced.
pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    /// Before any connection of the pool.
    zero: AgeClock,
    /// When the credentials changed last, in nanoseconds since `zero`: what is younger needs no further look.
    newest_switch: AtomicU64,
    /// Whether the database knows the user by the username: a proxy may log in as somebody else.
    tells_identity: AtomicBool,
    /// Held by whoever replaces a connection whose handshake straddled a switch: one at a time, or the server would see
    /// many more than the pool's.
    pub(crate) straddling: Mutex<()>,
    /// How many connections the pool has opened by itself.
    opened: AtomicUsize,
    state: RwLock<State>,
}

struct State {
    in_force: Option<InForce>,
    /// When the first credentials, or those in force, were put in force.
    since: u64,
    past: Past,
}

/// The credentials that new connections use.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) issued: Arc<Issued<Credentials>>,
    /// The database's number for the user, which stays with its sessions when the user is dropped.
    pub(crate) role: Option<u32>,
}

/// Credentials that were in force, and whose connections may still be open.
#[derive(Clone)]
pub(crate) struct Superseded {
    pub(crate) issued: Arc<Issued<Credentials>>,
    pub(crate) role: Option<u32>,
    counted: Option<usize>,
    since: u64,
    until: u64,
}

impl Superseded {
    /// How long it was in force.
    pub(crate) fn reign(&self) -> Duration {
        Duration::from_nanos(self.until.saturating_sub(self.since))
    }
}

impl Gate {
    pub(crate) fn new(clock: Arc<dyn Clock>, first: InForce, tells_identity: bool) -> Self {
        let state = State { in_force: Some(first), since: 0, past: Past::default() };
        Self {
            clock,
            zero: AgeClock::now(),
            newest_switch: AtomicU64::new(0),
            tells_identity: AtomicBool::new(tells_identity),
            straddling: Mutex::new(()),
            opened: AtomicUsize::new(0),
            state: RwLock::new(state),
        }
    }

    /// What to do with a connection of this age. One load and one comparison for a fresh one.
    pub(crate) fn verdict(&self, age: Duration) -> Freshness {
        let newest = self.newest_switch.load(Ordering::Acquire);
        if newest == 0 {
            return Freshness::Fresh;
        }
        // The age was taken a moment ago, so this errs towards young: nothing fresh is ever called stale.
        let created = nanos(self.zero.elapsed().saturating_sub(age));
        if created >= newest {
            return Freshness::Fresh;
        }
        self.read().past.verdict(created, self.clock.now())
    }

    /// Whether credentials have ever changed: before that, every connection has the same.
    pub(crate) fn has_switched(&self) -> bool {
        self.newest_switch.load(Ordering::Acquire) != 0
    }

    /// Whether the database knows the user by the username.
    pub(crate) fn tells_identity(&self) -> bool {
        self.tells_identity.load(Ordering::Acquire)
    }

    /// Notes that a handshake of the pool's own came to its end.
    pub(crate) fn note_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections the pool has opened by itself.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// The credentials in force; none once the pool is closed.
    pub(crate) fn in_force(&self) -> Option<InForce> {
        self.read().in_force.clone()
    }

    /// Notes the number of the user in force, which a pool that began without a connection does not know.
    pub(crate) fn numbered(&self, generation: Generation, role: Option<u32>) {
        let mut state = self.write();
        if let Some(in_force) = &mut state.in_force
            && in_force.issued.generation() == generation
        {
            in_force.role = in_force.role.or(role);
        }
    }

    /// Notes how many sessions of superseded credentials the server counted last.
    pub(crate) fn counted(&self, generation: Generation, sessions: usize) {
        let mut state = self.write();
        if let Some(old) = state.past.superseded.iter_mut().find(|old| old.issued.generation() == generation)
        {
            old.counted = Some(sessions);
        }
    }

    /// A pool's connections by generation, as far as they were counted; the rest is taken to be of what is in force.
    pub(crate) fn census(&self, size: usize) -> Vec<(Generation, usize)> {
        let state = self.read();
        let counted = |old: &Superseded| old.counted.map(|count| (old.issued.generation(), count));
        let mut census: Vec<_> = state.past.superseded.iter().filter_map(counted).collect();
        let old: usize = census.iter().map(|(_, count)| count).sum();
        if let Some(in_force) = &state.in_force {
            census.push((in_force.issued.generation(), size.saturating_sub(old)));
        }
        census
    }

    /// The credentials of this generation, if they were replaced by those of another user and not yet retired.
    pub(crate) fn superseded(&self, generation: Generation) -> Option<Superseded> {
        self.read().past.superseded.iter().find(|old| old.issued.generation() == generation).cloned()
    }

    /// Puts `next` in force. `make_new` makes the pool open its connections with it.
    ///
    /// A handshake may be under way meanwhile. The connection it makes is stamped with the time at which it is done:
    /// * options read before `make_new`, stamped before the switch time: stale by age, as it is;
    /// * options read after `make_new`: a handshake takes longer than the rest of this function, so it is stamped
    ///   after the switch time and fresh by age, as it is. (If not, a fresh connection is replaced once too often.)
    ///   Taking the time first would be wrong: what reads the old options in between would be fresh by age;
    /// * options read before `make_new`, stamped after the switch time: it straddles. `after_connect` compares its
    ///   user with the one in force, and the lock held here keeps it from seeing new options with the old slot. If it
    ///   looked before the switch, the sweeper finds the connection later, by its user again.
    pub(crate) fn switch(&self, next: InForce, tells_identity: bool, make_new: impl FnOnce()) {
        let mut state = self.write();
        make_new();
        self.tells_identity.store(tells_identity, Ordering::Release);
        let now = nanos(self.zero.elapsed()).max(1);
        let Some(old) = state.in_force.replace(next) else { return };
        let same_user = state
            .in_force
            .as_ref()
            .is_some_and(|next| next.issued.secret().username() == old.issued.secret().username());
        if same_user {
            // A static role: sessions outlive a change of their password.
            return;
        }
        let since = std::mem::replace(&mut state.since, now);
        state.past.superseded.push_back(Superseded {
            issued: old.issued,
            role: old.role,
            counted: None,
            since,
            until: now,
        });
        self.newest_switch.store(now, Ordering::Release);
    }

    /// How long ago these credentials were replaced.
    pub(crate) fn replaced_for(&self, old: &Superseded) -> Duration {
        self.zero.elapsed().saturating_sub(Duration::from_nanos(old.until))
    }

    /// Refuses from now on what this generation, or one before it, opened: its user is gone.
    pub(crate) fn end(&self, generation: Generation) {
        self.write().past.end(generation);
    }

    /// As [`end`](Self::end), and lets go of the credentials.
    pub(crate) fn retired(&self, generation: Generation) {
        let mut state = self.write();
        state.past.end(generation);
        state.past.superseded.retain(|old| old.issued.generation() != generation);
    }

    /// Lets go of everything: the pool is closed.
    pub(crate) fn clear(&self) {
        let mut state = self.write();
        state.in_force = None;
        state.past.superseded.clear();
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was in force before, oldest first.
#[derive(Default)]
struct Past {
    /// What was created before is refused whatever the clock says.
    ended: u64,
    superseded: VecDeque<Superseded>,
}

impl Past {
    /// Created before a switch means: by what that switch replaced, or by something older.
    fn verdict(&self, created: u64, now: Moment) -> Freshness {
        if created < self.ended {
            return Freshness::Ended;
        }
        match self.superseded.iter().find(|old| created < old.until) {
            Some(old) if now >= hard_phase(&old.issued) => Freshness::Ended,
            Some(_) => Freshness::Stale,
            None => Freshness::Fresh,
        }
    }

    fn end(&mut self, generation: Generation) {
        if let Some(old) = self.superseded.iter().find(|old| old.issued.generation() == generation) {
            self.ended = self.ended.max(old.until);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use leasehold_core::{Grant, Lease, clock::SystemClock, publish};

    use super::*;

    const ZERO: Moment = Moment::from_nanos(0);
    const SECOND: u64 = 1_000_000_000;

    /// Generation n of `users` is usable until n × 10 s.
    fn issue(users: &[&str]) -> Vec<InForce> {
        let mut channel = publish::channel("test", Arc::new(SystemClock));
        let issue = |(n, user): (usize, &&str)| {
            let lease = Lease::new("lease", Duration::from_secs(10 * (n as u64 + 1)), true);
            channel.publisher.publish(Grant::new(Credentials::new(*user, "p".to_owned()), lease), ZERO);
            InForce { issued: channel.current.get().unwrap(), role: None }
        };
        users.iter().enumerate().map(issue).collect()
    }

    fn past(users: &[&str], switches: &[u64]) -> Past {
        let superseded = |(InForce { issued, role }, until): (InForce, &u64)| Superseded {
            issued,
            role,
            counted: None,
            since: 0,
            until: until * SECOND,
        };
        Past { ended: 0, superseded: issue(users).into_iter().zip(switches).map(superseded).collect() }
    }

    #[test]
    fn the_age_tells_the_generation_and_its_end_tells_the_verdict() {
        use Freshness::{Ended, Fresh, Stale};
        // Usable until 10 s and 20 s; replaced at 4 s and 8 s.
        let past = past(&["a", "b"], &[4, 8]);
        for (created, now, verdict) in [
            (0, 8, Stale),
            (3, 8, Stale),
            (3, 9, Ended), // a second before its end
            (3, 99, Ended),
            (4, 9, Stale), // the second generation, which ends later
            (7, 18, Stale),
            (7, 19, Ended),
            (8, 99, Fresh),
            (50, 99, Fresh),
        ] {
            let now = ZERO + Duration::from_secs(now);
            assert_eq!(past.verdict(created * SECOND, now), verdict, "created {created} now {now:?}");
        }
    }

    #[test]
    fn what_was_ended_is_refused_before_its_time_and_what_is_newer_is_not() {
        let mut past = past(&["a", "b"], &[4, 8]);
        let first = past.superseded[0].issued.generation();
        past.end(first);
        past.superseded.pop_front();
        assert_eq!(past.verdict(3 * SECOND, ZERO), Freshness::Ended);
        assert_eq!(past.verdict(4 * SECOND, ZERO), Freshness::Stale);
        assert_eq!(past.verdict(8 * SECOND, ZERO), Freshness::Fresh);
    }

    #[test]
    fn nothing_is_stale_without_a_successor_of_another_user() {
        let mut issued = issue(&["static", "static", "other"]).into_iter();
        let gate = Gate::new(Arc::new(SystemClock), issued.next().unwrap(), true);
        let age = || gate.zero.elapsed();
        assert_eq!(gate.verdict(age()), Freshness::Fresh, "long past its end, and without a successor");
        gate.switch(issued.next().unwrap(), true, || {});
        assert_eq!(gate.verdict(age()), Freshness::Fresh, "a password is no user");
        assert!(!gate.has_switched());
        gate.switch(issued.next().unwrap(), true, || {});
        assert_eq!(gate.verdict(age()), Freshness::Ended);
        assert_eq!(gate.verdict(Duration::ZERO), Freshness::Fresh);
    }

    #[test]
    fn a_closed_gate_holds_nothing() {
        let mut issued = issue(&["a", "b"]).into_iter();
        let gate = Gate::new(Arc::new(SystemClock), issued.next().unwrap(), true);
        gate.switch(issued.next().unwrap(), true, || {});
        assert!(gate.superseded(Generation::new(1)).is_some());
        gate.clear();
        assert!(gate.in_force().is_none() && gate.superseded(Generation::new(1)).is_none());
    }
}
