//! Properties over random worlds.

use std::time::Duration;

use leasehold_core::ErrorKind;
use proptest::{prelude::*, test_runner::Config};

use super::{
    super::{AskedFor, Command, Event, Machine, Moment, Phase, holding::Holding, reasons::Reason},
    checks,
    plan::{Hand, Happens, Reply, Setting, any_news, any_plan},
    world::{Step, World},
};

const MOST: usize = 60;

fn nothing(_: &Step<'_>) {}

pub(super) fn holding(world: &World) -> &Holding {
    match &world.machine.phase {
        Phase::Holding(holding) => holding,
        other => panic!("{other:?} holds nothing"),
    }
}

/// Runs a plan, and returns the world at its end.
fn run(setting: &Setting, plan: &[(Happens, f64)]) -> World {
    let mut world = World::new(setting, &mut nothing);
    for (what, draw) in plan {
        world.happens(what, *draw, &mut nothing);
    }
    world
}

/// The part of a machine that decides its next steps. The paces are left out: a rejection charges its pace only if nothing stronger holds, so
/// the first of two is charged. So are the ids, which count the requests. A weaker reason beside a stronger one
/// changes nothing until an issue succeeds.
fn what_follows(machine: &Machine) -> impl PartialEq + std::fmt::Debug + use<> {
    let held = match &machine.phase {
        Phase::Holding(held) => Some((
            (held.generation, held.terms, held.grant, held.renewal),
            (held.reasons.highest().filter(|reason| *reason > Reason::Rejected), held.reasons.cost_budget()),
            (held.doubt, held.trouble, held.same_again),
        )),
        Phase::Starting(_) | Phase::Ending(_) | Phase::Over => None,
    };
    let ending = match &machine.phase {
        Phase::Ending(ending) => Some(*ending),
        _ => None,
    };
    let about = |asked: AskedFor| (asked.sent, asked.generation);
    let hands = machine.hands;
    let hands = (hands.issuing.map(|asked| asked.sent), hands.renewing.map(about), hands.revoking.map(about));
    (held, ending, machine.old.clone(), machine.next_wake(), hands)
}

/// The requests about the current secret.
fn requests(world: &World, commands: &[Command]) -> Vec<String> {
    let of_current = |command: &&Command| match command {
        Command::Issue(_) => true,
        Command::Renew { generation, .. } => Some(*generation) == world.current(),
        _ => false,
    };
    let kind =
        |command: &Command| if matches!(command, Command::Issue(_)) { "issue" } else { "renew" }.to_owned();
    commands.iter().filter(of_current).map(kind).collect()
}

proptest! {
    #![proptest_config(Config { max_shrink_iters: 20_000, ..Config::default() })]

    /// PK1, PK2, PK4, PK6 to PK12, PK18, and the bound within which a step comes.
    #[test]
    fn whatever_happens_each_step_keeps_its_promises((setting, plan) in any_plan(MOST)) {
        let mut world = World::new(&setting, &mut checks::all);
        for (what, draw) in &plan {
            world.happens(what, *draw, &mut checks::all);
        }
    }

    /// PK3, while the secret is held: a request that is due leaves whether the wake comes in time or late. A wake that
    /// comes in pieces is a spurious one and one in time (PK2). At a start and at the end a late wake may find that the
    /// time for it is over.
    #[test]
    fn a_late_wake_asks_for_what_one_in_time_asks_for((setting, plan) in any_plan(MOST), late in 0..100_000_u64) {
        let world = run(&setting, &plan);
        let wake = world.machine.next_wake();
        if world.current().is_none() || wake == Moment::NEVER {
            return Ok(());
        }
        let asked = [0, late].map(|late| {
            let mut world = world.clone();
            world.now = wake + Duration::from_millis(late);
            let commands = world.machine.step(&world.look(0.5), Event::Wake);
            requests(&world, &commands)
        });
        let [in_time, late] = asked;
        if !in_time.is_empty() {
            prop_assert_eq!(in_time, late);
        }
    }

    /// PK5. Two users who let go in one moment are left out: their generations are revoked one after the other, in their order.
    /// So is news that sends a request off at once, because an older reason waited for no more: the other is heard beside it.
    #[test]
    fn two_pieces_of_news_of_one_moment_end_alike_in_either_order(
        (setting, plan) in any_plan(MOST), one in any_news(), other in any_news(), draw in 0.0..1.0,
    ) {
        if let (Happens::LetGo(_), Happens::LetGo(_)) = (&one, &other) {
            return Ok(());
        }
        let mut world = run(&setting, &plan);
        let events = [&one, &other].map(|what| world.event(what, draw, &mut nothing));
        let [Some(one), Some(other)] = events else { return Ok(()) };
        if world.machine.next_wake() <= world.now {
            // The first of them would take the step that is due.
            return Ok(());
        }
        let mut sent_at_once = false;
        let ends = [[one, other], [other, one]].map(|order| {
            let mut machine = world.machine.clone();
            for event in order {
                machine.step(&world.look(draw), event);
                sent_at_once |= event == order[0] && machine.pace.last_request != world.machine.pace.last_request;
            }
            what_follows(&machine)
        });
        if sent_at_once {
            return Ok(());
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }

    /// PK15, for a state that some plan leads to and in which nothing is in flight: what is in flight left because of the
    /// draw, and another draw would have planned something else.
    #[test]
    fn a_draw_only_makes_a_wake_earlier((setting, plan) in any_plan(MOST), draw in 0.0..1.0) {
        let world = run(&setting, &plan);
        // A look at the token is no attempt: it comes with the step if that comes in time, else sooner.
        let looks = matches!(world.machine.next_request(), Some((_, crate::machine::Step::Look)));
        if looks || world.machine.hands.issuing.is_some() || world.machine.hands.renewing.is_some() {
            return Ok(());
        }
        let wakes = [0.0, draw].map(|draw| {
            let mut machine = world.machine.clone();
            if let Phase::Holding(held) = &mut machine.phase {
                held.draw = draw;
            }
            machine.next_wake()
        });
        prop_assert!(wakes[1] <= wakes[0], "{wakes:?}");
    }

    /// PK16: a secret that is refused again and again, while the server says that it lives, is asked about once at first
    /// and then every 30 s at most; a report about an older one costs nothing.
    #[test]
    fn rejections_cost_little(gaps in prop::collection::vec(1..5000_u64, 1..100)) {
        let setting = rejected_world();
        let mut world = World::new(&setting, &mut checks::all);
        let done = |hand| Happens::Answer(hand, Reply::Done { same: false });
        world.happens(&done(Hand::Issue), 0.5, &mut checks::all);
        let (begun, mut questions, mut issues) = (world.now, 0_u32, 0_u32);
        for gap in gaps {
            let mut count = |step: &Step<'_>| {
                questions += u32::from(step.commands.iter().any(|command| matches!(command, Command::Renew { .. })));
                issues += u32::from(step.commands.iter().any(|command| matches!(command, Command::Issue(_))));
            };
            let until = world.now + Duration::from_millis(gap);
            while world.machine.next_wake() <= until {
                world.happens(&Happens::Wake { late: Duration::ZERO }, 0.5, &mut count);
                for hand in [Hand::Issue, Hand::Renewal] {
                    world.happens(&done(hand), 0.5, &mut count);
                }
            }
            world.now = until;
            let older = Happens::Reject { cause: ErrorKind::CredentialsRefused, older: true };
            let before = world.machine.clone();
            world.happens(&older, 0.5, &mut count);
            prop_assert_eq!(&before, &world.machine);
            let cause = ErrorKind::CredentialsRefused;
            world.happens(&Happens::Reject { cause, older: false }, 0.5, &mut count);
        }
        // Pauses double from half a second to 1,200 s, a third of the TTL, and ten issues may come in a row. Each
        // generation is asked about once, and again every 30 s while its replacement waits.
        let passed = u32::try_from(begun.until(world.now).as_secs()).unwrap_or(u32::MAX);
        prop_assert!(issues <= 11 + passed / 600, "{issues} issues in {passed} s");
        prop_assert!(questions <= issues + 2 + passed / 30, "{questions} questions in {passed} s");
    }
}

fn rejected_world() -> Setting {
    Setting::plain(3600)
}
