//! What was seen, as a page, a drawing, or text that other programs draw.

use std::fmt::Write as _;
use std::path::Path;

use crate::layout::{self, escaped};
use crate::watch::{Seen, short};

/// Odd sessions that are listed.
const LISTED: usize = 50;

const STYLE: &str = "
body { margin: 0; background: #f3f5f7; color: #1f2933; font: 15px/1.5 system-ui, Helvetica, Arial, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 28px 20px 60px; }
section { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 20px 24px; margin-top: 18px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 18px; margin: 0 0 4px; } h3 { font-size: 15px; margin: 14px 0 2px; }
p { margin: 0 0 12px; color: #52606d; }
code, pre { font-size: 12.5px; background: #f7f9fa; border-radius: 6px; overflow-wrap: anywhere; }
pre { padding: 14px; overflow-x: auto; }
ul { margin: 2px 0 8px; padding-left: 20px; }
";

/// The report in the form that the ending of its path names.
pub fn text(path: &Path, seen: &Seen) -> String {
    let label = |key: &str| seen.template(key);
    let of_each = |draw: &dyn Fn(usize) -> String| {
        (0..seen.workflows.len()).map(draw).collect::<Vec<_>>().join("\n")
    };
    match path.extension().and_then(|end| end.to_str()) {
        Some("mmd") => of_each(&|task| seen.workflows[task].to_mermaid(label)),
        Some("dot") => of_each(&|task| seen.workflows[task].to_dot(label)),
        Some("svg") => of_each(&|task| layout::draw(&seen.workflows[task], label).0),
        _ => page(seen),
    }
}

fn page(seen: &Seen) -> String {
    let mut page = String::from("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>");
    let mut add = |text: std::fmt::Arguments<'_>| {
        page.write_fmt(text).expect("a String takes everything");
    };
    add(format_args!("<title>Log report</title><style>{STYLE}</style></head><body><main>"));
    add(format_args!(
        "<h1>Log report</h1><p>{} lines of {} templates; {} sessions, {} of them judged, {} odd.</p>",
        seen.lines,
        seen.templates.len(),
        seen.sessions,
        seen.judged,
        seen.odd_sessions.len()
    ));
    for workflow in &seen.workflows {
        let (drawing, left_out) = layout::draw(workflow, |key| seen.template(key));
        add(format_args!(
            "<section><h2>How sessions usually go</h2><p>Drawn from the sessions that were learned from. On each arrow: \
             the share of the key before, and the mean time; grey ones lead back. {left_out} rare transitions \
             are left out.</p>{drawing}</section>"
        ));
    }
    add(format_args!("<section><h2>Odd sessions</h2>"));
    if seen.odd_sessions.is_empty() {
        add(format_args!("<p>None.</p>"));
    }
    for (session, reasons) in seen.odd_sessions.iter().take(LISTED) {
        add(format_args!("<h3>{}</h3><p>{}</p><ul>", escaped(session), escaped(reasons)));
        for why in seen.diagnoses.get(session).into_iter().flatten() {
            add(format_args!("<li>because of {}</li>", escaped(why)));
        }
        for odd in seen.odd.iter().filter(|odd| odd.session == *session) {
            add(format_args!(
                "<li>line {}: {}<br><code>{}</code></li>",
                odd.number,
                escaped(&odd.reason),
                escaped(&short(&odd.line, 300))
            ));
        }
        add(format_args!("</ul>"));
    }
    if seen.odd_sessions.len() > LISTED {
        add(format_args!("<p>and {} more</p>", seen.odd_sessions.len() - LISTED));
    }
    add(format_args!(
        "</section><section><h2>How it was asked</h2><pre>{};</pre></section>",
        escaped(&seen.sql)
    ));
    add(format_args!("</main></body></html>\n"));
    page
}
