//! What someone watching sees.

use std::{fmt::Write as _, io::IsTerminal as _, time::Duration};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use leasehold_core::{Credentials, Current, Event, EventKind, Status, Token};
use leasehold_testbed::load::Load;
use tokio::time::Instant;

use super::outcome::Outcome;
use crate::output;

/// On a terminal a status line that is updated in place, in colour, with the events above it; plain lines elsewhere;
/// nothing with `--json`.
pub(crate) struct View {
    form: Form,
    started: Instant,
}

enum Form {
    Terminal(ProgressBar),
    Plain,
    Silent,
}

impl View {
    pub(crate) fn new(silent: bool) -> Self {
        let form = if silent {
            Form::Silent
        } else if std::io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            bar.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            Form::Terminal(bar)
        } else {
            Form::Plain
        };
        Self { form, started: Instant::now() }
    }

    /// An event, as it comes.
    pub(crate) fn event(&self, of: &str, event: &Event) {
        let (style, what) = describe(&event.kind);
        self.line(style, &format!("{of:<11} generation {}  {what}", event.generation));
    }

    /// A remark of the demo itself.
    pub(crate) fn note(&self, text: &str) {
        self.line(Style::new().bold(), text);
    }

    /// The state, once a second.
    pub(crate) fn state(&self, load: &Load, token: &Current<Token>, login: &Current<Credentials>) {
        if matches!(self.form, Form::Silent) {
            return;
        }
        let (glance, of_token, of_login) = (load.glance(), token.health(), login.health());
        let username =
            login.get().map_or_else(|_| "-".to_owned(), |login| login.secret().username().to_owned());
        let mut connections = String::new();
        for (generation, open) in &of_login.connections {
            let comma = if connections.is_empty() { "" } else { "," };
            let _ = write!(connections, "{comma} {open} of generation {generation}");
        }
        let number = |generation: Option<leasehold_core::Generation>| {
            generation.map_or(0, |generation| generation.number())
        };
        let alarming = glance.failed > 0 && self.colour();
        let red = if alarming { AnsiColor::Red.on_default().bold() } else { Style::new() };
        let lines = [
            format!(
                "credentials generation {} {username}, {} left",
                number(of_login.generation),
                left(of_login.usable_for)
            ),
            format!("token generation {}, {} left", number(of_token.generation), left(of_token.usable_for)),
            format!("connections:{connections}"),
            format!(
                "queries {} ok, {red}{} failed{red:#}, p50 {:.1} ms, p99 {:.1} ms",
                glance.queries - glance.failed,
                glance.failed,
                millis(glance.p50),
                millis(glance.p99)
            ),
        ];
        let trouble = [&of_login.status, &of_token.status].into_iter().find_map(|status| match status {
            Status::Degraded { since, error } => {
                Some(format!("degraded for {:.0} s: {error}", since.as_secs_f64()))
            }
            _ => None,
        });
        let failure = glance.failures.last().map(|failure| format!("one failure: {failure}"));
        let seconds = self.started.elapsed().as_secs_f64();
        match &self.form {
            Form::Terminal(bar) => {
                let mut text = format!("{seconds:6.1} s  {}", lines.join("\n          "));
                for more in trouble.into_iter().chain(failure) {
                    let _ = write!(text, "\n          {more}");
                }
                bar.set_message(text);
            }
            Form::Plain => {
                let more: Vec<_> = trouble.into_iter().chain(failure).collect();
                let text = lines.iter().chain(&more).map(String::as_str).collect::<Vec<_>>().join("; ");
                output::line(&format!("{seconds:6.1} s  {text}"));
            }
            Form::Silent => {}
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn finish(&self) {
        if let Form::Terminal(bar) = &self.form {
            bar.finish_and_clear();
        }
    }

    /// Colour is for a terminal whose owner has not asked for none (`NO_COLOR`).
    fn colour(&self) -> bool {
        matches!(self.form, Form::Terminal(_)) && AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
    }

    fn line(&self, style: Style, text: &str) {
        let style = if self.colour() { style } else { Style::new() };
        let seconds = self.started.elapsed().as_secs_f64();
        match &self.form {
            Form::Terminal(bar) => bar.println(format!("{seconds:6.1} s  {style}{text}{style:#}")),
            Form::Plain => output::line(&format!("{seconds:6.1} s  {text}")),
            Form::Silent => {}
        }
    }
}

/// The end of the demo, in words.
pub(crate) fn summary(outcome: &Outcome, verdict: &[String]) {
    let early = if outcome.stopped_early { ", stopped early" } else { "" };
    output::line("");
    output::line(&format!(
        "{} queries in {:.0} s{early}, {} failed",
        outcome.queries, outcome.seconds, outcome.failed
    ));
    output::line(&format!(
        "{} rotations, {} generations of the token",
        outcome.rotations, outcome.token_generations
    ));
    output::line(&format!(
        "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        micros(outcome.p50_us),
        micros(outcome.p99_us),
        micros(outcome.p999_us),
        micros(outcome.max_us)
    ));
    if let (Some(leases), Some(tokens), Some(users)) =
        (outcome.leases_left, outcome.tokens_left, outcome.users_left)
    {
        output::line(&format!("left behind: {leases} leases, {tokens} tokens, {users} database users"));
    }
    let plain = AutoStream::choice(&std::io::stdout()) == ColorChoice::Never;
    let (colour, word, why) = match verdict {
        [] => (AnsiColor::Green, "passed", String::new()),
        wrong => (AnsiColor::Red, "failed", format!(": {}", wrong.join("; "))),
    };
    let style = if plain { Style::new() } else { colour.on_default().bold() };
    output::line(&format!("{style}{word}{style:#}{why}"));
}

fn describe(kind: &EventKind) -> (Style, String) {
    let (green, cyan, yellow, red) = (AnsiColor::Green, AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Red);
    let (colour, text) = match kind {
        EventKind::Issued { usable_for } => (green, format!("issued, usable for {}", left(*usable_for))),
        EventKind::Renewed { ttl, truncated: false } => (cyan, format!("renewed for {}", left(Some(*ttl)))),
        EventKind::Renewed { ttl, truncated: true } => {
            (cyan, format!("renewed for {} only: max TTL is near", left(Some(*ttl))))
        }
        EventKind::Superseded => (green, "replaced: it has a successor".to_owned()),
        EventKind::Adopted => (green, "adopted by the pool".to_owned()),
        EventKind::Retiring { remaining } => (cyan, format!("retiring, {remaining} connections left")),
        EventKind::Retired { remaining: Some(0) } => (green, "retired: no connection left".to_owned()),
        EventKind::Retired { remaining } => (yellow, format!("retired with {remaining:?} connections left")),
        EventKind::Revoked { alone: true } => (green, "revoked".to_owned()),
        EventKind::Revoked { alone: false } => (yellow, "goes with its token".to_owned()),
        EventKind::Rejected { cause } => (red, format!("rejected: {cause}")),
        EventKind::Failed { error, retry_in } => {
            (red, format!("failed: {error}; next attempt in {}", left(Some(*retry_in))))
        }
        EventKind::Recovered => (green, "requests succeed again".to_owned()),
        EventKind::Degraded => (red, "degraded: requests begin to fail".to_owned()),
        EventKind::Terminated { connections } => {
            (red, format!("{connections} borrowed connections terminated"))
        }
        other => (yellow, format!("{other:?}")),
    };
    (colour.on_default(), text)
}

fn left(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "no end".to_owned(), |duration| format!("{:.1} s", duration.as_secs_f64()))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn micros(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
