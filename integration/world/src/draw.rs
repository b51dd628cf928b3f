//! Draws a plan from a seed: the settings of a world, and a swarm of faults.
//!
//! A world has a random part of the kinds of faults: a fifth of the worlds have none, three tenths have one, and the others
//! have each kind with a half. An average of all kinds would never show some of them by themselves.

use fastrand::Rng;

use crate::{
    plan::{Fault, Login, Made, Plan, Pool, Role, Settings, TokenKind, VERSION, What},
    streams::Streams,
};

/// How long a world lasts, and how long its secrets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Hours, with lives from ten seconds.
    Hours,
    /// Weeks, with lives of minutes to days.
    Weeks,
    /// A year, with lives from an hour to 32 days.
    Year,
}

pub(crate) fn plan(seed: u64, span: Span) -> Plan {
    let streams = Streams::new(seed);
    let mut settings = settings(&mut streams.named("settings"), span);
    let faults = faults(streams, &settings);
    if !faults.is_empty() {
        // In an outage each attempt is a use, so a token of few uses keeps no promise there.
        settings.login.uses = None;
    }
    Plan { version: VERSION, seed, settings, faults, finding: None }
}

fn settings(draws: &mut Rng, span: Span) -> Settings {
    let (storm_s, lives) = match span {
        Span::Hours => (draws.u64(1..=12) * 3_600, (10, 1_800)),
        Span::Weeks => (draws.u64(3..=21) * DAY, (600, 2 * DAY)),
        Span::Year => (365 * DAY, (3_600, 32 * DAY)),
    };
    let roles = draws.usize(1..=3);
    let roles: Vec<_> = (0..roles).map(|_| role(draws, span, lives)).collect();
    // A token that lives for a shorter time than what is issued under it is worth a world too.
    let ttl_s = log_uniform(draws, lives.0 * 2, lives.1 * 2);
    let kind = pick(draws, &[TokenKind::Service, TokenKind::Service, TokenKind::Periodic, TokenKind::Batch]);
    let max_ttl_s = ttl_s * if kind == TokenKind::Batch { 1 } else { draws.u64(1..=20) };
    let jwt_s = (kind != TokenKind::Batch && draws.f64() < 0.3).then(|| ttl_s * draws.u64(1..=3));
    let drain_s = pick(draws, &[1, 5, 60]);
    // Enough for what is asked with a token in a sixth of its life, which is as often as a token is replaced for want of uses.
    let shortest = roles.iter().map(|role| role.made.life_s()).min().unwrap_or(60);
    let enough = 20.max(ttl_s / shortest * roles.len() as u64 * 4);
    let uses = (kind != TokenKind::Batch && draws.bool()).then(|| log_uniform(draws, enough, enough * 20));
    let login = Login { ttl_s, max_ttl_s, kind, jwt_s, uses };
    Settings { storm_s, login, roles, drain_s }
}

fn role(draws: &mut Rng, span: Span, lives: (u64, u64)) -> Role {
    let ttl_s = log_uniform(draws, lives.0, lives.1);
    let made = if draws.f64() < 0.2 {
        Made::Static { period_s: ttl_s.max(30) }
    } else {
        let first_ttl_s = (ttl_s >= 60 && draws.f64() < 0.2).then_some(ttl_s / 6);
        Made::Dynamic {
            ttl_s,
            max_ttl_s: ttl_s * draws.u64(1..=10),
            renewable: draws.f64() < 0.8,
            first_ttl_s,
        }
    };
    let pools = (0..draws.usize(0..=2)).map(|_| pool(draws, span, ttl_s)).collect();
    Role { made, pools }
}

fn pool(draws: &mut Rng, span: Span, ttl_s: u64) -> Pool {
    let size = draws.usize(1..=5);
    let (think_ms, ask_every_ms) = match span {
        // A question every two seconds is for worlds of hours: a century of them would be all that happens.
        Span::Hours => (draws.u64(100..=2_000), pick(draws, &[None, Some(2_000)])),
        Span::Weeks => (draws.u64(30_000..=120_000), pick(draws, &[None, Some(ttl_s * 100)])),
        Span::Year => (draws.u64(300_000..=900_000), pick(draws, &[None, Some(ttl_s * 100)])),
    };
    Pool {
        size,
        callers: draws.usize(1..=size + 1),
        think_ms,
        hold_ms: pick(draws, &[5, 50, 800]),
        ask_every_ms,
        terminate: draws.bool(),
        saturable: draws.bool(),
    }
}

