//! The table of the HDFS protocols (spec 5.1), beside baselines that need no network.

use driftline_operators::detectors::deeplog::{KeyModelKind, KeySettings, SessionJudgement};

use super::Asked;
use super::data::{
    FALSE_ALARMS, FALSE_ALARMS_LAX, Hdfs, NORMAL, TOPS, figure, settings, surprises, train, whole,
};

pub(crate) fn report(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    println!("flagging everything: F1 {:.4}", 2.0 * 16_838.0 / (2.0 * 16_838.0 + NORMAL));
    println!("baselines (false alarms and misses weighted; F1 over distinct sessions beside)");
    baselines(&data);

    let tops: Vec<u32> = TOPS.collect();
    let (mut skipped, mut flagged, mut framed, mut lax) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut together, mut seconds) = (Vec::new(), Vec::new());
    for seed in 1..=asked.seeds {
        println!("seed {seed}");
        // Protocols (a) and (b): no markers; a session of up to ten keys is skipped, or flagged.
        let with = |framed: bool| KeySettings {
            history: asked.history,
            ..settings(KeyModelKind::Lstm, framed, seed, asked.epochs)
        };
        let plain = with(false);
        let (mut model, _) = train(&data.train, &plain);
        let judged = data.judge(&mut model);
        let keys = |s: &SessionJudgement, top: u32| s.unseen > 0 || s.rank_max > top;
        let short =
            |s: &SessionJudgement, top: u32| s.entries as usize <= asked.history || keys(s, top);
        let long =
            |s: &SessionJudgement, top: u32| s.entries as usize > asked.history && keys(s, top);
        println!("  by top, short sessions flagged: {}", judged.by_top(short));
        let top = judged.choose(FALSE_ALARMS, &tops, short);
        let name = format!("(a) top {top}, short sessions skipped");
        skipped.push(judged.print(&name, |s| long(s, top)));
        let name = format!("(b) top {top}, short sessions flagged");
        flagged.push(judged.print(&name, |s| short(s, top)));
        // Protocol (c): begin markers, and the end as a key.
        let (mut model, took) = train(&data.train, &with(true));
        seconds.push(took);
        println!("  trained in {took:.1} s");
        let judged = data.judge(&mut model);
        for (share, figures) in [(FALSE_ALARMS, &mut framed), (FALSE_ALARMS_LAX, &mut lax)] {
            let (end, top, rule) = judged.settle(share);
            println!("  by top, begin and end: {}", judged.by_top(rule));
            let percent = 100.0 * share;
            let name = format!("(c) top {top}, end {end}, by {percent:.2} % of others");
            figures.push(judged.print(&name, |s| rule(s, top)));
        }
        let bound = judged.choose(FALSE_ALARMS, &surprises(), |s, bound| s.nll_max > bound);
        judged.print(&format!("(c) greatest surprise {bound}"), |s| {
            s.unseen > 0 || s.nll_max > bound
        });
        // What the option `combined` says. It chooses nothing by sessions held out, so that all of them are tested.
        let (invariants, beyond) = (whole(&model), model.beyond_bound());
        let name = format!("combined, greatest surprise {beyond:.1}");
        together.push(judged.of_all().print(&name, |s| invariants(s) || s.nll_max > beyond));
    }
    figure("hdfs_f1_topg", &framed, "F1, begin and end");
    figure("hdfs_f1_topg_laxer_share", &lax, "F1, begin and end");
    figure("hdfs_f1_topg_short_flagged", &flagged, "F1");
    figure("hdfs_f1_topg_short_skipped", &skipped, "F1");
    figure("hdfs_f1_combined", &together, "F1");
    figure("train_seconds", &seconds, "s");
}

fn baselines(data: &Hdfs) {
    let ngram = |history: usize| {
        let base = settings(KeyModelKind::Ngram, true, 1, 1);
        train(&data.train, &KeySettings { history, ..base }).0
    };
    let mut model = ngram(10);
    let judged = data.judge(&mut model);
    let trivial = [
        judged.print("unseen key", |s| s.unseen > 0),
        judged.print("length outside training", |s| s.length_is_odd),
        judged.print("unseen key or length", |s| s.unseen > 0 || s.length_is_odd),
    ];
    let invariants = judged.of_all().print("unseen key, length or counts", whole(&model));
    for history in [1, 2, 3, 10] {
        let judged = data.judge(&mut ngram(history));
        let (end, top, rule) = judged.settle(FALSE_ALARMS);
        judged.print(&format!("n-gram of {history}, top {top}, end {end}"), |s| rule(s, top));
    }
    println!("figure: hdfs_f1_trivial = {:.4} F1", trivial.iter().copied().fold(0.0, f64::max));
    println!("figure: hdfs_f1_invariants = {invariants:.4} F1");
}
