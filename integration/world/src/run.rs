//! Runs one plan: builds the world, lets the faults happen, heals everything, and looks whether all is well.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, ErrorKind, ExposeSecret as _, Generation, Health, Result, Status,
};
use tokio::task::LocalSet;

use crate::{
    oracle::{Counts, Oracle, Promise, Trouble, Violation},
    panics,
    plan::{Fault, Made, Plan, What},
    service::{Place, Rotating, Running, Service},
    sometimes::Sometimes,
    streams::Streams,
    time::Time,
    truth::{How, Truth},
};

/// What came of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
    pub(crate) trace: u64,
    pub(crate) story: String,
    /// How long the world lasted, in its own time.
    pub(crate) lasted: Duration,
}

pub(crate) fn run(plan: &Plan, with_story: bool) -> Outcome {
    // No event loop, no blocking pool: nothing in the world reaches the machine that it runs on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    #[expect(clippy::expect_used, reason = "a runtime without I/O allocates, and does nothing that can fail")]
    let runtime = runtime.expect("a runtime");
    panics::note();
    panics::take();
    let mut outcome = runtime.block_on(LocalSet::new().run_until(live(plan, with_story)));
    // Tasks that still run go with it, and their keepers' farewells are heard by nobody.
    drop(runtime);
    let at_s = outcome.lasted.as_secs_f64();
    let panics = panics::take().into_iter();
    outcome.violations.extend(panics.map(|about| Violation { promise: Promise::NoPanic, at_s, about }));
    outcome
}

async fn live(plan: &Plan, with_story: bool) -> Outcome {
    let time = Time::new();
    let oracle = Oracle::new(Arc::clone(&time), with_story);
    let truth = Truth::new(Arc::clone(&time), &plan.settings, Streams::new(plan.seed));
    let begun = time.now();
    match Place::new(plan, truth, Arc::clone(&oracle)) {
        Ok(place) => World { place, running: Rc::default(), lives: Rc::default() }.live().await,
        Err(error) => oracle.violated(Promise::NoPanic, format_args!("the client cannot be built: {error}")),
    }
    let (counts, violations, trace, story) = oracle.finish();
    Outcome { counts, violations, trace, story, lasted: begun.until(time.now()) }
}

struct World {
    place: Place,
    running: Running,
    lives: Rc<Cell<u32>>,
}

impl World {
    async fn live(&self) {
        if let Err(error) = self.begin().await {
            self.place
                .oracle
                .violated(Promise::Heals, format_args!("a start without faults failed: {error}"));
            return;
        }
        let looks = tokio::task::spawn_local(looks(self.place.clone(), Rc::clone(&self.running)));
        self.storm().await;
        self.place.truth.time.pass(bound(&self.place.plan)).await;
        self.place.oracle.tell(format_args!("the calm after the storm is over"));
        looks.abort();
        self.is_healthy_soon().await;
        self.end().await;
    }

    async fn begin(&self) -> Result<()> {
        let life = self.lives.replace(self.lives.get() + 1);
        let service = Service::start(&self.place, life).await?;
        *self.running.borrow_mut() = Some(service);
        Ok(())
    }

    /// Lets the faults happen, each in a task of its own, and waits until the last is over.
    async fn storm(&self) {
        let (time, settings) = (Arc::clone(&self.place.truth.time), &self.place.plan.settings);
        let mut faults = self.place.plan.faults.clone();
        faults.sort_by_key(|fault| fault.at_ms);
        let mut over = Vec::new();
        for fault in faults {
            let at = time.at_millis(fault.at_ms);
            time.pass(time.now().until(at)).await;
            if let What::Restart = fault.what {
                self.restart().await;
                continue;
            }
            over.push(tokio::task::spawn_local(happen(self.place.clone(), Rc::clone(&self.running), fault)));
        }
        for fault in over {
            let _ = fault.await;
        }
        time.pass(time.now().until(time.at_millis(settings.storm_s * 1_000))).await;
    }

    async fn restart(&self) {
        let Place { oracle, .. } = &self.place;
        oracle.count(|counts| *counts.faults.entry("restart").or_default() += 1);
        oracle.tell(format_args!("the service restarts"));
        ALL_TROUBLE.iter().for_each(|of| oracle.trouble(*of, true));
        let service = self.running.borrow_mut().take();
        if let Some(service) = service {
            let _ = service.stop(&self.place).await;
        }
        if let Err(error) = self.begin().await {
            oracle.violated(Promise::Heals, format_args!("a start in trouble failed: {error}"));
        }
        ALL_TROUBLE.iter().for_each(|of| oracle.trouble(*of, false));
    }