fn faults(streams: Streams, settings: &Settings) -> Vec<Fault> {
    let mut draws = streams.named("swarm");
    let kinds = kinds();
    let swarm = draws.f64();
    let chosen: Vec<_> = if swarm < 0.2 {
        Vec::new()
    } else if swarm < 0.5 {
        vec![draws.usize(0..kinds.len())]
    } else {
        (0..kinds.len()).filter(|_| draws.bool()).collect()
    };
    let storm_ms = settings.storm_s * 1_000;
    let mut faults = Vec::new();
    for kind in chosen {
        let mut draws = streams.named(&format!("fault {kind}"));
        let rate = log_uniform(&mut draws, 1, if settings.storm_s < 100 * DAY { 30 } else { 400 });
        for _ in 0..rate {
            let at_ms = draws.u64(storm_ms / 20..=storm_ms);
            // Many are short and few are as long as a life or a week, because both sides of each bound are of interest.
            let longest =
                settings.shortest_life_s().saturating_mul(2_000).min(storm_ms / 4).min(7 * DAY * 1_000);
            let for_ms = log_uniform(&mut draws, 100, longest.max(2_000));
            faults.push(Fault { at_ms, for_ms, what: kinds[kind](&mut draws, settings) });
        }
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

type Draw = fn(&mut Rng, &Settings) -> What;

/// Every kind of fault that the hundred years have. Two are not among them. `What::Cache`: a cache that keeps a lease in force
/// to its end leaves no way to a successor. `What::ReplicaLags`: a refused adoption makes the keeper issue another user before
/// the first had time to arrive.
fn kinds() -> Vec<Draw> {
    fn any_role(draws: &mut Rng, settings: &Settings) -> usize {
        draws.usize(0..settings.roles.len())
    }
    vec![
        |_, _| What::Refused,
        |draws, _| What::RequestsLost { share: share(draws) },
        |draws, _| What::AnswersLost { share: share(draws) },
        |draws, _| What::AnswersCut { share: share(draws) },
        |_, _| What::Hangs,
        |draws, _| What::Slow { millis: draws.u64(100..=12_000) },
        |draws, _| What::Fails {
            status: pick(draws, &[500, 502, 503, 504]),
            retry_after_s: pick(draws, &[None, Some(0), Some(1), Some(315_360_000)]),
        },
        |draws, _| What::Limited { retry_after_s: pick(draws, &[None, Some(0), Some(1), Some(5)]) },
        |_, _| What::Mesh,
        |_, _| What::RenewalsDenied,
        |_, _| What::RevocationsDenied,
        |_, _| What::LoginsDoubtful,
        |draws, settings| What::LeaseRevoked { role: any_role(draws, settings) },
        |_, _| What::TokenRevoked,
        |draws, settings| {
            let role = any_role(draws, settings);
            let ttl_s = (settings.shortest_life_s().max(10) as f64 * (0.5 + draws.f64() * 2.0)) as u64;
            What::RoleEdited { role, ttl_s, renewable: draws.f64() < 0.8 }
        },
        |draws, _| What::Suspended { noticed: draws.bool() },
        |_, _| What::WallClockSteps,
        |_, _| What::DatabaseDown,
        |_, _| What::DatabaseFull,
        |draws, settings| What::UserDropped { role: any_role(draws, settings) },
        |_, _| What::SessionsCut,
        |draws, _| What::HandshakesSlow { millis: draws.u64(10..=7_000) },
        |_, _| What::SourceFlaps,
        |draws, settings| What::Rejections { role: any_role(draws, settings) },
        |draws, settings| What::RotationStops { role: any_role(draws, settings) },
        |draws, settings| What::RotatedByHand { role: any_role(draws, settings) },
        |draws, _| What::StandbyLags { millis: draws.u64(50..=5_000) },
        |draws, settings| What::Restored { age_s: draws.u64(1..=settings.longest_life_s().max(2)) },
        |_, _| What::CallersHold,
        |_, _| What::Restart,
    ]
}

/// The names of all kinds.
pub(crate) fn names() -> Vec<&'static str> {
    let settings = settings(&mut Rng::with_seed(0), Span::Hours);
    let mut draws = Rng::with_seed(0);
    kinds().into_iter().map(|draw| draw(&mut draws, &settings).name()).collect()
}

/// In thousandths, so that it is the same after it was written and read.
fn share(draws: &mut Rng) -> f64 {
    f64::from(draws.u32(0..=1_000)) / 1_000.0
}

fn pick<T: Copy>(draws: &mut Rng, from: &[T]) -> T {
    from[draws.usize(0..from.len())]
}

fn log_uniform(draws: &mut Rng, least: u64, most: u64) -> u64 {
    let (least, most) = (least.max(1) as f64, most.max(least).max(1) as f64);
    (least * (most / least).powf(draws.f64())) as u64
}

const DAY: u64 = 86_400;
