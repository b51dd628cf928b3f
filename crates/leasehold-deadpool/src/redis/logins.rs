//! What redis asks for the credentials of a connection: once before its handshake, and then for as long as it is open.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{
    ErrorKind, RedisError, RedisResult,
    auth::{BasicAuth, StreamingCredentialsProvider},
};
use futures_util::{Stream, stream};
use leasehold_core::{
    Credentials, ExposeSecret, Issued,
    clock::Moment,
    in_place::{InForce, Tag},
};
use tokio::task;

/// Has every connection log in with what is in force, and again whenever that changes.
///
/// redis subscribes twice for each connection. The first stream lives until it has answered once, before the handshake;
/// the second is polled by a task of the connection's, which logs in with each answer before it asks for the next.
#[derive(Clone)]
pub(super) struct Logins(Arc<Shared>);

struct Shared {
    in_force: Arc<InForce>,
    longest_handshake: Duration,
    /// Connections that will log in again.
    following: AtomicUsize,
    handshakes: Mutex<Vec<Handshake>>,
}

/// Between its two streams a connection has none, and its credentials must not be revoked.
struct Handshake {
    issued: Arc<Issued<Credentials>>,
    task: Option<task::Id>,
    until: Moment,
}

impl Logins {
    pub(super) fn new(in_force: Arc<InForce>, longest_handshake: Duration) -> Self {
        let (following, handshakes) = (AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Shared { in_force, longest_handshake, following, handshakes }))
    }

    pub(super) fn in_force(&self) -> &Arc<InForce> {
        &self.0.in_force
    }

    /// How many connections log in again when the credentials change. One whose login failed never does any more.
    pub(super) fn following(&self) -> usize {
        self.0.following.load(Ordering::Acquire)
    }

    /// Whether a handshake with these credentials may be under way.
    pub(super) fn in_handshake(&self, issued: &Issued<Credentials>) -> bool {
        let generation = issued.generation();
        self.0.forget_what_took_too_long();
        self.0.handshakes().iter().any(|handshake| handshake.issued.generation() == generation)
    }

    /// Lets go of everything: the pool is closed.
    pub(super) fn close(&self) {
        self.0.in_force.close();
        let handshakes = std::mem::take(&mut *self.0.handshakes());
        drop(handshakes);
    }
}

impl StreamingCredentialsProvider for Logins {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        self.0.following.fetch_add(1, Ordering::AcqRel);
        let login = Login {
            shared: Arc::clone(&self.0),
            subscriber: task::try_id(),
            handshake: false,
            logged_in: None,
            answered: None,
        };
        Box::pin(stream::unfold(login, |mut login| async move {
            let answer = login.next().await;
            Some((answer, login))
        }))
    }
}

impl Shared {
    fn begin_handshake(&self, tag: &Tag, task: Option<task::Id>) {
        let until = self.in_force.clock().now() + self.longest_handshake;
        let issued = Arc::clone(tag.issued());
        self.forget_what_took_too_long();
        self.handshakes().push(Handshake { issued, task, until });
    }

    /// Ends a handshake of this task. The youngest, if it has several: that holds the older credentials for longer.
    fn end_handshake(&self, task: Option<task::Id>) {
        let mut handshakes = self.handshakes();
        let youngest = handshakes.iter().rposition(|handshake| handshake.task == task);
        let ended = youngest.map(|index| handshakes.remove(index));
        drop(handshakes);
        drop(ended);
    }

    /// A handshake that fails has no second stream that would say so.
    fn forget_what_took_too_long(&self) {
        let now = self.in_force.clock().now();
        let over: Vec<_> = self.handshakes().extract_if(.., |handshake| handshake.until <= now).collect();
        // Outside the lock: it may be the last of its credentials.
        drop(over);
    }

