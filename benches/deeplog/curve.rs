//! How much training it takes (DL-22): F1 by the share of the normal sessions of the full test, which has 558,223 of
//! them, that is learned from.
//!
//! The paper's shares are 0.1, 0.5, 1 and 5 percent. There are 4,855 sessions to learn from, .87 %; so that stands for 1 %,
//! and 5 % cannot be had. A smaller share is learned twice: its sessions the first that there are, as where training ends
//! sooner; and spread over all, as a random sample is. Bounds are those of other sessions held out, which are the same for
//! all shares, or those that the model sets by its own training alone.

use driftline_operators::detectors::deeplog::{KeyModelKind, SessionJudgement};

use super::Asked;
use super::data::{FALSE_ALARMS, Hdfs, Session, figure, mean_and_spread, settings, train, whole};

const NORMAL_OF_ALL: f64 = 558_223.0;

/// So many of the sessions, each the same number apart.
fn spread(all: &[Session], count: usize) -> Vec<Session> {
    (0..count).filter_map(|i| all.get(i * all.len() / count.max(1))).cloned().collect()
}

pub(crate) fn report(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let count = |percent: f64| (NORMAL_OF_ALL * percent / 100.0) as usize;
    let first = |percent| data.train[..count(percent).min(data.train.len())].to_vec();
    let shares = [
        ("0.1_first", first(0.1)),
        ("0.1_spread", spread(&data.train, count(0.1))),
        ("0.5_first", first(0.5)),
        ("0.5_spread", spread(&data.train, count(0.5))),
        ("0.87_all", data.train.clone()),
    ];
    println!(
        "learning curve: {} trainings; 5 % of the sessions are not in the data",
        shares.len() as u64 * asked.seeds
    );
    for (name, sessions) in shares {
        let trained = |kind, seed| train(&sessions, &settings(kind, true, seed, asked.epochs));
        println!("  {name} percent: {} sessions", sessions.len());
        let (mut ngram, _) = trained(KeyModelKind::Ngram, 1);
        let judged = data.judge(&mut ngram);
        judged.print("unseen key", |s| s.unseen > 0);
        judged.print("unseen key or length", |s| s.unseen > 0 || s.length_is_odd);
        judged.print("unseen key, length or counts", whole(&ngram));
        let (end, top, rule) = judged.settle(FALSE_ALARMS);
        let control =
            judged.print(&format!("n-gram of 10, top {top}, end {end}"), |s| rule(s, top));
        figure(&format!("curve_{name}_ngram"), &[control], "F1");
        let (mut found, mut alone, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 1..=asked.seeds {
            let (mut model, took) = trained(KeyModelKind::Lstm, seed);
            seconds.push(took);
            let judged = data.judge(&mut model);
            let (end, top, rule) = judged.settle(FALSE_ALARMS);
            found.push(judged.print(&format!("network, top {top}, end {end}"), |s| rule(s, top)));
            let (top, end) = (model.top() as u32, model.end_bound());
            let rule = |s: &SessionJudgement| s.unseen > 0 || s.rank_max > top || s.end_nll > end;
            alone.push(judged.print(&format!("network, top {top} and end of training"), rule));
        }
        println!("  {:.0} s for each training", mean_and_spread(&seconds).0);
        figure(&format!("curve_{name}_lstm"), &found, "F1, bounds by other sessions");
        figure(&format!("curve_{name}_lstm_alone"), &alone, "F1, bounds by training alone");
    }
}
