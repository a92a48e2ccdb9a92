//! States and moves between them, as shares, and drawn as a graph in the manner of the paper's Figures 4, 8 and 10.

use std::collections::BTreeMap;

use super::svg::{Font, GRID, INK, MUTED, Point, Svg, percent, state_color};
use crate::record::{Component, Counted};

/// Moves that are rarer than this are not drawn.
const DRAWN_MIN: f64 = 0.0005;
/// A graph of more states than these cannot be read; a table can.
const GRAPH_MAX: usize = 4;

/// Shares of states and of moves from one slot to the next; each sums to 1.
#[derive(Default)]
pub struct Behaviour {
    pub states: BTreeMap<i64, f64>,
    pub moves: BTreeMap<(i64, i64), f64>,
}

impl Behaviour {
    pub fn of(states: &[i64]) -> Self {
        let mut behaviour = Self::default();
        for state in states {
            *behaviour.states.entry(*state).or_default() += 1.0;
        }
        for pair in states.windows(2) {
            *behaviour.moves.entry((pair[0], pair[1])).or_default() += 1.0;
        }
        behaviour.normalized()
    }

    /// As the detector's model has it now.
    pub fn of_model(component: &Component) -> Self {
        let mut behaviour = Self::default();
        for (state, count) in present(&component.occupancy) {
            *behaviour.states.entry(*state).or_default() += *count as f64;
        }
        for (from, to, count) in present(&component.transitions) {
            *behaviour.moves.entry((*from, *to)).or_default() += *count as f64;
        }
        behaviour.normalized()
    }

    fn normalized(mut self) -> Self {
        let total: f64 = self.states.values().sum();
        self.states.values_mut().for_each(|share| *share /= total);
        let total: f64 = self.moves.values().sum();
        self.moves.values_mut().for_each(|share| *share /= total);
        self.states.retain(|_, share| *share > 0.0);
        self
    }

    /// Draws all moves as a table: from above, to the right.
    fn draw_table(&self, svg: &mut Svg, center: Point, radius: f64) {
        let states: Vec<i64> = self.states.keys().copied().collect();
        let size = (radius * 2.4 / states.len() as f64).min(40.0);
        let half = size * states.len() as f64 / 2.0;
        let (left, top) = (center.0 - half + 10.0, center.1 - half + 8.0);
        let font = Font { is_bold: true, ..Font::TICK };
        for (row, from) in states.iter().enumerate() {
            let y = top + size * row as f64;
            svg.text((left - 6.0, y + size / 2.0 + 4.0), &format!("#{from}"), font.anchored("end"));
            for (column, to) in states.iter().enumerate() {
                let x = left + size * column as f64;
                if row == 0 {
                    svg.text((x + size / 2.0, top - 6.0), &format!("#{to}"), font);
                }
                let share = self.moves.get(&(*from, *to)).copied().unwrap_or(0.0);
                let color = if share > 0.0 { state_color(*to) } else { GRID };
                let opacity = if share > 0.0 { 0.15 + 0.75 * share.sqrt() } else { 0.35 };
                svg.rect((x + 1.0, y + 1.0), (size - 2.0, size - 2.0), color, opacity);
                if share >= DRAWN_MIN && size > 24.0 {
                    let text = percent(share);
                    let text = text.trim_end_matches(" %");
                    let font = Font::TICK.filled(INK).sized(10.0);
                    svg.text((x + size / 2.0, y + size / 2.0 + 4.0), text, font);
                }
            }
        }
        svg.text(
            (left + half, top + 2.0 * half + 14.0),
            "% of moves, from row to column",
            Font::TICK.sized(10.0),
        );
    }

    /// Draws the graph around `center`, its nodes on a circle of this radius.
    pub fn draw(&self, svg: &mut Svg, center: Point, radius: f64) {
        let count = self.states.len();
        if count > GRAPH_MAX {
            return self.draw_table(svg, center, radius);
        }
        let mut nodes: BTreeMap<i64, (Point, f64)> = BTreeMap::new();
        for (number, (state, share)) in self.states.iter().enumerate() {
            // Two side by side, three with the first above, four in the corners: loops have room there.
            let first = [1.0, 1.0, 1.5, 1.25][count.clamp(1, 4) - 1];
            let turn = std::f64::consts::PI * (first + 2.0 * number as f64 / count as f64);
            let away = if count == 1 { 0.0 } else { radius };
            let stretch = if count > 2 { 1.5 } else { 1.15 };
            let at = (center.0 + away * stretch * turn.cos(), center.1 + away * turn.sin() * 0.75);
            nodes.insert(*state, (at, 13.0 + 15.0 * share.sqrt()));
        }
        let drawn = || self.moves.iter().filter(|(_, share)| **share >= DRAWN_MIN);
        for ((from, to), share) in drawn() {
            let (Some(from_node), Some(to_node)) = (nodes.get(from), nodes.get(to)) else {
                continue;
            };
            if from == to {
                draw_stay(svg, center, *from_node, *share, count == 1);
            } else {
                draw_move(svg, *from_node, *to_node, *share);
            }
        }
        for (state, (at, size)) in &nodes {
            svg.circle(*at, *size, state_color(*state), 1.0);
            let font = Font::LABEL.anchored("middle");
            svg.text((at.0, at.1 + 4.0), &format!("#{state}"), Font { is_bold: true, ..font });
        }
    }

