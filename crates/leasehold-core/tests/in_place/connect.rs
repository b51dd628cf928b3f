//! A handshake whose credentials are refused, in the hands of a caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leasehold_core::{
    Credentials, Error, ErrorKind, ExposeSecret, Grant, Lease, Party, Result,
    clock::Clock,
    in_place::{Connect, Tagged},
};

use crate::stage::Stage;

/// A server that takes one password.
struct Server {
    takes: &'static str,
    asked: AtomicU32,
}

impl Connect for Server {
    type Connection = ();

    async fn connect(&self, credentials: &Credentials) -> Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match credentials.password().expose_secret() == self.takes {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::CredentialsRefused, Party::Database, "scripted")),
        }
    }

    async fn check(&self, (): &mut ()) -> Result<()> {
        Ok(())
    }
}

fn server(takes: &'static str) -> Arc<Server> {
    Arc::new(Server { takes, asked: AtomicU32::new(0) })
}

/// Opens a connection while `meanwhile` happens. Returns what came of it and how long that took.
async fn open(
    stage: &mut Stage,
    server: &Arc<Server>,
    meanwhile: impl AsyncFnOnce(&mut Stage),
) -> (Result<Tagged<()>>, Duration) {
    let (in_force, current) = (Arc::clone(&stage.in_force), stage.channel.current.clone());
    let (clock, server) = (Arc::clone(&stage.clock), Arc::clone(server));
    let began = clock.now();
    let opening = tokio::spawn(async move {
        let opened = in_force.open(&*server, &current, Duration::from_secs(1)).await;
        (opened, began.until(clock.now()))
    });
    meanwhile(stage).await;
    opening.await.unwrap()
}

fn publish(stage: &mut Stage, password: &str) {
    let credentials = Credentials::new("first", password.to_owned());
    stage.channel.publisher.publish(
        Grant::new(credentials, Lease::new("", Duration::from_secs(3600), false)),
        stage.clock.now(),
    );
    let next = stage.channel.current.get().unwrap();
    stage.in_force.switch(&next);
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_gets_what_is_adopted_even_if_that_is_refused_once_more() {
    let mut stage = Stage::of(0);
    let server = server("third");
    let (opened, took) = open(&mut stage, &server, async |stage: &mut Stage| {
        stage.pass(Duration::from_millis(700)).await;
        publish(stage, "second");
        stage.pass(Duration::from_millis(700)).await;
        publish(stage, "third");
    })
    .await;
    assert_eq!(opened.unwrap().tag().generation().number(), 3);
    assert_eq!(took, Duration::from_millis(1400));
    let told: Vec<_> = stage.rejections().into_iter().map(|(generation, _)| generation).collect();
    assert_eq!(told, [1, 1, 2], "each refusal is told, and none that was not");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_nothing_succeeds_are_tried_a_few_times_for_five_seconds() {
    let mut stage = Stage::of(0);
    let server = server("another");
    let (opened, took) = open(&mut stage, &server, async |_: &mut Stage| ()).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::CredentialsRefused);
    assert_eq!(took, Duration::from_secs(5));
    assert_eq!(server.asked.load(Ordering::Relaxed), 5);
    assert_eq!(stage.rejections().len(), 5);
}
