//! How much training it takes (DL-22), and what history, top, layers and units do (DL-06).

use driftline_operators::detectors::deeplog::{
    KeyModelKind, KeySettings, NetworkSettings, SessionJudgement,
};

use super::Asked;
use super::data::{FALSE_ALARMS, Hdfs, Session, figure, settings, train};

/// F1 by shares of the normal sessions of the full test, which has 558,223 of them.
pub(crate) fn report(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    println!("learning curve: top and the bound of ends chosen by sessions held out");
    for percent in [0.1, 0.2, 0.5, 0.87] {
        let count = ((558_223.0 * percent / 100.0) as usize).min(data.train.len());
        let step = data.train.len() / count;
        // Spread over the file, as the sessions in it are in order of time.
        let some: Vec<Session> = data.train.iter().step_by(step).take(count).cloned().collect();
        for kind in [KeyModelKind::Lstm, KeyModelKind::Ngram] {
            let mut found = Vec::new();
            for seed in 1..=if kind == KeyModelKind::Lstm { asked.seeds } else { 1 } {
                let (mut model, _) = train(&some, &settings(kind, true, seed, asked.epochs));
                let judged = data.judge(&mut model);
                let (_, top, rule) = judged.settle(FALSE_ALARMS);
                found.push(judged.f1(|s| rule(s, top)).2);
            }
            figure(&format!("curve_{percent}_percent_{kind:?}"), &found, "F1");
        }
    }
}

/// F1 at every top, with one setting moved at a time.
pub(crate) fn sweep(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let base = settings(KeyModelKind::Lstm, true, 1, asked.epochs);
    let network = |network: NetworkSettings| KeySettings { network, ..base };
    let mut settings: Vec<(String, KeySettings)> = Vec::new();
    for history in [1, 2, 3, 5, 7, 10, 12, 15] {
        settings.push((format!("h {history:>2}"), KeySettings { history, ..base }));
        let control = KeySettings { model: KeyModelKind::Ngram, history, ..base };
        settings.push((format!("h {history:>2} n-gram"), control));
    }
    for layers in [1, 3] {
        settings.push((
            format!("layers {layers}"),
            network(NetworkSettings { layers, ..base.network }),
        ));
    }
    for hidden in [32, 128, 256] {
        settings
            .push((format!("units {hidden}"), network(NetworkSettings { hidden, ..base.network })));
    }
    for repeats_power in [0.0, 0.5, 1.0] {
        let changed = NetworkSettings { repeats_power, ..base.network };
        settings.push((format!("repeats to the power of {repeats_power}"), network(changed)));
    }
    for (name, settings) in settings {
        let (mut model, took) = train(&data.train, &settings);
        let judged = data.judge(&mut model);
        let (end, chosen, rule) = judged.settle(FALSE_ALARMS);
        let f1 = judged.f1(|s: &SessionJudgement| rule(s, chosen)).2;
        println!("  {name:<32} {took:>5.0} s  chosen top {chosen}, end {end}: {f1:.4}");
        println!("    by top: {}", judged.by_top(rule));
    }
}
