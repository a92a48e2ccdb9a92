//! The life of a component's model: discovery, evolution, snapshots, and what the side relations say of them.

use super::*;

#[test]
fn di_11_steady_components_are_scored_and_a_random_walk_is_left_out() {
    let settings = settings(3, &small());
    let mut steady = Component::new(&settings);
    let mut noise = Noise(3);
    let said = steady.feed_all(&two_levels(260, &mut noise));
    let phases: Vec<Phase> = said.iter().map(|said| said.phase).collect();
    assert!(phases[..200].iter().all(|phase| *phase == Phase::WarmingUp));
    assert_eq!(phases[200], Phase::Training);
    assert!(said[201..].iter().all(|said| said.phase.scores() && said.score.is_some()));
    let entered: Vec<&Report> = said.iter().flat_map(|said| said.rows_of(5)).collect();
    assert_eq!((entered.len(), entered[0].change), (1, 1));

    // Three days of 5 minutes, and tried again after each 488 slots.
    let settings = self::settings(3, &Options::new());
    let mut walking = Component::new(&settings);
    let mut at = [0.0; 3];
    let mut builds = 0;
    for slot in 0..2_400 {
        at.iter_mut().for_each(|x| *x += noise.normal());
        let said = walking.feed(&at);
        assert_eq!(said.score, None, "slot {slot}");
        builds += said.rows_of(2).len();
        for report in said.rows_of(2) {
            assert_eq!(report.values[6], Extra::Flag(false));
        }
        assert!(said.rows_of(5).is_empty());
    }
    assert_eq!(builds, 1 + (2_400 - 864 - 2) / 488);
    assert_eq!(walking.model.rebuilds().count, builds as u64);
}

#[test]
fn di_11_walks_are_left_out_whatever_their_seed() {
    let settings = settings(3, &Options::new());
    let is_left_out = |seed: &u64| {
        let mut noise = Noise(*seed);
        let mut walking = Component::new(&settings);
        let mut at = [0.0; 3];
        let built = (0..866).flat_map(|_| {
            at.iter_mut().for_each(|x| *x += noise.normal());
            walking
                .feed(&at)
                .rows_of(2)
                .into_iter()
                .map(|row| row.values[6].clone())
                .collect::<Vec<_>>()
        });
        built.eq([Extra::Flag(false)])
    };
    let left_out = (1..=30).filter(is_left_out).count();
    assert!(left_out >= 28, "{left_out} of 30 walks were left out");
}

#[test]
fn di_11_a_component_that_settles_later_is_found_when_it_is_tried_again() {
    let settings = settings(3, &small());
    let mut component = Component::new(&settings);
    let mut noise = Noise(8);
    // Another level every ten slots.
    let mut slots: Vec<Vec<f64>> = (0..200)
        .map(|i| (0..3).map(|_| f64::from(i / 10) * 40.0 + noise.normal()).collect())
        .collect();
    slots.extend(two_levels(500, &mut noise));
    let said = component.feed_all(&slots);
    assert!(said[202].score.is_none() && said[699].score.is_some());
    let phases: Vec<Phase> = said.iter().map(|said| said.phase).collect();
    assert!(phases.windows(2).all(|pair| pair[0].may_become(pair[1])));
}

#[test]
fn di_20_the_old_level_is_forgotten_and_the_batch_keeps_its_length() {
    let settings = settings(3, &small());
    let mut component = Component::new(&settings);
    let mut noise = Noise(21);
    component.feed_all(&two_levels(300, &mut noise));
    let before = component.model.version();
    let shifted: Vec<Vec<f64>> = two_levels(900, &mut noise)
        .into_iter()
        .map(|slot| slot.into_iter().map(|x| x + 500.0).collect())
        .collect();
    let said = component.feed_all(&shifted);
    assert!(said[0].score() > 3.0, "the shift itself");
    assert!(component.model.version() > before + 2);
    let raised = said[500..].iter().filter(|said| said.score() > 3.0).count();
    assert!(raised < 20, "{raised} slots raised once the new level is all there is");
    for report in said.iter().flat_map(|said| said.rows_of(2)) {
        assert_eq!(report.values[1], Extra::Integer(200));
    }
    // The level of before is as odd now as the new one was then.
    let back = component.feed(&[20.0, 60.0, 5.0]);
    assert!(back.score() > 3.0 && back.state() == -1);
}