    /// After the calm all is well, but for a rotation that may be under way.
    async fn is_healthy_soon(&self) {
        let mut complaints = self.complaints();
        for _ in 0..LONGEST_ROTATION_S {
            if complaints.is_empty() {
                return;
            }
            self.place.truth.time.pass(Duration::from_secs(1)).await;
            let now = self.complaints();
            complaints
                .retain(|(promise, about)| now.iter().any(|(other, more)| (promise, about) == (other, more)));
        }
        for (promise, about) in complaints {
            self.place.oracle.violated(promise, format_args!("{about}"));
        }
    }

    /// Every keeper is healthy and ready, every pool has one generation, and nothing old is left; or what is not so.
    fn complaints(&self) -> Vec<(Promise, String)> {
        let (running, mut complaints) = (self.running.borrow(), Vec::new());
        let Some(service) = &*running else { return complaints };
        if service.token.health().status != Status::Healthy {
            complaints.push((Promise::Heals, "the login is not healthy".to_owned()));
        }
        for (index, role) in service.roles.iter().enumerate() {
            let health = role.keeper.health();
            if health.status != Status::Healthy || !health.is_ready(Duration::from_secs(1)) {
                complaints.push((Promise::Heals, format!("role {index} is not healthy, or not ready")));
            }
            let current = health.generation.unwrap_or(Generation::new(0));
            let old = |rotating: &Rotating| rotating.pool.generations().into_iter().any(|of| of < current);
            if !self.is_static(index) && role.pools.iter().any(old) {
                complaints.push((Promise::Heals, format!("role {index} has old connections")));
            }
            if self.place.truth.now().leases_of(index).1 > 1 {
                complaints.push((Promise::NothingIsLeft, format!("role {index} has old leases")));
            }
        }
        complaints
    }

    fn is_static(&self, role: usize) -> bool {
        self.place.plan.settings.roles.get(role).is_some_and(|role| matches!(role.made, Made::Static { .. }))
    }

    /// Shuts the service down in a calm world, which must leave nothing.
    async fn end(&self) {
        let service = self.running.borrow_mut().take();
        let Some(service) = service else { return };
        let told = service.stop(&self.place).await;
        if let Err(error) = told {
            self.place
                .oracle
                .violated(Promise::NothingIsLeft, format_args!("a calm shut-down failed: {error}"));
        }
        for index in 0..self.place.plan.settings.roles.len() {
            let (_, known) = self.place.truth.now().leases_of(index);
            if known > 0 {
                let about = format_args!("role {index}: {known} leases after the shut-down");
                self.place.oracle.violated(Promise::NothingIsLeft, about);
            }
        }
    }
}

/// How long it may take until all is well: the longest wait between attempts, and what a role needs to come round.
fn bound(plan: &Plan) -> Duration {
    let longest = plan.settings.longest_life_s().max(plan.settings.login.ttl_s);
    slowest(plan) * 2 + Duration::from_secs(longest).min(LONGEST_LIFE)
}

/// The longest wait after a request that may have been carried out: it grows with the life of what is left behind.
fn slowest(plan: &Plan) -> Duration {
    let longest = Duration::from_secs(plan.settings.longest_life_s().max(plan.settings.login.ttl_s));
    (longest / 500).clamp(LONGEST_BACK_OFF, LONGEST_WITH_ORPHANS)
}

