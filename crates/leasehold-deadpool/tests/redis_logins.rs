//! What a real Redis and the real redis crate do with connections that log in again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use deadpool_redis::{
    Connection, Pool,
    redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, aio::MultiplexedConnection, cmd},
};
use leasehold_core::{
    Credentials, ErrorKind, Event, EventKind, Generation, Grant, Lease,
    clock::{Clock, SystemClock, sleep_until},
    publish::{self, Channel},
};
use leasehold_deadpool::{Settings, redis::Redis};
use leasehold_testbed::{Config, Redis as Server, Testbed};
use tokio::{sync::broadcast, time::timeout};

struct Stage {
    testbed: Testbed,
    channel: Channel<Credentials>,
    events: broadcast::Receiver<Event>,
}

impl Stage {
    async fn set() -> Self {
        let testbed = Testbed::start(Config { redis: true, ..Config::default() }).await.unwrap();
        let channel = publish::channel("database/creds/redis", Arc::new(SystemClock));
        let events = channel.current.events();
        let stage = Self { testbed, channel, events };
        for user in ["v-old", "v-new", "v-third"] {
            stage
                .user(user, &["+@read", "+@connection", "+unwatch", "+acl|whoami", "+@blocking", "+blpop"])
                .await;
        }
        stage
    }

    fn server(&self) -> &Server {
        self.testbed.redis().unwrap()
    }

    async fn user(&self, name: &str, rights: &[&str]) {
        let words = [&["ACL", "SETUSER", name, "reset", "on", ">hunter2", "~*"], rights].concat();
        self.server().command(&words).await.unwrap();
    }

    fn publish(&mut self, user: &str) -> Generation {
        let lease = Lease::new("lease", HOUR, true);
        let grant = Grant::new(Credentials::new(user, "hunter2".to_owned()), lease);
        self.channel.publisher.publish(grant, SystemClock.now());
        self.channel.current.get().unwrap().generation()
    }

    fn redis(&self) -> Redis {
        Redis::new(self.server().url()).unwrap()
    }

    async fn pool(&self, redis: Redis, size: usize) -> leasehold_core::Result<Pool> {
        redis.pool(move |pool| pool.max_size(size)).connect(self.channel.current.clone()).await
    }

    async fn retired(&mut self, generation: Generation) {
        let retired = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if event.generation == generation && matches!(event.kind, EventKind::Retired { .. }) {
                    return;
                }
            }
        };
        timeout(PATIENCE, retired).await.unwrap();
    }

    fn is_let_go(&mut self) -> bool {
        self.channel.farewells.try_recv().is_some()
    }
}

async fn who(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    cmd("ACL").arg("WHOAMI").query_async(connection).await
}

async fn wait_for_nothing(connection: &mut Connection, secs: u32) -> RedisResult<Option<(String, String)>> {
    cmd("BLPOP").arg("nothing").arg(secs).query_async(&mut **connection).await
}

async fn nap(millis: u64) {
    sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(millis)).await;
}

#[tokio::test]
async fn a_refused_login_leaves_the_one_before_as_it_was() {
    let mut stage = Stage::set().await;
    stage.publish("v-old");
    let pool = stage.pool(stage.redis(), 1).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let refused = cmd("AUTH").arg("v-new").arg("wrong").query_async::<()>(&mut *connection).await;
    assert_eq!(refused.as_ref().err().and_then(RedisError::code), Some("WRONGPASS"), "{refused:?}");
    assert_eq!(who(&mut connection).await.unwrap(), "v-old");
}

#[tokio::test]
async fn a_connection_is_counted_while_it_is_open_wherever_it_is() {
    let mut stage = Stage::set().await;
    let (first, current) = (stage.publish("v-old"), stage.channel.current.clone());
    let pool = stage.pool(stage.redis(), 2).await.unwrap();
    let taken = Connection::take(pool.get().await.unwrap());
    let kept = pool.get().await.unwrap();
    nap(200).await;
    assert_eq!(current.health().connections, [(first, 2)]);
    drop(taken);
    nap(200).await;
    assert_eq!(current.health().connections, [(first, 1)]);
    let second = stage.publish("v-new");
    stage.retired(first).await;
    assert_eq!(current.health().connections, [(second, 1)]);
    drop(kept);
    pool.close();
    nap(200).await;
    assert_eq!(current.health().connections, []);
    assert_eq!(stage.server().sessions_of("v-new").await.unwrap(), 0);
}

/// Its login waits behind a command that blocks, and its user lives for as long.
#[tokio::test]
async fn one_that_waits_for_an_answer_keeps_its_credentials_until_it_has_logged_in() {
    let mut stage = Stage::set().await;
    let first = stage.publish("v-old");
    let patient = stage.redis().connection(AsyncConnectionConfig::new().set_response_timeout(None));
    let pool = stage.pool(patient, 2).await.unwrap();
    let mut waiting = pool.get().await.unwrap();
    let waits = tokio::spawn(async move {
        let answer = wait_for_nothing(&mut waiting, 2).await;
        (answer, who(&mut waiting).await)
    });
    nap(300).await;
    stage.publish("v-new");
    nap(1000).await;
    assert_eq!(stage.channel.current.health().connections.first(), Some(&(first, 1)));
    assert!(!stage.is_let_go(), "its user would be deleted under it");
    let (answer, who) = waits.await.unwrap();
    assert_eq!((answer.unwrap(), who.unwrap().as_str()), (None, "v-new"));
    stage.retired(first).await;
    nap(100).await;
    assert!(stage.is_let_go());
}

