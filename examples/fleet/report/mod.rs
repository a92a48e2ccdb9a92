//! The report: one HTML page with its drawings inside, which needs nothing else to be read.

mod behaviour;
mod case;
mod clusters;
mod convergence;
mod evolution;
mod svg;
#[cfg(test)]
mod tests;
mod timeline;

use std::fmt::Write as _;

use crate::clock;
use crate::record::Record;
use crate::summary::Summary;
use svg::escaped;

/// Components whose states are drawn.
const EXAMPLES: usize = 6;

const STYLE: &str = "
:root { color-scheme: light; }
body { margin: 0; background: #f3f5f7; color: #1f2933; font: 15px/1.5 system-ui, Helvetica, Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 0 0 2px; }
p { margin: 0 0 14px; color: #52606d; max-width: 78ch; }
section { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 20px 24px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 18px; }
.tile { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.2; }
.tile span { color: #66727f; font-size: 13px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 18px; }
.pair section { margin-top: 18px; min-width: 0; }
.pair + section { margin-top: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }
.cards > div { border: 1px solid #edf0f3; border-radius: 8px; padding: 6px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 4px 0 12px; }
pre { background: #f7f9fa; border-radius: 8px; padding: 14px; overflow-x: auto; font-size: 12.5px; line-height: 1.45; }
svg { display: block; }
";

pub struct Report<'a> {
    pub record: &'a Record,
    pub summary: &'a Summary,
    pub slot_ms: i64,
    pub steady_threshold: i64,
    pub seconds: f64,
    pub sql: &'a str,
}

impl Report<'_> {
    pub fn page(&self) -> String {
        let mut page =
            String::from("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>");
        let record = self.record;
        let from = clock::text(record.first_ms.unwrap_or(0));
        write_all(
            &mut page,
            format_args!("<title>Fleet report</title><style>{STYLE}</style></head><body><main>"),
        );
        write_all(
            &mut page,
            format_args!(
                "<h1>Fleet report</h1><p>{} components, {from} to {}, in slots of {} minutes.</p>",
                record.components.len(),
                clock::text(record.last_ms),
                self.slot_ms / 60_000
            ),
        );
        self.tiles(&mut page);
        self.fleet(&mut page);
        self.case(&mut page);
        self.examples(&mut page);
        if let Some((name, metric)) = evolution::choose(record) {
            section(
                &mut page,
                "A model that follows its component",
                "Levels move slowly while work goes on. The model lets its oldest slots go, takes new ones in and is \
                 built anew (ticks below), so that the move is learned and nothing is raised.",
                &evolution::draw(record, name, metric),
            );
        }
        let sql = format!("<pre>{};</pre>", escaped(self.sql));
        section(&mut page, "How it was asked", "The whole pipeline in SQL.", &sql);
        page.push_str("</main></body></html>\n");
        page
    }

    fn tiles(&self, page: &mut String) {
        let (judged, steady) = self.record.judged_and_steady();
        let values = self.record.slots * self.record.metrics.len();
        let at_first = self.record.steady_at_first();
        let text = format!("components steady after training, {steady} at the end");
        let mut tiles = vec![(format!("{at_first} of {judged}"), text)];
        if self.summary.outcomes.is_empty() {
            tiles.push((self.summary.episodes.len().to_string(), "runs of alarms".to_owned()));
        } else {
            let incidents = self.summary.outcomes.len();
            tiles.push((
                format!("{} of {incidents}", self.summary.found()),
                "incidents found".to_owned(),
            ));
            if let Some(minutes) = self.summary.lead_minutes() {
                tiles.push((format!("{minutes} min"), "median lead over thresholds".to_owned()));
            }
            let days = self.summary.watched_days;
            let text = format!("false alarms in {days:.0} component days");
            tiles.push((self.summary.false_alarms().to_string(), text));
        }
        let rate = values as f64 / self.seconds.max(0.001) / 1e6;
        let text = format!("{:.1} million values in {:.1} s", values as f64 / 1e6, self.seconds);
        tiles.push((format!("{rate:.2} M/s"), text));
        page.push_str("<div class='tiles'>");
        for (number, text) in tiles {
            write_all(
                page,
                format_args!("<div class='tile'><b>{number}</b><span>{text}</span></div>"),
            );
        }
        page.push_str("</div>");
    }

    fn fleet(&self, page: &mut String) {
        let (record, summary) = (self.record, self.summary);
        if !summary.episodes.is_empty() || !summary.outcomes.is_empty() {
            let mut keys = String::new();
            for state in [0, 1, 2, 3, -1] {
                let name = if state < 0 { "none (#-1)".to_owned() } else { format!("#{state}") };
                let color = svg::state_color(state);
                write_all(
                    &mut keys,
                    format_args!("<i class='key' style='background:{color}'></i>{name}"),
                );
            }
            let text = format!(
                "Components that had an incident (bold) or an alarm. Red: alarms. Frame: the incident; triangle: the \
                 first broken threshold. Below, the state of each slot:{keys}"
            );
            section(page, "Alarms", &text, &timeline::draw(record, summary, self.slot_ms));
        }
        page.push_str("<div class='pair'>");
        section(
            page,
            "Which components are steady",
            "A component has converged when its last state has appeared. Those that did early enough are watched; \
             the others are looked at again later. Models that have slid on begin with slots in which all states are \
             known, so that the curve at the end is steep.",
            &convergence::draw(record, self.steady_threshold),
        );
        if !summary.outcomes.is_empty() {
            section(
                page,
                "How much earlier",
                "From the beginning of each incident to the first alarm, and to the first broken threshold.",
                &timeline::draw_leads(summary),
            );
        }
        page.push_str("</div>");
    }

    fn case(&self, page: &mut String) {
        let Some(outcome) = case::choose(self.record, self.summary) else { return };
        let Some(case) = case::Case::new(self.record, outcome, self.slot_ms) else { return };
        let known = &outcome.known;
        let title = format!("A case: {}, {}", known.component, known.fault);
        let alarm = self.record.alarms.iter().find(|alarm| {
            alarm.component == known.component && Some(alarm.time_ms) == outcome.alarm_ms
        });
        let said = alarm.map_or(String::new(), |alarm| {
            format!(
                "The first alarm said: {}. States of its window: {}.",
                escaped(&alarm.explanation),
                escaped(&alarm.window)
            )
        });
        section(page, &escaped(&title), &said, &case.draw_series());
        section(
            page,
            "How it behaved",
            "Shares of states, and of moves from one slot to the next, in the alarm's window and since.",
            &case.draw_behaviour(),
        );
        section(
            page,
            "States since the alarm",
            "Cumulative shares from the beginning of the alarm's window on.",
            &case.draw_cumulative(),
        );
    }

    fn examples(&self, page: &mut String) {
        let names = clusters::examples(self.record, self.summary, EXAMPLES);
        if names.is_empty() {
            return;
        }
        let mut cards = String::from("<div class='cards'>");
        for name in names {
            write_all(&mut cards, format_args!("<div>{}</div>", clusters::draw(self.record, name)));
        }
        cards.push_str("</div>");
        section(
            page,
            "States of some steady components",
            "Each point is a slot, coloured by its state, in the two metrics that tell the states apart best. Below: \
             shares of moves from one slot to the next, in the model as it stands at the end.",
            &cards,
        );
    }
}

fn section(page: &mut String, title: &str, text: &str, content: &str) {
    write_all(page, format_args!("<section><h2>{title}</h2><p>{text}</p>{content}</section>"));
}

fn write_all(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes everything");
}

/// The class of a component, as its name has it before the number.
pub fn class_of(name: &str) -> &str {
    name.rsplit_once(['-', '_']).map_or(name, |(class, _)| class)
}