/// One fault, from its beginning to its end.
async fn happen(place: Place, running: Running, fault: Fault) {
    let Place { truth, oracle, .. } = &place;
    let what = fault.what;
    oracle.count(|counts| *counts.faults.entry(what.name()).or_default() += 1);
    oracle.tell(format_args!("fault: {what:?} for {} ms", fault.for_ms));
    let trouble = trouble(&what);
    trouble.iter().for_each(|of| oracle.trouble(*of, true));
    let lasts = Duration::from_millis(fault.for_ms);
    match what {
        What::LeaseRevoked { role } => truth.now().revoke_leases(role),
        What::TokenRevoked => truth.now().revoke_tokens(),
        What::RoleEdited { role, ttl_s, renewable } => truth.now().edit(role, ttl_s, renewable),
        What::UserDropped { role } => truth.now().drop_users(role),
        What::Restored { age_s } => {
            let since = truth.time.now().earlier(Duration::from_secs(age_s));
            truth.now().restore(since);
        }
        What::SessionsCut => truth.now().cut_sessions(),
        What::RotatedByHand { role } => truth.now().rotate_by_hand(role),
        What::Suspended { noticed } => {
            if lasts > Duration::from_secs(place.plan.settings.shortest_life_s()) {
                oracle.sometimes(Sometimes::SleepsLongerThanALife);
            }
            if noticed {
                truth.time.suspend(lasts);
                truth.time.tell_of_a_jump();
            } else {
                // The timers that were to fire meanwhile fire all at once.
                tokio::time::advance(lasts).await;
            }
        }
        What::WallClockSteps => {
            // In a world of a year each second would be all that happens.
            let pause = lasts.div_f64(1_000.0).max(Duration::from_secs(1));
            let until = truth.time.now() + lasts;
            while truth.time.now() < until {
                truth.time.tell_of_a_jump();
                truth.time.pass(pause).await;
            }
        }
        What::Rejections { role } => reject(&place, &running, role, lasts).await,
        _ => {
            truth.now().weather.push(what);
            truth.changed.notify_waiters();
            if what == What::DatabaseDown {
                truth.now().cut_sessions();
            }
            truth.time.pass(lasts).await;
            let mut now = truth.now();
            if let Some(place) = now.weather.iter().position(|other| *other == what) {
                now.weather.remove(place);
            }
            drop(now);
            truth.changed.notify_waiters();
        }
    }
    oracle.tell(format_args!("fault over: {what:?}"));
    if trouble.contains(&Trouble::Costs) {
        truth.time.pass(echo(&what, lasts, &place.plan)).await;
    }
    trouble.iter().for_each(|of| oracle.trouble(*of, false));
}

/// How long a fault goes on to be felt after its end. A server that asks for a pause is given it; and where a request may have
/// been carried out, its repetition waits, because each may leave a user behind.
fn echo(what: &What, lasts: Duration, plan: &Plan) -> Duration {
    let asked_for = match what {
        What::Fails { retry_after_s: Some(wait), .. } | What::Limited { retry_after_s: Some(wait) } => {
            Duration::from_secs(*wait).min(LONGEST_PAUSE)
        }
        _ => Duration::ZERO,
    };
    let repeated = match what {
        What::Fails { status: 502 | 504, .. }
        | What::RequestsLost { .. }
        | What::AnswersLost { .. }
        | What::AnswersCut { .. }
        | What::Slow { .. }
        | What::Hangs => lasts.min(slowest(plan)),
        _ => Duration::ZERO,
    };
    asked_for.max(repeated)
}

/// The trouble that a fault is: it may legitimately cost queries or lives, or it must cost nothing.
fn trouble(what: &What) -> &'static [Trouble] {
    match what {
        What::WallClockSteps
        | What::SourceFlaps
        | What::Rejections { .. }
        | What::RevocationsDenied
        | What::RenewalsDenied
        | What::RotatedByHand { .. }
        | What::RoleEdited { .. } => &[Trouble::Any],
        // While nothing is issued, what lives is renewed all the same.
        What::Limited { .. } => &[Trouble::Any, Trouble::Costs],
        _ => ALL_TROUBLE,
    }
}

async fn reject(place: &Place, running: &Running, role: usize, lasts: Duration) {
    let until = place.truth.time.now() + lasts;
    while place.truth.time.now() < until {
        let current = running
            .borrow()
            .as_ref()
            .and_then(|service| service.roles.get(role).map(|role| role.keeper.current()));
        if let Some((current, generation)) =
            current.and_then(|current| current.get().ok().map(|issued| (current, issued.generation())))
        {
            current.reject(generation, ErrorKind::CredentialsRefused);
            current.reject(
                Generation::new(generation.number().saturating_sub(1)),
                ErrorKind::CredentialsRefused,
            );
        }
        place.truth.time.pass(Duration::from_secs(1)).await;
    }
}

/// Looks at the service again and again, and compares what it claims with the truth.
async fn looks(place: Place, running: Running) {
    let every = Duration::from_secs(place.plan.settings.shortest_life_s()) / 40;
    loop {
        place.truth.time.pass(every.max(Duration::from_millis(200))).await;
        let handles = running.borrow().as_ref().map(Service::currents).unwrap_or_default();
        for (index, current) in handles {
            look(&place, index, &current);
        }
        if let Some(service) = &*running.borrow() {
            look_at_requests(&place, service);
            let pools = service.roles.iter().flat_map(|role| &role.pools);
            let mut generations =
                pools.map(|rotating| rotating.pool.generations().into_iter().collect::<BTreeSet<_>>());
            if generations.any(|of| of.len() >= 3) {
                place.oracle.sometimes(Sometimes::ThreeGenerations);
            }
        }
        place.truth.now().bury();
    }
}

