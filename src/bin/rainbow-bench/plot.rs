//! Plots as SVG text: lines over two axes, one or both logarithmic. Legible without colours: other servers are dashed, and
//! every line has its name at its end.

use std::fmt::Write;

/// Of servers in order: the own one, then those it is compared with.
pub const COLORS: [&str; 4] = ["#0b66c3", "#8a8f98", "#c4472b", "#2f8f4e"];
const PALETTE: [&str; 6] = ["#0b66c3", "#d98200", "#2f8f4e", "#9a4fb5", "#c4472b", "#3c8f9e"];
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 38.0;

/// A named line.
pub struct Line {
    /// In the legend.
    pub name: String,
    /// In the coordinates of the axes.
    pub points: Vec<(f64, f64)>,
    /// Its colour.
    pub color: &'static str,
    /// Not the own server's.
    pub dashed: bool,
}

/// The colour of the n-th thing that is not a server.
pub fn color(number: usize) -> &'static str {
    PALETTE[number % PALETTE.len()]
}

/// A plot.
pub struct Plot<'a> {
    /// Above it.
    pub title: &'a str,
    /// Positions on the x axis with their labels.
    pub x_ticks: Vec<(f64, String)>,
    /// Below the x axis.
    pub x_name: &'a str,
    /// Whether y is logarithmic; else it begins at 0.
    pub log: bool,
    /// What it shows.
    pub lines: Vec<Line>,
}

impl Plot<'_> {
    /// The SVG element.
    pub fn svg(&self) -> String {
        let values = || self.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let (low, high) = values().fold((f64::MAX, 0.0f64), |(low, high), y| (low.min(y), high.max(y)));
        let (y_ticks, low, high) = if self.log { decades(low, high) } else { steps(high) };
        let legend = 17.0 * self.lines.len() as f64;
        let (right, foot) = (WIDTH - 24.0, HEIGHT - BOTTOM);
        let (first, last) = (self.x_ticks[0].0, self.x_ticks[self.x_ticks.len() - 1].0);
        let x_at = |x: f64| LEFT + (x - first) / (last - first).max(1e-9) * (right - LEFT);
        let scale = |y: f64| if self.log { y.max(low).log10() } else { y };
        let y_at = |y: f64| foot - (scale(y) - scale(low)) / (scale(high) - scale(low)).max(1e-9) * (foot - TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{1}\"><text class=\"title\" x=\"{LEFT}\" y=\"18\">{1}</text>",
            HEIGHT + legend + 6.0,
            escape(self.title)
        );
        for (y, label) in &y_ticks {
            let at = y_at(*y);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (x, label) in &self.x_ticks {
            let at = x_at(*x);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                foot + 16.0
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"axis\">{}</text>",
            f64::midpoint(LEFT, right),
            foot + 33.0,
            escape(self.x_name)
        );
        for (number, line) in self.lines.iter().enumerate() {
            let dash = if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let points: Vec<String> = line
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y)))
                .collect();
            let _ = write!(
                svg,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dash} points=\"{}\"/>",
                line.color,
                points.join(" ")
            );
            if line.points.len() <= 8 {
                for point in &points {
                    let (x, y) = point.split_once(',').unwrap_or_default();
                    let _ = write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{}\"/>", line.color);
                }
            }
            let y = HEIGHT + 8.0 + 17.0 * number as f64;
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"2\"{dash}/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                LEFT + 26.0,
                line.color,
                LEFT + 34.0,
                y + 4.0,
                escape(&line.name)
            );
        }
        svg + "</svg>"
    }
}

type Ticks = (Vec<(f64, String)>, f64, f64);

/// 1, 2 and 5 of each decade that is needed.
fn decades(low: f64, high: f64) -> Ticks {
    let (low, high) = (low.max(0.1), high.max(0.2));
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = exponents.flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = all
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(all.len() - 1)
        .max(from + 1);
    let used = &all[from..=to.min(all.len() - 1)];
    // At most about eight labels.
    let every = used.len().div_ceil(8);
    let ticks = used.iter().step_by(every).map(|tick| (*tick, micros(*tick)));
    (ticks.collect(), used[0], used[used.len() - 1])
}

/// Round steps from 0.
fn steps(high: f64) -> Ticks {
    let rough = (high / 5.0).max(1e-6);
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * decade)
        .find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let count = (high * 1.05 / step).ceil() as usize;
    let ticks = (0..=count).map(|number| (number as f64 * step, format!("{:.3}", number as f64 * step)));
    let ticks = ticks.map(|(y, label)| (y, label.trim_end_matches('0').trim_end_matches('.').to_owned()));
    (ticks.collect(), 0.0, count as f64 * step)
}

/// Microseconds in a fitting unit.
pub fn micros(us: f64) -> String {
    match us {
        ..1000.0 => format!("{} µs", short(us)),
        ..1e6 => format!("{} ms", short(us / 1e3)),
        _ => format!("{} s", short(us / 1e6)),
    }
}

/// Three digits.
pub fn short(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0..100.0 => trim(format!("{number:.1}")),
        1.0..10.0 => trim(format!("{number:.2}")),
        _ => trim(format!("{number:.3}")),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text for a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_contain_what_is_shown() {
        for (low, high) in [(0.0, 0.0), (3.0, 3.0), (44.0, 70_000.0), (0.05, 1e7)] {
            let (ticks, from, to) = decades(low, high);
            assert!(ticks.len() >= 2 && ticks.len() <= 9, "{ticks:?}");
            assert!(from <= low.max(0.1) && to >= high, "{low} {high}: {from}..{to}");
        }
        for high in [0.117, 7.06, 1123.0] {
            let (ticks, _, to) = steps(high);
            assert!(ticks.len() <= 8 && to >= high, "{ticks:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.117, 4.55, 66.4, 214_806.0].map(short);
        assert_eq!(all, ["0.117", "4.55", "66.4", "214806"]);
        assert_eq!((micros(2331.0), micros(30.0)), ("2.33 ms".into(), "30 µs".into()));
    }
}
