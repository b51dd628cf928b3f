//! Latency over time, drawn as SVG by hand: what is needed of a plotting library is a few lines.

use std::{fmt::Write as _, time::Duration};

use super::{
    Measured, Options, Pass, Round,
    pass::{moments, starts},
};
use crate::median::median;

/// Draws a panel for each adapter, one below the other.
pub(super) fn draw(measured: &[Measured], options: &Options) -> String {
    let length = options.length();
    let height = TOP + measured.len() as f64 * PANEL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Slowest query of each 100 ms while credentials rotate every 5 s</title>\n\
         {STYLE}\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n"
    );
    let caption = format!(
        "Slowest query of each 100 ms, median of {} rounds; {} queries/s, {} connections",
        options.rounds, options.rate, options.connections
    );
    text(&mut svg, LEFT, 22.0, "start", &caption);
    legend(&mut svg);
    for (index, adapter) in measured.iter().enumerate() {
        panel(&mut svg, TOP + index as f64 * PANEL, adapter, length);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    let mut x = LEFT;
    for Line { class, label, .. } in LINES {
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x:.1} 40h24\"/>");
        text(svg, x + 30.0, 44.0, "start", label);
        x += 60.0 + 6.6 * label.len() as f64;
    }
    let _ = writeln!(svg, "<path class=\"mark\" d=\"M{x:.1} 32v16\"/>");
    text(svg, x + 8.0, 44.0, "start", "new credentials");
}

fn panel(svg: &mut String, top: f64, adapter: &Measured, length: Duration) {
    let lines = LINES.map(|line| (line.class, medians(&adapter.rounds.iter().map(line.of))));
    let scale = Scale::of(lines.iter().flat_map(|(_, points)| points.iter().flatten().copied()));
    let (height, across) = (PANEL - BELOW, WIDTH - LEFT - RIGHT);
    let x = |at: Duration| LEFT + across * at.as_secs_f64() / length.as_secs_f64();
    let y = |seconds: f64| top + height * (1.0 - scale.share(seconds));

    text(svg, LEFT, top - 8.0, "start", adapter.adapter);
    for decade in scale.decades() {
        let (y, label) = (y(decade), shown(decade));
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>", WIDTH - RIGHT);
        text(svg, LEFT - 8.0, y + 4.0, "end", &label);
    }
    for second in (0..=length.as_secs()).step_by(TICK) {
        let at = Duration::from_secs(second);
        text(svg, x(at), top + height + 16.0, "middle", &format!("{second} s"));
    }
    for moment in moments(length) {
        let x = x(moment);
        let _ = writeln!(svg, "<path class=\"rotation mark\" d=\"M{x:.1} {top:.1}v{height:.1}\"/>");
    }
    for (class, points) in lines {
        let _ = write!(svg, "<path class=\"{class}\" d=\"");
        let mut pen = "M";
        for (start, point) in starts(length).zip(points) {
            // A bucket without a query is a gap.
            let Some(point) = point else {
                pen = "M";
                continue;
            };
            let _ = write!(svg, "{pen}{:.1} {:.1}", x(start), y(point));
            pen = "L";
        }
        svg.push_str("\"/>\n");
    }
}

/// One of the three, in the order in which they are drawn: ours is never covered.
struct Line {
    class: &'static str,
    label: &'static str,
    of: fn(&Round) -> &Pass,
}

const LINES: [Line; 3] = [
    Line { class: "close", label: "closed at check-out", of: |round| &round.close_at_check_out },
    Line { class: "plain", label: "no rotation", of: |round| &round.plain },
    Line { class: "ours", label: "Leasehold", of: |round| &round.leasehold },
];

/// Bucket by bucket, in seconds. What one round had of the machine's own hiccups is not in it.
fn medians<'a>(passes: &(impl Iterator<Item = &'a Pass> + Clone)) -> Vec<Option<f64>> {
    let buckets = passes.clone().map(|pass| pass.slowest.len()).max().unwrap_or_default();
    let of = |bucket: usize| {
        let seen = passes.clone().filter_map(|pass| *pass.slowest.get(bucket)?);
        let median = median(seen.map(|slowest| slowest.as_secs_f64()));
        median.is_finite().then_some(median)
    };
    (0..buckets).map(of).collect()
}

/// Whole decades of time, from bottom to top.
#[derive(Debug, PartialEq)]
struct Scale {
    bottom: i32,
    top: i32,
}

impl Scale {
    fn of(seconds: impl Iterator<Item = f64>) -> Self {
        let logs: Vec<f64> = seconds.map(|seconds| seconds.max(1e-6).log10()).collect();
        let bottom = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if bottom > top {
            return Self { bottom: -3, top: -2 };
        }
        let bottom = bottom.floor() as i32;
        Self { bottom, top: (top.ceil() as i32).max(bottom + 1) }
    }

