//! A workflow as a drawing: keys in layers from top to bottom, each below all that lead to it.

// The drawings of the fleet are made of the same shapes, and some of them are not needed here.
#[allow(dead_code)]
#[path = "../fleet/report/svg.rs"]
mod svg;

use driftline::logs::workflow::{Edge, EdgeKind, Workflow};

pub use svg::escaped;
use svg::{Font, GRID, INK, LINE, MUTED, Point, Svg};

/// Transitions that are taken less often than this are left out, and keys that only they lead to.
const LEAST_SHARE: f64 = 0.05;
/// Keys that are drawn at most, the most frequent.
const NODES_MAX: usize = 60;

const BOX: Point = (300.0, 40.0);
const GAP: Point = (30.0, 46.0);
const MARGIN: f64 = 30.0;
/// Room at the side for transitions that pass layers by.
const LANE: f64 = 34.0;
const LANES: usize = 5;
const LINE_CHARACTERS: usize = 44;

/// Where each key of a drawing is.
struct Layout {
    /// The layer and the place in it, for each node that is drawn.
    cells: Vec<Option<(usize, usize)>>,
    layers: Vec<usize>,
}

impl Layout {
    fn of(workflow: &Workflow, edges: &[&Edge]) -> Self {
        let mut by_count: Vec<usize> = (0..workflow.nodes.len()).collect();
        by_count.sort_by(|a, b| workflow.nodes[*b].count.total_cmp(&workflow.nodes[*a].count));
        by_count.truncate(NODES_MAX);
        let mut is_drawn = vec![false; workflow.nodes.len()];
        for node in by_count {
            is_drawn[node] = edges.iter().any(|edge| edge.to == Some(node));
        }
        // Nodes come in the order in which they usually do: what leads back is not followed.
        let mut depth = vec![0; workflow.nodes.len()];
        for node in (0..workflow.nodes.len()).filter(|node| is_drawn[*node]) {
            for edge in edges.iter().filter(|edge| edge.to == Some(node)) {
                if let Some(from) = edge.from.filter(|from| *from < node && is_drawn[*from]) {
                    depth[node] = depth[node].max(depth[from] + 1);
                }
            }
        }
        let mut layers = Vec::new();
        let mut cells = vec![None; workflow.nodes.len()];
        for node in (0..workflow.nodes.len()).filter(|node| is_drawn[*node]) {
            let layer = depth[node];
            if layers.len() <= layer {
                layers.resize(layer + 1, 0);
            }
            cells[node] = Some((layer, layers[layer]));
            layers[layer] += 1;
        }
        Self { cells, layers }
    }

    fn width(&self) -> f64 {
        let widest = self.layers.iter().copied().max().unwrap_or(0).max(1) as f64;
        widest * (BOX.0 + GAP.0) - GAP.0
    }

    /// The middle of a box's upper edge.
    fn top(&self, node: usize) -> Option<Point> {
        let (layer, place) = self.cells[node]?;
        let own = self.layers[layer] as f64 * (BOX.0 + GAP.0) - GAP.0;
        let left = MARGIN + LANE + (self.width() - own) / 2.0;
        let x = left + place as f64 * (BOX.0 + GAP.0) + BOX.0 / 2.0;
        Some((x, MARGIN + (layer as f64 + 0.6) * (BOX.1 + GAP.1)))
    }
}

