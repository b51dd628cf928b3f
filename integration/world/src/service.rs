//! The service that lives in the world: the real client, keepers, providers, drivers and rotation, as a program would join
//! them.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use leasehold_auth::{Ask, Jwt};
use leasehold_core::{
    Credentials, Current, Event, EventKind, Provider, Result, SecretString, Token, Vault, async_trait,
    in_place::{InForce, InPlace, Settings},
};
use leasehold_renewal::{Builder, Keeper, StartPolicy};
use leasehold_secrets::{DatabaseRole, StaticRole};
use leasehold_vault::Client;
use tokio::{sync::broadcast, task::JoinHandle};

use crate::{
    callers::Caller,
    database::Driver,
    oracle::{Actor, Oracle, Promise},
    plan::{self, Made, Plan},
    pool::Pool,
    server::Server,
    sometimes::Sometimes,
    streams::Streams,
    truth::Truth,
    watched::Watched,
};

/// The parts of the world that a service needs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) truth: Arc<Truth>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) streams: Streams,
}

pub(crate) struct Service {
    pub(crate) token: Keeper<Token>,
    pub(crate) roles: Vec<Role>,
    /// How many services there were before this one: each draws from streams of its own.
    life: u32,
}

pub(crate) struct Role {
    pub(crate) keeper: Keeper<Credentials>,
    pub(crate) pools: Vec<Rotating>,
}

pub(crate) struct Rotating {
    pub(crate) pool: Pool,
    rotation: JoinHandle<()>,
    callers: Vec<JoinHandle<()>>,
}

/// The source of JWTs, which has a fresh one for each login.
struct FreshJwt;

#[async_trait]
impl Ask for FreshJwt {
    async fn ask(&self) -> Result<SecretString> {
        Ok(SecretString::from("ey.ey.ey".to_owned()))
    }
}

impl Place {
    pub(crate) fn new(plan: &Plan, truth: Arc<Truth>, oracle: Arc<Oracle>) -> Result<Self> {
        let streams = Streams::new(plan.seed);
        let server = Server::new(Arc::clone(&truth), Arc::clone(&oracle), streams.named("network"));
        let vault =
            Client::builder().address("http://vault.world:8200").transport(Arc::new(server)).build()?;
        Ok(Self { truth, oracle, vault: Arc::new(vault), plan: Arc::new(plan.clone()), streams })
    }

    fn builder(&self, name: &str) -> Builder {
        Builder::new()
            .clock(self.truth.time.clock(self.streams.named(name)))
            .drain_budget(Duration::from_secs(self.plan.settings.drain_s))
            .start_policy(StartPolicy::WaitUpTo(Duration::from_secs(86_400 * 400)))
    }

    async fn keep<P>(&self, name: &str, actor: Actor, provider: P) -> Result<Keeper<P::Secret>>
    where
        P: Provider + 'static,
        P::Secret: crate::watched::Known,
    {
        let watched = Watched::new(provider, actor, Arc::clone(&self.truth), Arc::clone(&self.oracle));
        let keeper = self.builder(name).start(watched).await?;
        tokio::spawn(record(keeper.events(), actor, Arc::clone(&self.oracle)));
        Ok(keeper)
    }
}

impl Service {
    pub(crate) async fn start(place: &Place, life: u32) -> Result<Self> {
        let login = Jwt::from_asking(Arc::clone(&place.vault), "world", FreshJwt);
        let token = place.keep(&format!("login {life}"), Actor::Login, login).await?;
        let mut service = Self { token, roles: Vec::new(), life };
        for (index, role) in place.plan.settings.roles.iter().enumerate() {
            let role = service.role(place, index, role).await?;
            service.roles.push(role);
        }
        Ok(service)
    }

    async fn role(&self, place: &Place, index: usize, role: &plan::Role) -> Result<Role> {
        let (vault, token, name) = (Arc::clone(&place.vault), self.token.current(), format!("role-{index}"));
        let (stream, actor) = (format!("{name} {}", self.life), Actor::Role(index));
        let keeper = match role.made {
            Made::Static { .. } => place.keep(&stream, actor, StaticRole::new(vault, token, name)).await?,
            Made::Dynamic { first_ttl_s, .. } => {
                let mut provider = DatabaseRole::new(vault, token, name);
                if let Some(first_ttl) = first_ttl_s {
                    provider = provider.first_ttl(Duration::from_secs(first_ttl));
                }
                place.keep(&stream, actor, provider).await?
            }
        };
        let pools = role.pools.iter().enumerate();
        let pools = pools.map(|(at, pool)| self.pool(place, &keeper, *pool, &format!("pool {index}.{at}")));
        let pools = pools.collect::<Result<_>>()?;
        Ok(Role { keeper, pools })
    }

    fn pool(
        &self,
        place: &Place,
        keeper: &Keeper<Credentials>,
        plan: plan::Pool,
        name: &str,
    ) -> Result<Rotating> {
        let clock = place.truth.time.clock(place.streams.named(&format!("{name} {}", self.life)));
        let current = keeper.current();
        let in_force = InForce::new(current.get()?, clock.clone());
        let driver = Driver { truth: Arc::clone(&place.truth), oracle: Arc::clone(&place.oracle) };
        let pool =
            Pool::new(plan.size, plan.saturable, driver, clock, Arc::clone(&in_force), current.clone());
        let settings = Settings {
            ask_every: plan.ask_every_ms.map(Duration::from_millis),
            terminate: plan.terminate,
            ..Settings::default()
        };
        let rotation = tokio::spawn(InPlace::new(pool.clone(), in_force, current, settings).run());
        let callers = (0..plan.callers).map(|number| {
            let name = format!("{name}.{number}");
            let draws = place.streams.named(&format!("caller {name} {}", self.life));
            let (truth, oracle) = (Arc::clone(&place.truth), Arc::clone(&place.oracle));
            let drain = Duration::from_secs(place.plan.settings.drain_s);
            let turn = longest_turn(&place.plan);
            tokio::spawn(Caller { name, pool: pool.clone(), plan, drain, turn, truth, oracle, draws }.run())
        });
        Ok(Rotating { callers: callers.collect(), pool, rotation })
    }