    /// How far up: 0 at the bottom, 1 at the top.
    fn share(&self, seconds: f64) -> f64 {
        let share = (seconds.max(1e-6).log10() - f64::from(self.bottom)) / f64::from(self.top - self.bottom);
        share.clamp(0.0, 1.0)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.bottom..=self.top).map(|power| 10_f64.powi(power))
    }
}

fn shown(seconds: f64) -> String {
    let micros = (seconds * 1e6).round();
    match micros {
        ..1e3 => format!("{micros} µs"),
        ..1e6 => format!("{} ms", micros / 1e3),
        _ => format!("{} s", micros / 1e6),
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}

/// It brings its own paper: a viewer's theme need not be the page's.
const STYLE: &str = "<style>\n\
    .paper { fill: #ffffff } text { fill: #1f2328 } path { fill: none; stroke-width: 1.5; stroke-linejoin: round }\n\
    .grid { stroke: #d1d9e0; stroke-width: 1 } .mark { stroke: #59636e; stroke-width: 1; stroke-dasharray: 3 3 }\n\
    .plain { stroke: #818b98 } .close { stroke: #e16f24 } .ours { stroke: #218bff }\n\
    @media (prefers-color-scheme: dark) {\n\
    .paper { fill: #0d1117 } text { fill: #d1d7e0 } .grid { stroke: #2f3742 } .mark { stroke: #9198a1 }\n\
    }\n</style>";

const WIDTH: f64 = 880.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Above the first panel.
const TOP: f64 = 84.0;
const PANEL: f64 = 240.0;
/// Of a panel, below its lines.
const BELOW: f64 = 54.0;
/// Seconds between labels.
const TICK: usize = 5;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{super::pass::tests::made_up, *};
    use crate::pools::Way;

    fn measured(adapter: &'static str) -> Measured {
        let round = |micros| Round {
            plain: made_up(Way::Plain, micros, 0, 0),
            close_at_check_out: made_up(Way::CloseAtCheckOut, micros * 50, 1, 0),
            leasehold: made_up(Way::Leasehold, micros, 1, 0),
        };
        Measured { adapter, rounds: vec![round(900), round(1000), round(1100)] }
    }

    fn options(seconds: u32) -> Options {
        let one = NonZeroU32::MIN;
        Options { rounds: one, seconds, rate: one, connections: one, svg: None }
    }

    #[test]
    fn each_panel_has_three_lines_and_one_for_each_rotation() {
        for (seconds, rotations) in [(5, 1), (15, 3), (20, 4)] {
            let svg = draw(&[measured("one"), measured("another")], &options(seconds));
            assert_eq!(svg.matches("class=\"rotation mark\"").count(), 2 * rotations, "{seconds} s");
            for class in ["plain", "close", "ours"] {
                let drawn = svg.matches(&format!("class=\"{class}\"")).count();
                assert_eq!(drawn, 2 + 1, "{class}: a line in each panel, and the legend's");
            }
            assert!(svg.contains(">one</text>") && svg.contains(">another</text>"));
        }
    }

    #[test]
    fn it_is_well_formed_and_readable_in_the_dark() {
        let svg = draw(&[measured("one")], &options(15));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("prefers-color-scheme: dark"));
        for element in ["svg", "style", "title"] {
            assert_eq!(svg.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(svg.matches(&format!("</{element}>")).count(), 1, "{element}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_bucket_is_the_median_of_the_rounds_that_saw_a_query_in_it() {
        let mut passes = [1000, 3000, 90_000].map(|micros| made_up(Way::Plain, micros, 0, 0));
        passes[2].slowest[7] = None;
        passes.iter_mut().for_each(|pass| pass.slowest[8] = None);
        let medians = medians(&passes.iter());
        assert_eq!((medians[6], medians[7], medians[8]), (Some(0.003), Some(0.002), None));
    }

    #[test]
    fn the_scale_is_of_whole_decades_and_goes_up() {
        let scale = Scale::of([0.0008, 0.0031, 0.062].into_iter());
        assert_eq!(scale, Scale { bottom: -4, top: -1 });
        assert_eq!((scale.share(0.0001), scale.share(0.1)), (0.0, 1.0));
        assert!(scale.share(0.002) < scale.share(0.003));
        assert_eq!(scale.decades().map(shown).collect::<Vec<_>>(), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(Scale::of([0.001].into_iter()), Scale { bottom: -3, top: -2 }, "never empty");
        assert_eq!(Scale::of(std::iter::empty()).decades().count(), 2);
    }
}