#[test]
fn di_20_models_count_from_a_slot_that_the_rows_declare() {
    for swap_after in [0, 1, 7] {
        let options = small().with("swap_after", swap_after).with("evolve_share", 0.25);
        let settings = settings(3, &options.with("steady_threshold", 200));
        let mut component = Component::new(&settings);
        let said = component.feed_all(&two_levels(600, &mut Noise(2)));
        let first = said.iter().position(|said| said.version == 1).unwrap();
        assert_eq!(first, 200 + swap_after as usize);
        let training = said.iter().filter(|said| said.phase == Phase::Training).count();
        assert_eq!(training, swap_after as usize);
        for (i, pair) in said.windows(2).enumerate() {
            let swapped = pair[0].version != pair[1].version;
            assert_eq!(swapped, !pair[0].rows_of(1).is_empty(), "slot {i}");
        }
    }
}

/// Runs every job at once on a thread of its own.
#[derive(Debug)]
struct Threads;

impl Executor for Threads {
    fn spawn(&self, job: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(job);
    }

    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

#[test]
fn answers_do_not_depend_on_who_builds() {
    let slots = two_levels(700, &mut Noise(77));
    let lazy = Component::new(&settings(3, &small())).feed_all(&slots);
    let threads = settings_on(3, &small(), Arc::new(Threads));
    assert_eq!(Component::new(&threads).feed_all(&slots), lazy);
}

#[test]
fn a_restored_model_goes_on_as_if_uninterrupted() {
    let options = small().with("swap_after", 5).with("training", 100);
    let settings = settings(3, &options);
    let mut noise = Noise(12);
    let mut slots = two_levels(330, &mut noise);
    for slot in (150..330).step_by(41) {
        slots[slot][1] += 400.0;
        slots[slot + 2][0] = f64::NAN;
    }
    let whole = Component::new(&settings).feed_all(&slots);
    let mut component = Component::new(&settings);
    let mut building = 0;
    for (i, slot) in slots.iter().enumerate() {
        let mut restored = component.restored(&settings);
        assert_eq!(restored.snapshot(), component.snapshot(), "slot {i}");
        assert_eq!(restored.feed(slot), whole[i], "slot {i}");
        if i % 11 == 0 {
            assert_eq!(restored.feed_all(&slots[i + 1..]), whole[i + 1..], "from slot {i}");
        }
        building += usize::from(matches!(whole[i].phase, Phase::Training | Phase::Retraining));
        component.feed(slot);
    }
    assert!(building > 10, "restored {building} times while a model was built");
}

#[test]
fn a_damaged_snapshot_is_refused_or_harmless() {
    let options = Options::new().with("training", 20).with("evolve_min", 4).with("swap_after", 3);
    let settings = settings(2, &options.with("min_points", 3));
    let mut component = Component::new(&settings);
    let mut noise = Noise(9);
    for _ in 0..26 {
        component.feed(&[noise.normal(), 5.0]);
    }
    assert_eq!(component.model.phase(), Phase::Retraining);
    let good = component.snapshot();
    let mut read = 0;
    for at in 0..good.len() {
        assert!(DriftModel::restore(Arc::clone(&settings), &good[..at]).is_err());
        for bit in [1, 0x10, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= bit;
            if let Ok(model) = DriftModel::restore(Arc::clone(&settings), &bytes) {
                read += 1;
                let mut component = Component { model, ..Component::new(&settings) };
                for _ in 0..30 {
                    component.feed(&[noise.normal(), 7.0]);
                }
            }
        }
    }
    assert!(read > 0);
    let other = settings_of(&[("training", 21)]);
    assert!(DriftModel::restore(other, &good).is_err());
}

fn settings_of(options: &[(&str, i64)]) -> Arc<Settings> {
    let set = |options: Options, (name, value): &(&str, i64)| options.with(name, *value);
    settings(2, &options.iter().fold(Options::new(), set))
}

#[test]
fn di_22_anomalous_slots_are_learned_or_not() {
    for (learning, expected) in [(Learning::All, true), (Learning::Normal, false)] {
        let settings = settings(3, &small());
        let mut component = Component::new(&settings);
        component.learning = learning;
        let mut noise = Noise(31);
        component.feed_all(&two_levels(260, &mut noise));
        for _ in 0..60 {
            component.feed_all(&two_levels(3, &mut noise));
            // The same odd place again and again.
            component.feed(&[300.0 + noise.normal(), 900.0 + noise.normal(), 80.0]);
        }
        let odd = component.feed(&[300.0, 900.0, 80.0]);
        let is_known = odd.state() != -1;
        assert_eq!(is_known, expected, "{learning:?}: state {}", odd.state());
    }
}

#[test]
fn side_relations_add_up_to_the_batch_of_the_model_in_force() {
    let settings = settings(3, &small());
    let mut component = Component::new(&settings);
    let mut counts: BTreeMap<(usize, Vec<String>), i64> = BTreeMap::new();
    let (mut noise, mut series) = (Noise(4), 0);
    let mut slots = two_levels(500, &mut noise);
    slots
        .extend(two_levels(400, &mut noise).into_iter().map(|slot| vec![slot[0] + 90.0, 1.0, 2.0]));
    for said in component.feed_all(&slots) {
        series += said.rows_of(0).len();
        assert_eq!(said.rows_of(0).len(), usize::from(said.score.is_some()));
        for report in said.reports.into_iter().filter(|report| report.relation >= 3) {
            let values = report.values.iter().map(|value| format!("{value:?}")).collect();
            let count = counts.entry((report.relation, values)).or_default();
            *count += report.change;
            assert!(*count >= 0);
        }
    }
    assert!(series > 600);
    let total = |relation: usize| -> i64 {
        counts.iter().filter(|((r, _), _)| *r == relation).map(|(_, count)| count).sum()
    };
    assert_eq!([3, 4, 5, 6].map(total), [199, 200, 1, 1]);
    counts.retain(|_, count| *count > 0);

    let model = component.model.in_force().unwrap();
    let states = &model.core.states;
    let integer = |state: i32| format!("{:?}", Extra::Integer(state.into()));
    let mut recount: BTreeMap<(usize, Vec<String>), i64> = BTreeMap::new();
    for state in states {
        *recount.entry((4, vec![integer(*state)])).or_default() += 1;
    }
    for pair in states.windows(2) {
        *recount.entry((3, vec![integer(pair[0]), integer(pair[1])])).or_default() += 1;
    }
    let counted = counts.into_iter().filter(|((relation, _), _)| *relation < 5).collect();
    assert_eq!(recount, counted);
}

#[test]
fn memory_of_a_component_stays_far_below_100_kb() {
    let settings = settings(12, &Options::new());
    let mut component = Component::new(&settings);
    let mut noise = Noise(6);
    let mut most = 0;
    for slot in 0..2_000 {
        let level = if slot / 50 % 3 == 0 { 0.0 } else { 30.0 };
        let features: Vec<f64> = (0..12).map(|_| level + noise.normal()).collect();
        component.feed(&features);
        if slot > 1_000 && component.model.phase() == Phase::Detecting {
            most = most.max(component.model.bytes());
        }
    }
    assert!((40_000..70_000).contains(&most), "{most} bytes");
}