    fn handshakes(&self) -> MutexGuard<'_, Vec<Handshake>> {
        // Nothing that holds it can leave it half-written.
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's credentials.
struct Login {
    shared: Arc<Shared>,
    /// The task that opens the connection.
    subscriber: Option<task::Id>,
    /// Whether this is the first stream, which the subscriber polls itself.
    handshake: bool,
    /// What it is logged in with. It counts until the login with its successor is done.
    logged_in: Option<Tag>,
    /// What it was told to log in with.
    answered: Option<Tag>,
}

impl Login {
    async fn next(&mut self) -> RedisResult<BasicAuth> {
        if let Some(done) = self.answered.take() {
            self.logged_in = Some(done);
        }
        let in_force = Arc::clone(&self.shared.in_force);
        let issued = loop {
            match (in_force.get(), &self.logged_in) {
                (Ok(issued), Some(tag)) if issued.generation() == tag.generation() => {
                    in_force.succeeded(tag.generation()).await;
                }
                (Ok(issued), _) => break issued,
                (Err(error), None) => return Err(closed(&error)),
                // It is somebody's still, and holds its credentials until it is closed.
                (Err(_), Some(_)) => std::future::pending().await,
            }
        };
        let auth = BasicAuth::new(
            issued.secret().username().to_owned(),
            issued.secret().password().expose_secret().to_owned(),
        );
        self.answered = Some(in_force.tag(issued));
        if self.logged_in.is_none() {
            self.handshake = task::try_id() == self.subscriber;
            if !self.handshake {
                self.shared.end_handshake(self.subscriber);
            }
        }
        Ok(auth)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.shared.following.fetch_sub(1, Ordering::AcqRel);
        if let Some(tag) = self.answered.take_if(|_| self.handshake) {
            self.shared.begin_handshake(&tag, self.subscriber);
        }
    }
}

fn closed(error: &leasehold_core::Error) -> RedisError {
    RedisError::from((ErrorKind::Client, "no credentials", error.to_string()))
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { in_force, following, .. } = &*self.0;
        f.debug_struct("Logins")
            .field("in_force", in_force)
            .field("following", following)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use leasehold_core::{
        Generation, Grant, Lease,
        clock::{Clock, TestClock, sleep_until},
        publish::{self, Channel},
    };

    use super::*;

    type Answers = Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>>;

    struct Stage {
        clock: Arc<TestClock>,
        channel: Channel<Credentials>,
        logins: Logins,
    }

    impl Stage {
        fn set() -> Self {
            let clock = Arc::new(TestClock::new());
            let mut channel = publish::channel("database/creds/pipeline", clock.clone());
            publish(&mut channel, &clock, "first");
            let in_force = InForce::new(channel.current.get().unwrap(), clock.clone());
            Self { clock, channel, logins: Logins::new(in_force, LONGEST) }
        }

        fn switch_to(&mut self, user: &str) {
            publish(&mut self.channel, &self.clock, user);
            self.logins.in_force().switch(&self.channel.current.get().unwrap());
        }

        fn census(&self) -> Vec<(u64, usize)> {
            self.logins
                .in_force()
                .census()
                .iter()
                .map(|(generation, open)| (generation.number(), *open))
                .collect()
        }

        fn gone(&mut self) -> Option<Generation> {
            self.channel.farewells.try_recv().map(|record| record.generation())
        }

        /// A stream that somebody else polls than who subscribed, as that of an open connection is.
        async fn follow(&self) -> Answers {
            let logins = self.logins.clone();
            tokio::spawn(async move { logins.subscribe() }).await.unwrap()
        }
    }

    fn publish(channel: &mut Channel<Credentials>, clock: &TestClock, user: &str) {
        let lease = Lease::new("lease", Duration::from_secs(3600), true);
        channel
            .publisher
            .publish(Grant::new(Credentials::new(user, "hunter2".to_owned()), lease), clock.now());
    }

    fn answer(answers: &mut Answers) -> Option<String> {
        let answer = answers.next().now_or_never()??;
        Some(answer.unwrap().username().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_told_what_is_in_force_and_each_successor_once() {
        let mut stage = Stage::set();
        let mut answers = stage.follow().await;
        assert_eq!(answer(&mut answers).as_deref(), Some("first"));
        assert_eq!(answer(&mut answers), None, "it is logged in");
        stage.switch_to("second");
        assert_eq!(answer(&mut answers).as_deref(), Some("second"));
        assert_eq!(answer(&mut answers), None);
        stage.switch_to("third");
        stage.switch_to("fourth");
        assert_eq!(
            answer(&mut answers).as_deref(),
            Some("fourth"),
            "one that was skipped is not worth a login"
        );
        assert_eq!(answer(&mut answers), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_as_what_it_was_until_the_next_login_is_done() {
        let mut stage = Stage::set();
        let mut answers = stage.follow().await;
        answer(&mut answers);
        answer(&mut answers);
        stage.switch_to("second");
        assert_eq!(stage.census(), [(1, 1)]);
        answer(&mut answers);
        assert_eq!(stage.census(), [(1, 1), (2, 1)], "nobody knows yet who it is");
        assert_eq!(stage.gone(), None, "its user must not be dropped");
        answer(&mut answers);
        assert_eq!(stage.census(), [(2, 1)]);
        assert_eq!(stage.gone().map(Generation::number), Some(1));
        drop(answers);
        assert_eq!(stage.census(), []);
        assert_eq!(stage.logins.following(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_keeps_its_credentials_until_the_connection_follows() {
        let mut stage = Stage::set();
        let first = stage.channel.current.get().unwrap();
        let mut handshake = stage.logins.subscribe();
        assert_eq!(answer(&mut handshake).as_deref(), Some("first"));
        drop(handshake);
        stage.switch_to("second");
        assert_eq!((stage.logins.in_handshake(&first), stage.census()), (true, vec![]));
        let mut answers = stage.logins.subscribe();
        let mut answers = tokio::spawn(async move {
            assert_eq!(answer(&mut answers).as_deref(), Some("second"));
            answers
        })
        .await
        .unwrap();
        assert!(!stage.logins.in_handshake(&first));
        assert_eq!(answer(&mut answers), None);
        assert_eq!((stage.logins.following(), stage.census()), (1, vec![(2, 1)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_fails_is_over_after_a_while() {
        let mut stage = Stage::set();
        let first = stage.channel.current.get().unwrap();
        answer(&mut stage.logins.subscribe());
        stage.switch_to("second");
        assert!(stage.logins.in_handshake(&first));
        sleep_until(&*stage.clock, stage.clock.now() + LONGEST).await;
        assert!(!stage.logins.in_handshake(&first));
        drop(first);
        assert_eq!(stage.gone().map(Generation::number), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_pool_opens_none_and_lets_borrowed_ones_be() {
        let stage = Stage::set();
        let mut answers = stage.follow().await;
        answer(&mut answers);
        answer(&mut stage.logins.subscribe());
        stage.logins.close();
        assert_eq!(answer(&mut answers), None, "it stays who it is");
        assert_eq!(stage.census(), [(1, 1)]);
        let refused = stage.logins.subscribe().next().now_or_never().unwrap().unwrap();
        assert!(refused.is_err());
        let text = format!("{:?} {refused:?}", stage.logins);
        assert!(!text.contains("hunter2"), "{text}");
    }

    const LONGEST: Duration = Duration::from_secs(5);
}
