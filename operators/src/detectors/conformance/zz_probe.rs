use super::fixture::*;
use crate::detectors::builtin_kinds;
#[test]
#[ignore]
fn probe_speed() {
    for keys in [1usize, 10_000] {
    for kind in builtin_kinds() {
        let setup = Setup { models_max: 100_000, ..Setup::with("features", "cpu") };
        let mut detector = setup.detector(&*kind);
        let mut noise = Noise(7);
        let per = 8192; let batches = 60;
        let data: Vec<_> = (0..batches).map(|b| { let mut r = Rows::default(); for i in 0..per { let n = b * per + i; r.push(&format!("component-{}", n % keys), n as i64, 50.0 + noise.normal(), 1.0); } r.batch() }).collect();
        let mut out = Vec::new();
        let t = std::time::Instant::now();
        for b in &data { detector.process(b, &mut out).unwrap(); out.clear(); }
        let e = t.elapsed();
        let st = detector.statistics();
        println!("{} keys={keys}: {:.0} rows/s, bytes/key {}", kind.name(), (per * batches) as f64 / e.as_secs_f64(), st.bytes / st.models);
    } }
}
