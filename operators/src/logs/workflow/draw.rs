//! Workflows as text that other programs draw: Mermaid and DOT (DL-19).

use std::fmt::Write;

use super::graph::{Edge, EdgeKind, Workflow};

impl Workflow {
    /// A Mermaid flowchart. `label` says how a key is shown, such as its template.
    #[must_use]
    pub fn to_mermaid(&self, label: impl Fn(&str) -> String) -> String {
        let mut out = String::from("flowchart TD\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let shown: String = label(&node.key).chars().map(for_mermaid).collect();
            let _ = writeln!(out, "    n{index}[\"{shown}\"]");
        }
        for edge in self.edges.iter().filter(|edge| edge.from.is_some() || edge.to.is_some()) {
            let end = |node: Option<usize>, other: &str| {
                node.map_or(other.to_owned(), |node| format!("n{node}"))
            };
            let (from, to) = (end(edge.from, "begin(( ))"), end(edge.to, "finish((( )))"));
            let arrow = if edge.kind == EdgeKind::Loop { "-.->" } else { "-->" };
            let _ = writeln!(out, "    {from} {arrow}|\"{}\"| {to}", caption(edge));
        }
        out
    }

    /// A graph in the language of Graphviz. `label` says how a key is shown.
    #[must_use]
    pub fn to_dot(&self, label: impl Fn(&str) -> String) -> String {
        let mut out = String::from(
            "digraph workflow {\n    begin [shape=point];\n    finish [shape=doublecircle, label=\"\"];\n",
        );
        for (index, node) in self.nodes.iter().enumerate() {
            let shown =
                label(&node.key).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
            let _ = writeln!(out, "    n{index} [shape=box, label=\"{shown}\"];");
        }
        for edge in &self.edges {
            let end = |node: Option<usize>, other: &str| {
                node.map_or(other.to_owned(), |node| format!("n{node}"))
            };
            let (from, to) = (end(edge.from, "begin"), end(edge.to, "finish"));
            let style = if edge.kind == EdgeKind::Loop { ", style=dashed" } else { "" };
            let _ = writeln!(out, "    {from} -> {to} [label=\"{}\"{style}];", caption(edge));
        }
        out.push_str("}\n");
        out
    }
}

/// Share, kind and time of a transition.
fn caption(edge: &Edge) -> String {
    let mut caption = format!("{:.0} %", 100.0 * edge.probability);
    if edge.kind != EdgeKind::Sequence {
        let _ = write!(caption, " {}", edge.kind.as_str());
    }
    if !edge.seconds.is_nan() {
        let _ = write!(caption, ", {:.2} s", edge.seconds);
    }
    caption
}

/// Quotes and brackets mean something inside a Mermaid label.
fn for_mermaid(shown: char) -> char {
    match shown {
        '"' => '\'',
        '<' => '(',
        '>' => ')',
        '\n' | '\r' => ' ',
        other => other,
    }
}