    /// Draws states as one bar of shares.
    pub fn draw_bar(&self, svg: &mut Svg, (x, y): Point, (width, height): Point) {
        let mut left = x;
        for (state, share) in &self.states {
            svg.rect((left, y), (share * width, height), state_color(*state), 0.9);
            if *share > 0.16 {
                let text = format!("#{state} {}", percent(*share));
                let font = Font::LABEL.anchored("middle").sized(11.0);
                svg.text((left + share * width / 2.0, y + height / 2.0 + 4.0), &text, font);
            }
            left += share * width;
        }
    }
}

/// The rows that a relation of changes holds.
fn present<Row>(relation: &Counted<Row>) -> impl Iterator<Item = &Row> {
    relation.iter().filter(|(_, times)| **times > 0).map(|(row, _)| row)
}

fn stroke_width(share: f64) -> f64 {
    1.0 + 3.5 * share.sqrt()
}

fn draw_move(
    svg: &mut Svg,
    (from, from_size): (Point, f64),
    (to, to_size): (Point, f64),
    share: f64,
) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = (dx * dx + dy * dy).sqrt().max(1.0);
    // Moves bend to their left, so that those to and fro lie apart.
    let (side_x, side_y) = (-dy / length, dx / length);
    let bend = length * 0.22;
    let middle = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
    let pull = (middle.0 + side_x * bend, middle.1 + side_y * bend);
    let edge = |node: Point, size: f64| {
        let (dx, dy) = (pull.0 - node.0, pull.1 - node.1);
        let length = (dx * dx + dy * dy).sqrt().max(1.0);
        (node.0 + dx / length * size, node.1 + dy / length * size)
    };
    let (begin, end) = (edge(from, from_size), edge(to, to_size + 7.0));
    svg.curve(begin, pull, end, MUTED, stroke_width(share));
    let tip = edge(to, to_size + 1.0);
    arrow(svg, end, tip);
    // Nearer to where it begins, because moves cross in the middle.
    let along = |a: f64, pull: f64, b: f64| 0.38 * a + 0.47 * pull + 0.15 * b;
    let place = (
        along(begin.0, pull.0, end.0) + side_x * 8.0,
        along(begin.1, pull.1, end.1) + side_y * 8.0 + 3.0,
    );
    svg.text(place, &percent(share), Font::TICK.filled(INK).sized(10.5));
}

/// The move from a state to itself, as a loop that points away from the center.
fn draw_stay(svg: &mut Svg, center: Point, (at, size): (Point, f64), share: f64, is_alone: bool) {
    let (mut dx, mut dy) = (at.0 - center.0, at.1 - center.1);
    if is_alone || dx.abs() + dy.abs() < 1.0 {
        (dx, dy) = (0.0, -1.0);
    }
    let angle = dy.atan2(dx);
    let on = |turn: f64, away: f64| {
        (at.0 + away * (angle + turn).cos(), at.1 + away * (angle + turn).sin())
    };
    let (begin, end) = (on(-0.5, size), on(0.5, size + 6.0));
    svg.noose(
        begin,
        [on(-0.6, size + 32.0), on(0.6, size + 32.0)],
        end,
        MUTED,
        stroke_width(share),
    );
    arrow(svg, end, on(0.42, size));
    let place = on(0.0, size + 36.0);
    svg.text((place.0, place.1 + 4.0), &percent(share), Font::TICK.filled(INK).sized(10.5));
}

fn arrow(svg: &mut Svg, from: Point, tip: Point) {
    let (dx, dy) = (tip.0 - from.0, tip.1 - from.1);
    let length = (dx * dx + dy * dy).sqrt().max(0.1);
    let (dx, dy) = (dx / length, dy / length);
    let back = (tip.0 - dx * 8.0, tip.1 - dy * 8.0);
    let side = (-dy * 4.0, dx * 4.0);
    let points = [tip, (back.0 + side.0, back.1 + side.1), (back.0 - side.0, back.1 - side.1)];
    svg.polygon(&points, MUTED, 1.0);
}
