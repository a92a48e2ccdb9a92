//! A dataflow as text, as a Mermaid flowchart, and in the DOT language of Graphviz.

use std::fmt::Write;

use driftline_queries::ExplainFormat;

use super::describe::{Dataflow, Operator};

/// Characters of a line in a drawing, after which the next word begins a new one.
const LINE_WIDTH: usize = 48;

/// Draws a dataflow. `notes` gives each operator's lines of figures, where it runs.
pub(crate) fn render(
    dataflow: &Dataflow,
    format: ExplainFormat,
    notes: &dyn Fn(usize) -> Vec<String>,
) -> String {
    match format {
        ExplainFormat::Text => text(dataflow, notes),
        ExplainFormat::Mermaid => mermaid(dataflow, notes),
        ExplainFormat::Dot => dot(dataflow, notes),
    }
}

/// No figures: the query does not run.
pub(crate) fn without_notes(_operator: usize) -> Vec<String> {
    Vec::new()
}

/// Results first, inputs indented below.
fn text(dataflow: &Dataflow, notes: &dyn Fn(usize) -> Vec<String>) -> String {
    let workers = match dataflow.workers {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let mut out = format!("Dataflow on {workers}\n");
    // Operators still to be written with their depths, the next one last.
    let mut open = vec![(dataflow.operators.len().saturating_sub(1), 0)];
    while let Some((place, depth)) = open.pop() {
        let Some(operator) = dataflow.operators.get(place) else { continue };
        let indent = "  ".repeat(depth + 1);
        out += &indent;
        out += &title(operator);
        out.push('\n');
        let moved = operator.step.moved.iter().map(|moved| format!("rows move {moved}"));
        let keeps = operator.step.keeps.iter().map(|keeps| format!("keeps {keeps}"));
        for line in moved.chain(keeps).chain(notes(place)) {
            // Writing to a text cannot fail.
            let _ = writeln!(out, "{indent}  - {line}");
        }
        open.extend(operator.inputs.iter().rev().map(|input| (*input, depth + 1)));
    }
    out.trim_end().to_owned()
}

fn title(operator: &Operator) -> String {
    match operator.step.detail.as_str() {
        "" => operator.step.name.to_owned(),
        detail => format!("{} {detail}", operator.step.name),
    }
}

/// Rows flow from left to right; what keeps state is round.
fn mermaid(dataflow: &Dataflow, notes: &dyn Fn(usize) -> Vec<String>) -> String {
    let mut out = "flowchart LR\n".to_owned();
    for (place, operator) in dataflow.operators.iter().enumerate() {
        let lines: Vec<String> =
            lines(operator, notes(place)).iter().map(|line| mermaid_text(line)).collect();
        let label = lines.join("<br/>");
        let (open, close) = if operator.step.keeps.is_empty() { ("[", "]") } else { ("([", "])") };
        let _ = writeln!(out, "  n{place}{open}\"{label}\"{close}");
    }
    for (place, operator) in dataflow.operators.iter().enumerate() {
        for (number, input) in operator.inputs.iter().enumerate() {
            let moved = operator.step.moved.as_ref().filter(|moved| moved.moves_input(number));
            let label = moved.map(|moved| format!("|\"{}\"|", mermaid_text(&moved.to_string())));
            let label = label.unwrap_or_default();
            let _ = writeln!(out, "  n{input} -->{label} n{place}");
        }
    }
    out.trim_end().to_owned()
}

/// Text within quotes, where Mermaid takes HTML and Markdown for what they are.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "#quot;",
            '#' => safe += "#35;",
            '`' => safe += "#96;",
            '\\' => safe += "#92;",
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

fn dot(dataflow: &Dataflow, notes: &dyn Fn(usize) -> Vec<String>) -> String {
    let mut out = "digraph dataflow {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for (place, operator) in dataflow.operators.iter().enumerate() {
        // `\l` ends a line and sets it to the left.
        let mut label = String::new();
        for line in lines(operator, notes(place)) {
            label += &dot_text(&line);
            label += "\\l";
        }
        let style = if operator.step.keeps.is_empty() { "" } else { ", style=rounded" };
        let _ = writeln!(out, "  n{place} [label=\"{label}\"{style}];");
    }
    for (place, operator) in dataflow.operators.iter().enumerate() {
        for (number, input) in operator.inputs.iter().enumerate() {
            let moved = operator.step.moved.as_ref().filter(|moved| moved.moves_input(number));
            let label = moved.map(|moved| format!(" [label=\"{}\"]", dot_text(&moved.to_string())));
            let label = label.unwrap_or_default();
            let _ = writeln!(out, "  n{input} -> n{place}{label};");
        }
    }
    out += "}";
    out
}

fn dot_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// What stands in an operator's box.
fn lines(operator: &Operator, notes: Vec<String>) -> Vec<String> {
    let mut lines = wrapped(&title(operator));
    lines.extend(operator.step.keeps.iter().flat_map(|keeps| wrapped(&format!("keeps {keeps}"))));
    lines.extend(notes.iter().flat_map(|note| wrapped(note)));
    lines
}

/// A text cut between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > LINE_WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::super::describe::Step;
    use super::*;

    #[test]
    fn names_from_outside_cannot_break_out_of_a_drawing() {
        let step = Step {
            name: "Input",
            detail: "a\"]; b --> c #`<i>\\ \n&".to_owned(),
            ..Step::default()
        };
        let operators = vec![Operator { step, inputs: Vec::new(), part: 0 }];
        let dataflow = Dataflow { workers: 1, operators };
        assert_eq!(
            render(&dataflow, ExplainFormat::Mermaid, &without_notes),
            "flowchart LR\n  n0[\"Input a#quot;]; b --&gt; c #35;#96;&lt;i&gt;#92; &amp;\"]"
        );
        assert_eq!(
            render(&dataflow, ExplainFormat::Dot, &without_notes),
            "digraph dataflow {\n  rankdir=LR;\n  node [shape=box];\n  \
             n0 [label=\"Input a\\\"]; b --> c #`<i>\\\\ &\\l\"];\n}"
        );
    }

    #[test]
    fn long_lines_are_cut_between_words() {
        let lines = wrapped(&"word ".repeat(30));
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.len() <= LINE_WIDTH), "{lines:?}");
        assert_eq!(lines.join(" ").split(' ').count(), 30);
    }
}
