//! The numbers as a picture: throughput over time, and one panel per kind of latency, over the share of messages
//! that were faster.

use std::fmt::Write as _;

use leveret_bench::figure::readable;
use leveret_bench::outcome::Kind;

use super::report::rates;
use super::results::Results;

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 260.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Told apart also by those who do not see red and green.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Shares on the axis of latencies, evenly spaced: each has a tenth of the messages of the one before to the right.
const SHARES: [(f64, &str); 6] =
    [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"), (1.0, "max")];

/// One line of a panel.
struct Curve<'a> {
    name: &'a str,
    values: Vec<f64>,
}

struct Panel<'a> {
    title: String,
    curves: Vec<Curve<'a>>,
    scale: Scale,
    /// Below the axis, evenly spaced.
    ticks: Vec<String>,
}

#[derive(Clone, Copy)]
enum Scale {
    /// From 0.
    Linear,
    /// Powers of ten.
    Logarithmic,
}

/// A whole SVG document.
pub(super) fn picture(results: &Results) -> String {
    let mut panels = vec![throughput(results)];
    panels.extend(results.kinds().into_iter().map(|kind| latency(results, kind)));
    let height = PANEL_HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", PANEL_HEIGHT * index as f64);
        panel.draw(&mut out);
        out += "</g>\n";
    }
    out + "</svg>\n"
}

fn throughput(results: &Results) -> Panel<'_> {
    let curves =
        results.measured.iter().map(|measured| Curve { name: &measured.name, values: rates(measured) });
    let samples =
        results.measured.iter().filter_map(|measured| measured.rounds.last()).map(|round| &round.samples);
    let end = samples
        .filter_map(|samples| samples.last())
        .map(|sample| sample.at.as_secs_f64())
        .fold(0.0, f64::max);
    let ticks = (0..=5).map(|fifth| format!("{:.1} s", end * f64::from(fifth) / 5.0)).collect();
    Panel {
        title: "throughput, per second".to_owned(),
        curves: curves.collect(),
        scale: Scale::Linear,
        ticks,
    }
}

fn latency(results: &Results, kind: Kind) -> Panel<'_> {
    let curves = results.measured.iter().map(|measured| {
        let histogram = measured.latencies(kind);
        Curve { name: &measured.name, values: SHARES.map(|(share, _)| histogram.quantile_us(share)).to_vec() }
    });
    Panel {
        title: format!("{} latency, us, by share of messages", kind.name()),
        curves: curves.collect(),
        scale: Scale::Logarithmic,
        ticks: SHARES.map(|(_, name)| name.to_owned()).to_vec(),
    }
}

impl Panel<'_> {
    fn draw(&self, out: &mut String) {
        let (low, high) = self.range();
        let _ =
            writeln!(out, "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text>", escape(&self.title));
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            let (y, value) = (vertical(share), self.scale.value(low, high, share));
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                readable(value)
            );
        }
        for (index, tick) in self.ticks.iter().enumerate() {
            let x = horizontal(index, self.ticks.len());
            let y = PANEL_HEIGHT - BOTTOM + 16.0;
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{tick}</text>");
        }
        for (index, curve) in self.curves.iter().enumerate() {
            self.draw_curve(curve, index, (low, high), out);
        }
    }

    fn draw_curve(&self, curve: &Curve<'_>, index: usize, (low, high): (f64, f64), out: &mut String) {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> = curve
            .values
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let y = vertical(self.scale.share(low, high, *value));
                format!("{:.1},{y:.1}", horizontal(at, curve.values.len()))
            })
            .collect();
        let (points, x) = (points.join(" "), LEFT + 320.0 + 110.0 * index as f64);
        let _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{x}\" y=\"20\" fill=\"{colour}\">{}</text>",
            escape(curve.name)
        );
    }

    /// The least and the greatest value of the axis.
    fn range(&self) -> (f64, f64) {
        let values = || self.curves.iter().flat_map(|curve| curve.values.iter().copied());
        let most = values().fold(0.0, f64::max).max(1.0);
        match self.scale {
            Scale::Linear => (0.0, most),
            Scale::Logarithmic => {
                let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
                (
                    10_f64.powf(least.log10().floor()),
                    10_f64.powf(most.log10().ceil().max(least.log10().floor() + 1.0)),
                )
            }
        }
    }
}

impl Scale {
    /// Where on the axis a value is, 0 to 1.
    fn share(self, low: f64, high: f64, value: f64) -> f64 {
        match self {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value.max(low) / low).log10() / (high / low).log10(),
        }
    }

    fn value(self, low: f64, high: f64, share: f64) -> f64 {
        match self {
            Scale::Linear => low + (high - low) * share,
            Scale::Logarithmic => low * (high / low).powf(share),
        }
    }
}

fn vertical(share: f64) -> f64 {
    PANEL_HEIGHT - BOTTOM - share * (PANEL_HEIGHT - TOP - BOTTOM)
}

fn horizontal(index: usize, count: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * index as f64 / (count.max(2) - 1) as f64
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::results;

    #[test]
    fn a_picture_has_a_panel_for_each_kind_and_a_curve_for_each_broker() {
        let mut results = results();
        results.measured[0].name = "<a & b>".to_owned();
        let picture = picture(&results);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!((picture.matches("<g ").count(), picture.matches("<polyline ").count()), (2, 4));
        assert!(picture.contains("&lt;a &amp; b&gt;") && !picture.contains("NaN"));
    }

    #[test]
    fn scales_have_their_ends() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            assert_eq!((scale.share(1.0, 100.0, 1.0), scale.share(1.0, 100.0, 100.0)), (0.0, 1.0));
            assert!((scale.value(1.0, 100.0, 1.0) - 100.0).abs() < 1e-9);
        }
        assert!((Scale::Logarithmic.share(1.0, 100.0, 10.0) - 0.5).abs() < 1e-9);
    }
}