    /// Shuts everything down, leaf first, as the documentation says. Returns what the keepers say of it.
    pub(crate) async fn stop(self, place: &Place) -> Result<()> {
        let mut told = Ok(());
        for (index, Role { keeper, pools }) in self.roles.into_iter().enumerate() {
            for Rotating { pool, rotation, callers } in pools {
                callers.iter().for_each(JoinHandle::abort);
                for caller in callers {
                    let _ = caller.await;
                }
                let current = keeper.current().get().map(|issued| issued.generation());
                if current.is_ok_and(|current| pool.generations().into_iter().any(|of| of < current)) {
                    place.oracle.sometimes(Sometimes::StopDuringRotation);
                }
                pool.close();
                check(place, rotation.await.err(), "the rotation of a pool");
            }
            told = told.and(stop(place, Actor::Role(index), keeper).await);
        }
        told.and(stop(place, Actor::Login, self.token).await)
    }
}

async fn stop<S: Send + Sync + 'static>(place: &Place, actor: Actor, keeper: Keeper<S>) -> Result<()> {
    place.oracle.stops(actor);
    // On the host's own time, because a host that stands still cannot end anything.
    let begun = tokio::time::Instant::now();
    let told = keeper.shutdown().await;
    let took = begun.elapsed();
    if took > SHUTDOWN_BOUND {
        place.oracle.violated(Promise::StopsInTime, format_args!("a shut-down took {took:?}"));
    }
    if told.is_err() {
        place.oracle.sometimes(Sometimes::LeftBehind);
    }
    place.oracle.tell(format_args!("a keeper is shut down: {told:?}"));
    told
}

/// A task that panicked tells so.
pub(crate) fn check(place: &Place, error: Option<tokio::task::JoinError>, whose: &str) {
    if error.is_some_and(|error| error.is_panic()) {
        place.oracle.violated(Promise::NoPanic, format_args!("{whose} panicked"));
    }
}

/// Tells the events of a secret, in order.
async fn record(mut events: broadcast::Receiver<Event>, actor: Actor, oracle: Arc<Oracle>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                oracle.tell(format_args!("{actor}: {missed} events were missed"));
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let generation = event.generation;
        match &event.kind {
            EventKind::Issued { .. } => oracle.sometimes(Sometimes::Issued),
            EventKind::Renewed { truncated: true, .. } => oracle.sometimes(Sometimes::Truncated),
            EventKind::Renewed { .. } => oracle.sometimes(Sometimes::Renewed),
            EventKind::Adopted => oracle.count(|counts| counts.rotations += 1),
            EventKind::Retiring { remaining: 1.. } => oracle.sometimes(Sometimes::Retiring),
            EventKind::Retired { remaining: Some(1..) } => oracle.sometimes(Sometimes::RetiredInUse),
            EventKind::Revoked { alone: true } => oracle.sometimes(Sometimes::Revoked),
            EventKind::Revoked { alone: false } => oracle.sometimes(Sometimes::LeftToItsToken),
            EventKind::NotRotated { .. } => oracle.sometimes(Sometimes::NotRotated),
            EventKind::Rejected { .. } => oracle.sometimes(Sometimes::Rejected),
            EventKind::Terminated { .. } => oracle.sometimes(Sometimes::Terminated),
            EventKind::Degraded => oracle.sometimes(Sometimes::Degraded),
            EventKind::Recovered => oracle.sometimes(Sometimes::Recovered),
            EventKind::Failed { retry_in, .. } if *retry_in >= LONG => {
                oracle.sometimes(Sometimes::LongBackOff)
            }
            _ => {}
        }
        match event.kind {
            EventKind::Failed { error, retry_in } => {
                oracle.tell(format_args!("{actor} {generation}: {error}; again in {retry_in:?}"));
            }
            kind => oracle.tell(format_args!("{actor} {generation}: {kind:?}")),
        }
    }
}

/// A replacement for one rejection of many keeps a third of the TTL. If its lease cannot be renewed, then the server cannot be asked
/// meanwhile whether it lives.
fn longest_turn(plan: &Plan) -> Duration {
    let has_storms = plan.faults.iter().any(|fault| matches!(fault.what, plan::What::Rejections { .. }));
    Duration::from_secs(if has_storms { plan.settings.longest_life_s() / 3 } else { 0 })
}

/// The service, while it runs: a restart takes it out and puts another in.
pub(crate) type Running = Rc<RefCell<Option<Service>>>;

const LONG: Duration = Duration::from_secs(300);
/// The default bound, and the grace that a request in flight has.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(11);

/// The handles by which the oracle looks at the service.
impl Service {
    pub(crate) fn currents(&self) -> Vec<(usize, Current<Credentials>)> {
        self.roles.iter().enumerate().map(|(index, role)| (index, role.keeper.current())).collect()
    }
}
