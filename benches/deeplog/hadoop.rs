//! Hadoop, as an honest second set: most of its abnormal sessions have the keys of normal ones.

use std::collections::BTreeSet;

use driftline_operators::detectors::deeplog::{KeyModel, KeyModelKind, SessionJudgement};

use super::Asked;
use super::data::{Judged, Session, figure, folder, sessions, settings, train, whole};

pub(crate) fn report(asked: Asked) {
    let Some(folder) = folder("log_sequences_ait") else { return };
    let read = |name: &str| sessions(&folder.join("hadoop_loghub").join(name), Some(1), false);
    let (learned, normal) = (read("hadoop_train"), read("hadoop_test_normal"));
    let odd = read("hadoop_test_abnormal");
    let usual: BTreeSet<&Session> = normal.iter().chain(&learned).collect();
    let alike = odd.iter().filter(|session| usual.contains(session)).count();
    let (p, n) = (odd.len() as f64, normal.len() as f64);
    println!("Hadoop: {} sessions to learn from, {p} abnormal and {n} normal ones", learned.len());
    println!(
        "  {alike} of the abnormal ones have the keys of a normal one: no model of keys can tell"
    );
    println!("  flagging everything: F1 {:.4}", 2.0 * p / (2.0 * p + n));
    let judge = |model: &mut KeyModel| {
        let mut once = |sessions: &[Session]| {
            model.judge(sessions).into_iter().map(|judgement| (judgement, 1.0)).collect()
        };
        Judged::new(once(&normal), once(&odd))
    };
    let mut found = Vec::new();
    for (name, kind, seeds) in
        [("n-gram", KeyModelKind::Ngram, 1), ("network", KeyModelKind::Lstm, asked.seeds)]
    {
        for seed in 1..=seeds {
            let (mut model, _) = train(&learned, &settings(kind, true, seed, asked.epochs));
            let judged = judge(&mut model);
            if kind == KeyModelKind::Ngram {
                judged.print("unseen key", |s| s.unseen > 0);
                judged.print("unseen key, length or counts", whole(&model));
            }
            let (top, end) = (model.top() as u32, model.end_bound());
            let is_odd = |s: &SessionJudgement| s.unseen > 0 || s.rank_max > top || s.end_nll > end;
            let f1 = judged.print(&format!("{name}, top {top} of training, seed {seed}"), is_odd);
            if kind == KeyModelKind::Lstm {
                found.push(f1);
            }
        }
    }
    figure("hadoop_f1_topg", &found, "F1, bounds by training alone");
}