/// The drawing, and how much was left out of it.
pub fn draw(workflow: &Workflow, label: impl Fn(&str) -> String) -> (String, usize) {
    let runs: f64 = workflow.edges.iter().filter(|e| e.from.is_none()).map(|e| e.count).sum();
    let edges: Vec<&Edge> =
        workflow.edges.iter().filter(|edge| edge.count >= LEAST_SHARE * runs).collect();
    let layout = Layout::of(workflow, &edges);
    let height = MARGIN * 2.0 + (layout.layers.len() as f64 + 0.8) * (BOX.1 + GAP.1);
    let width = layout.width() + 2.0 * (MARGIN + LANE) + 140.0;
    let mut svg = Svg::new(width, height);
    let mut lanes = 0_usize;
    let mut drawn = 0;
    let mut captions = Vec::new();
    for edge in &edges {
        let from = edge.from.map(|node| layout.top(node));
        let to = edge.to.map(|node| layout.top(node));
        let middle = MARGIN + LANE + layout.width() / 2.0;
        let (begin, end) = match (from, to) {
            (Some(None), _) | (_, Some(None)) | (None, None) => continue,
            (None, Some(Some(to))) => ((middle, MARGIN), to),
            (Some(Some(from)), None) => ((from.0, from.1 + BOX.1), (middle, height - MARGIN)),
            (Some(Some(from)), Some(Some(to))) => ((from.0, from.1 + BOX.1), to),
        };
        drawn += 1;
        let stroke = if edge.kind == EdgeKind::Loop { MUTED } else { LINE };
        let thickness = 0.8 + 2.2 * (edge.count / runs).min(1.0);
        let is_near = end.1 > begin.1 && end.1 - begin.1 < 1.5 * GAP.1 + 1.0;
        let caption_at = if is_near || edge.from.is_none() || edge.to.is_none() {
            let bend = (end.1 - begin.1) / 2.0;
            let pulls = [(begin.0, begin.1 + bend), (end.0, end.1 - bend)];
            svg.noose(begin, pulls, end, stroke, thickness);
            svg.polygon(
                &[(end.0 - 4.0, end.1 - 7.0), (end.0 + 4.0, end.1 - 7.0), end],
                stroke,
                1.0,
            );
            (f64::midpoint(begin.0, end.0), f64::midpoint(begin.1, end.1) + 4.0)
        } else {
            // Past other layers, or back: from side to side, each in a lane of its own.
            let (begin, end) = (
                (begin.0 + BOX.0 / 2.0, begin.1 - BOX.1 / 2.0 + 6.0),
                (end.0 + BOX.0 / 2.0, end.1 + BOX.1 / 2.0 - 6.0),
            );
            let lane = MARGIN + LANE + layout.width() + 50.0 + 26.0 * (lanes % LANES) as f64;
            svg.noose(begin, [(lane, begin.1), (lane, end.1)], end, stroke, thickness);
            let tip = [(end.0 + 7.0, end.1 - 4.0), (end.0 + 7.0, end.1 + 4.0), end];
            svg.polygon(&tip, stroke, 1.0);
            let down = 13.0 * (lanes % LANES) as f64 - 26.0;
            lanes += 1;
            ((begin.0 + end.0) / 8.0 + 0.75 * lane, f64::midpoint(begin.1, end.1) + down)
        };
        if edge.from.is_some() && edge.to.is_some() {
            captions.push((caption_at, caption(edge)));
        }
    }
    for (node, of) in workflow.nodes.iter().enumerate() {
        let Some((x, y)) = layout.top(node) else { continue };
        let corner = (x - BOX.0 / 2.0, y);
        svg.rect(corner, BOX, "#ffffff", 1.0);
        svg.frame(corner, BOX, GRID);
        svg.rect(corner, (4.0, BOX.1), LINE, (of.count / runs.max(1.0)).clamp(0.1, 1.0));
        let lines = wrapped(&label(&of.key));
        let first = y + if lines.len() == 1 { 24.0 } else { 17.0 };
        for (index, line) in lines.iter().enumerate() {
            let at = (corner.0 + 12.0, first + 14.0 * index as f64);
            svg.text(at, line, Font::LABEL.sized(11.5).filled(INK));
        }
    }
    for (at, caption) in apart(captions) {
        svg.text(at, &caption, Font::TICK.sized(10.5));
    }
    (svg.finish(), workflow.edges.len() - drawn)
}

/// Moves captions down that would lie on others.
fn apart(captions: Vec<(Point, String)>) -> Vec<(Point, String)> {
    let mut placed: Vec<(Point, String)> = Vec::with_capacity(captions.len());
    for ((x, mut y), caption) in captions {
        let is_on =
            |y: f64, other: Point| (x - other.0).abs() < 100.0 && (y - other.1).abs() < 12.0;
        // Each step leaves at least one of them behind.
        for _ in 0..placed.len() {
            if let Some((other, _)) = placed.iter().find(|(other, _)| is_on(y, *other)) {
                y = other.1 + 12.0;
            }
        }
        placed.push(((x, y), caption));
    }
    placed
}

/// Share of the key before, what it is unless it always follows, and the usual time.
fn caption(edge: &Edge) -> String {
    let kind = match edge.kind {
        EdgeKind::Sequence => String::new(),
        // The other choices are too rare to show.
        EdgeKind::Branch if edge.probability > 0.995 => String::new(),
        kind => format!(" {}", kind.as_str()),
    };
    let time = match edge.seconds {
        seconds if seconds.is_nan() => String::new(),
        seconds => format!(", {seconds:.2} s"),
    };
    format!("{:.0} %{kind}{time}", 100.0 * edge.probability)
}

/// A label in at most two lines.
fn wrapped(label: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in label.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() || line.chars().count() + word.chars().count() < LINE_CHARACTERS {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    if lines.len() > 2 {
        lines.truncate(2);
        lines[1].push_str(" ...");
    }
    lines.iter().map(|line| crate::watch::short(line, LINE_CHARACTERS)).collect()
}