/// Whether requests succeed where nothing is in their way, and whether the death of a token shows.
fn look_at_requests(place: &Place, service: &Service) {
    let Place { truth, oracle, plan, .. } = place;
    let now = truth.time.now();
    let healths = service.roles.iter().map(|role| role.keeper.health()).chain([service.token.health()]);
    if !oracle.was_in(Trouble::Any, now.earlier(bound(plan))) {
        for Health { status, .. } in healths {
            if let Status::Degraded { since, error } = status
                && since > LONGEST_FAILURE
            {
                oracle.violated(Promise::HealthyInCalm, format_args!("for {since:?}: {error}"));
            }
        }
    }
    let token = service.token.current().get();
    let refused = token.is_ok_and(|token| {
        let value = token.secret().value().expose_secret();
        oracle.is_dead_and_refused(value, now.earlier(Duration::from_secs(1)))
    });
    if refused && service.token.health().is_ready(MARGIN) {
        oracle.violated(Promise::DeadIsNotReady, format_args!("the token is dead, and no login succeeds"));
    }
}

fn look(place: &Place, index: usize, current: &Current<Credentials>) {
    let Place { truth, oracle, plan, .. } = place;
    let now = truth.time.now();
    let Ok(issued) = current.get() else {
        oracle.violated(Promise::NothingIsDisplaced, format_args!("role {index} has no value"));
        return;
    };
    let user = issued.secret().username();
    let claimed = issued.usable_until();
    // One that has been dead for an hour is forgotten, and of one that the server forgot nobody knows the end.
    let killed = truth
        .now()
        .user(user)
        .is_none_or(|user| user.is_forgotten || user.dead.is_some_and(|(_, how)| how == How::ByOthers));
    let is_dynamic = !user.starts_with("static-");
    let end = truth.now().end_of(user).unwrap_or(now);
    if is_dynamic && !killed && claimed > now && claimed > end + ROUNDING {
        let about =
            format_args!("role {index}: {user} is called usable for {:?} too long", end.until(claimed));
        oracle.violated(Promise::EndsAreTrue, about);
    }
    let is_ready = current.health().is_ready(MARGIN);
    if !is_ready {
        oracle.sometimes(Sometimes::NotReady);
    }
    let lives = truth.now().user(user).is_some_and(|user| user.dead.is_none());
    // Where renewals are denied and the token ends first, the role waits for the token's successor, which is planned.
    let waits = truth.now().is(|what| *what == What::RenewalsDenied) && truth.now().ends_with_its_token(user);
    if !is_ready && lives && !waits && !oracle.was_in_trouble(now.earlier(LONGEST_BACK_OFF)) {
        oracle.violated(Promise::ReadyInCalm, format_args!("role {index}: {:?}", current.health()));
    }
    let sessions = truth.now().most_sessions(index);
    let places: usize = plan.settings.roles[index].pools.iter().map(|pool| pool.size + 1).sum();
    if sessions > places {
        oracle.violated(Promise::FewSessions, format_args!("role {index} has {sessions} sessions"));
    }
    let users = truth.now().living_users(index);
    oracle.count(|counts| counts.most_users_of_a_role = counts.most_users_of_a_role.max(users));
    if users >= MANY_USERS {
        oracle.sometimes(Sometimes::ManyUsers);
    }
    let life_s = plan.settings.roles[index].made.life_s();
    if users > MOST_USERS + usize::try_from(life_s / 300).unwrap_or_default().min(MOST_ORPHANS) {
        oracle.violated(Promise::FewUsers, format_args!("role {index} has {users} users"));
    }
}

/// The longest that a keeper waits before it asks again, and the revocations that were put off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(600);
/// A lease that ends later than this is looked at by its renewal long before.
const LONGEST_LIFE: Duration = Duration::from_secs(7_200);
/// The longest pause that a keeper makes because a server asks for one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Where nothing is in its way, a failure is mended by the next request.
const LONGEST_FAILURE: Duration = Duration::from_secs(10);
const ALL_TROUBLE: &[Trouble] = &[Trouble::Any, Trouble::Costs, Trouble::Renewals];
const LONGEST_WITH_ORPHANS: Duration = Duration::from_secs(3_600);
const LONGEST_ROTATION_S: u32 = 120;
const MARGIN: Duration = Duration::from_secs(10);
/// The server says how long a lease lasts in whole seconds, and some milliseconds after it has counted from.
const ROUNDING: Duration = Duration::from_secs(1);
const MANY_USERS: usize = 10;
const MOST_USERS: usize = 100;
/// Each lost answer to an issue may leave a user, at most one in five minutes and 1,600 within a life.
const MOST_ORPHANS: usize = 1_600;
