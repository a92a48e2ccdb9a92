//! Just enough SVG: shapes, texts and scales. Everything carries its own style, so that a drawing can be cut out of the
//! page and used alone.

use std::fmt::Write as _;

pub const INK: &str = "#1f2933";
pub const MUTED: &str = "#66727f";
pub const GRID: &str = "#e4e8ec";
pub const ALARM: &str = "#d43d3d";
pub const LINE: &str = "#2f6db5";

pub type Point = (f64, f64);

pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// How a text stands.
#[derive(Clone, Copy)]
pub struct Font {
    pub size: f64,
    pub anchor: &'static str,
    pub fill: &'static str,
    pub is_bold: bool,
}

impl Font {
    pub const LABEL: Self = Self { size: 12.0, anchor: "start", fill: INK, is_bold: false };
    pub const TICK: Self = Self { size: 11.0, anchor: "middle", fill: MUTED, is_bold: false };
    pub const TITLE: Self = Self { size: 13.0, anchor: "start", fill: INK, is_bold: true };

    pub fn anchored(self, anchor: &'static str) -> Self {
        Self { anchor, ..self }
    }

    pub fn filled(self, fill: &'static str) -> Self {
        Self { fill, ..self }
    }

    pub fn sized(self, size: f64) -> Self {
        Self { size, ..self }
    }
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Adds an element as it is written.
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        self.body.write_fmt(element).expect("a String takes everything");
        self.body.push('\n');
    }

    pub fn rect(&mut self, (x, y): Point, (width, height): Point, fill: &str, opacity: f64) {
        self.add(format_args!(
            "<rect x='{x:.1}' y='{y:.1}' width='{width:.2}' height='{height:.1}' fill='{fill}' \
             fill-opacity='{opacity:.2}'/>"
        ));
    }

    pub fn frame(&mut self, (x, y): Point, (width, height): Point, stroke: &str) {
        self.add(format_args!(
            "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height:.1}' rx='3' fill='none' \
             stroke='{stroke}' stroke-width='1.4'/>"
        ));
    }

    pub fn line(&mut self, (x1, y1): Point, (x2, y2): Point, stroke: &str, width: f64) {
        self.add(format_args!(
            "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='{stroke}' \
             stroke-width='{width}'/>"
        ));
    }

    pub fn dashes(&mut self, (x1, y1): Point, (x2, y2): Point, stroke: &str) {
        self.add(format_args!(
            "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='{stroke}' \
             stroke-width='1.3' stroke-dasharray='5 4'/>"
        ));
    }

    pub fn circle(&mut self, (x, y): Point, radius: f64, fill: &str, opacity: f64) {
        self.add(format_args!(
            "<circle cx='{x:.1}' cy='{y:.1}' r='{radius:.1}' fill='{fill}' \
             fill-opacity='{opacity:.2}'/>"
        ));
    }

    pub fn polyline(&mut self, points: &[Point], stroke: &str, width: f64) {
        let points = joined(points);
        self.add(format_args!(
            "<polyline points='{points}' fill='none' stroke='{stroke}' stroke-width='{width}' \
             stroke-linejoin='round'/>"
        ));
    }

    pub fn polygon(&mut self, points: &[Point], fill: &str, opacity: f64) {
        let points = joined(points);
        self.add(format_args!(
            "<polygon points='{points}' fill='{fill}' fill-opacity='{opacity:.2}'/>"
        ));
    }

    /// A curve from one point over a pull to another.
    pub fn curve(&mut self, from: Point, pull: Point, to: Point, stroke: &str, width: f64) {
        self.add(format_args!(
            "<path d='M{:.1} {:.1} Q{:.1} {:.1} {:.1} {:.1}' fill='none' stroke='{stroke}' \
             stroke-width='{width:.1}'/>",
            from.0, from.1, pull.0, pull.1, to.0, to.1
        ));
    }

    /// A loop that begins and ends near one point.
    pub fn noose(&mut self, from: Point, pulls: [Point; 2], to: Point, stroke: &str, width: f64) {
        let [a, b] = pulls;
        self.add(format_args!(
            "<path d='M{:.1} {:.1} C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}' fill='none' \
             stroke='{stroke}' stroke-width='{width:.1}'/>",
            from.0, from.1, a.0, a.1, b.0, b.1, to.0, to.1
        ));
    }

    /// A text, with a white edge that keeps it readable on lines.
    pub fn text(&mut self, (x, y): Point, text: &str, font: Font) {
        let weight = if font.is_bold { "600" } else { "400" };
        let Font { size, anchor, fill, .. } = font;
        let text = escaped(text);
        self.add(format_args!(
            "<text x='{x:.1}' y='{y:.1}' font-family='system-ui, Helvetica, Arial, sans-serif' \
             font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' fill='{fill}' \
             stroke='#ffffff' stroke-width='3' stroke-linejoin='round' paint-order='stroke'>{text}\
             </text>"
        ));
    }

    pub fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' \
             width='{width}' height='{height}' style='max-width:100%;height:auto'>\n\
             <rect width='{width}' height='{height}' fill='#ffffff'/>\n{body}</svg>\n"
        )
    }
}

fn joined(points: &[Point]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The colour of a state; points outside of all states are grey.
pub fn state_color(state: i64) -> &'static str {
    const COLORS: [&str; 8] =
        ["#3f78b5", "#e39a3b", "#4fa373", "#9467bd", "#c8557a", "#3fadb0", "#8c8f37", "#a86f4f"];
    usize::try_from(state).map_or("#98a2ad", |state| COLORS[state % COLORS.len()])
}

/// Numbers of an axis onto the page.
#[derive(Clone, Copy)]
pub struct Scale {
    pub values: Point,
    pub places: Point,
}

impl Scale {
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let part = (value - low) / if high > low { high - low } else { 1.0 };
        self.places.0 + part * (self.places.1 - self.places.0)
    }

    /// Round numbers along the axis, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let (low, high) = self.values;
        let rough = (high - low).max(1e-9) / count as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(power * 10.0);
        let first = (low / step).ceil() as i64;
        (first..=(high / step).floor() as i64).map(|number| number as f64 * step).collect()
    }

    /// The label of a tick, kept within the axis.
    pub fn anchor(&self, value: f64, font: Font) -> Font {
        if self.at(value) > self.places.1 - 24.0 { font.anchored("end") } else { font }
    }

    /// Round times along an axis of milliseconds, at most `count` of them.
    pub fn times(&self, count: i64) -> Vec<i64> {
        let hour = 3_600_000;
        let (low, high) = (self.values.0 as i64, self.values.1 as i64);
        let step = [hour / 12, hour / 4, hour / 2, hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour]
            .into_iter()
            .find(|step| (high - low) / step < count)
            .unwrap_or_else(|| 24 * hour * ((high - low) / (24 * hour * count) + 1));
        (low.div_euclid(step) + 1..=high.div_euclid(step)).map(|n| n * step).collect()
    }
}

/// A number in as few digits as tell it.
pub fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 10_000.0 => format!("{:.0}k", number / 1000.0),
        n if n >= 1000.0 => format!("{:.1}k", number / 1000.0),
        n if n >= 10.0 || n.fract() == 0.0 => format!("{number:.0}"),
        _ => format!("{number:.1}"),
    }
}

pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p >= 9.95 => format!("{p:.0} %"),
        p => format!("{p:.1} %"),
    }
}