/// redis tries a login once: a connection that had no answer in time never follows any more.
#[tokio::test]
async fn one_whose_login_failed_is_replaced_when_it_is_idle() {
    let mut stage = Stage::set().await;
    let first = stage.publish("v-old");
    let hasty = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_millis(300)));
    let pool = stage.pool(stage.redis().connection(hasty), 2).await.unwrap();
    let mut borrowed = pool.get().await.unwrap();
    assert!(wait_for_nothing(&mut borrowed, 2).await.unwrap_err().is_timeout());
    stage.publish("v-new");
    nap(1000).await;
    assert!(!stage.is_let_go(), "it is v-old's still");
    nap(1000).await;
    assert_eq!(who(&mut borrowed).await.unwrap(), "v-old");
    assert!(!stage.is_let_go());
    drop(borrowed);
    stage.retired(first).await;
    nap(100).await;
    assert!(stage.is_let_go());
    assert_eq!(stage.server().sessions_of("v-old").await.unwrap(), 0);
    assert_eq!(who(&mut pool.get().await.unwrap()).await.unwrap(), "v-new");
}

#[tokio::test]
async fn a_disabled_user_is_noticed_although_its_connections_work() {
    let mut stage = Stage::set().await;
    let generation = stage.publish("v-old");
    let pool = stage.pool(stage.redis(), 1).await.unwrap();
    drop(pool.get().await.unwrap());
    // It has logged in for the second time.
    nap(300).await;
    stage.server().command(&["ACL", "SETUSER", "v-old", "off"]).await.unwrap();
    let rejection = timeout(PATIENCE, stage.channel.rejections.recv()).await.unwrap();
    assert_eq!((rejection.generation, rejection.cause), (generation, ErrorKind::CredentialsRefused));
    assert_eq!(who(&mut pool.get().await.unwrap()).await.unwrap(), "v-old", "nothing was taken from it");
}

#[tokio::test]
async fn a_connection_without_a_pool_follows_as_well() {
    let mut stage = Stage::set().await;
    let (first, current) = (stage.publish("v-old"), stage.channel.current.clone());
    let provider = stage.redis().provide(current.clone()).await.unwrap();
    assert!(!format!("{provider:?}").contains("hunter2"), "{provider:?}");
    let config = AsyncConnectionConfig::new().set_credentials_provider(provider);
    let client = Client::open(stage.server().url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    drop(config);
    assert_eq!(who(&mut connection).await.unwrap(), "v-old");
    nap(1500).await;
    let second = stage.publish("v-new");
    stage.retired(first).await;
    assert_eq!(who(&mut connection).await.unwrap(), "v-new");
    assert_eq!(current.health().connections, [(second, 1)]);
    drop((connection, current));
    nap(1500).await;
    stage.publish("v-third");
    assert_eq!(stage.channel.farewells.recv().await.generation(), first);
    let gone = timeout(PATIENCE, stage.channel.farewells.recv()).await.unwrap();
    assert_eq!(gone.generation(), second, "the rotation has ended, and let go");
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once_and_no_secret_with_it() {
    let mut stage = Stage::set().await;
    for address in ["redis://name:hunter2@cache.example", "redis://:hunter2@cache.example", "hunter2://"] {
        let error = Redis::new(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let redis = stage.redis();
    assert!(!format!("{redis:?}").contains("hunter2"), "{redis:?}");

    stage.user("v-poor", &["+@read", "+@connection"]).await;
    stage.publish("v-poor");
    let error = stage.pool(stage.redis(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("unwatch"), "{error}");
    assert!(stage.channel.rejections.try_recv().is_none(), "another user could do no more");

    stage.publish("v-nobody");
    let error = stage.pool(stage.redis(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert!(stage.channel.rejections.try_recv().is_some());

    stage.testbed.redis().unwrap().stop().await.unwrap();
    let hasty = Settings { handshake: Duration::from_secs(1), ..Settings::default() };
    let error = stage.pool(stage.redis().settings(hasty), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable, "{error}");
}

/// What does not log in again cannot be told from what does; but the search for it ends, and costs nothing healthy twice.
#[tokio::test]
async fn one_that_stays_borrowed_and_does_not_follow_costs_no_more_than_a_pool_of_connections() {
    let mut stage = Stage::set().await;
    stage.publish("v-old");
    let pool = stage.pool(stage.redis(), 8).await.unwrap();
    let mut borrowed = pool.get().await.unwrap();
    let held: Vec<_> = futures_util::future::join_all((0..7).map(|_| pool.get())).await;
    drop(held);
    nap(300).await;
    assert!(wait_for_nothing(&mut borrowed, 2).await.unwrap_err().is_timeout());
    let received = async |stage: &Stage| -> u64 {
        let text = stage.server().command(&["INFO", "stats"]).await.unwrap().to_string();
        let rest = text.split_once("total_connections_received:").unwrap().1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let before = received(&stage).await;
    stage.publish("v-new");
    let end = SystemClock.now() + Duration::from_secs(6);
    while SystemClock.now() < end {
        let four = futures_util::future::join_all((0..4).map(|_| pool.get())).await;
        assert!(four.iter().all(Result::is_ok));
        drop(four);
        nap(20).await;
    }
    // The proof, the seven, and a question now and then.
    let opened = received(&stage).await - before;
    assert!(opened <= 1 + 7 + 6, "{opened} connections were opened");
    drop(borrowed);
}

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(15);
