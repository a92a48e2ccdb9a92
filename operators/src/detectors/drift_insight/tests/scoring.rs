//! What is anomalous, how much, and by which evidence.

use super::*;

/// A component with a model in force, and its noise.
fn trained(options: &Options) -> (Component, Noise) {
    let mut noise = Noise(40);
    let mut component = Component::new(&settings(3, options));
    component.feed_all(&two_levels(202, &mut noise));
    assert!(component.model.phase().scores());
    (component, noise)
}

#[test]
fn di_13_di_17_slots_outside_of_all_states_score_by_their_distance() {
    let mut scores = Vec::new();
    for far in [1.0, 2.0, 4.0, 8.0] {
        let (mut component, _) = trained(&small());
        // Below the first level, away from the second.
        let said = component.feed(&[20.0 - 40.0 * far, 60.0 - 120.0 * far, 5.0]);
        assert_eq!((said.state(), &said.extras[1]), (-1, &Extra::Integer(0)));
        assert!(matches!(said.extras[2], Extra::Number(distance) if distance > 1.0));
        scores.push(said.score());
    }
    assert!(scores[0] > 3.0 && scores.is_sorted_by(|a, b| a < b), "{scores:?}");
    let (mut component, _) = trained(&small());
    let usual = component.feed(&[20.0, 60.0, 5.0]);
    assert!(usual.score() < 3.0 && usual.state() == 0, "{usual:?}");
}

#[test]
fn di_15_transitions_out_of_turn_are_anomalous_though_every_state_is_known() {
    let (mut component, mut noise) = trained(&small());
    let mut level = |level: f64| {
        let mut near = || 0.3 * noise.normal();
        component.feed(&[level + near(), 3.0 * level + near(), 5.0 + near()])
    };
    // Levels last for ten slots; here they change with every slot.
    let said: Vec<Said> = (0..12).map(|i| level(if i % 2 == 0 { 60.0 } else { 20.0 })).collect();
    let states: Vec<i64> = said.iter().map(Said::state).collect();
    let (high, low) = (states[0], states[1]);
    assert!(high != low && high >= 0 && low >= 0, "{states:?}");
    assert!(states.chunks(2).all(|pair| pair == [high, low]), "{states:?}");
    let raised = said.iter().filter(|said| said.score() > 3.0).count();
    assert!(raised >= 5, "{raised} of 12 raised");
    let Extra::Text(text) = &said[11].extras[4] else { panic!("no transitions named") };
    let named = format!("{high} to {low}: ");
    assert!(text.contains(&named) && text.contains(" sd)"), "{text}");
}

#[test]
fn di_18_the_metric_at_fault_contributes_most() {
    for metric in 0..3 {
        let (mut component, _) = trained(&small());
        let mut slot = vec![20.0, 60.0, 5.0];
        slot[metric] += 300.0;
        let said = component.feed(&slot);
        let most = (0..3).max_by(|a, b| {
            said.contributions[*a].unwrap().total_cmp(&said.contributions[*b].unwrap())
        });
        assert_eq!(most, Some(metric), "{:?}", said.contributions);
        let Extra::Text(window) = &said.extras[3] else { panic!("no window") };
        assert_eq!(window.split(' ').count(), 10);
        assert!(window.ends_with(" -1"));
    }
}

#[test]
fn di_19_an_alert_tells_shares_since_it_began() {
    let (mut component, mut noise) = trained(&small());
    let quiet = component.feed(&[20.0, 60.0, 5.0]);
    assert_eq!(quiet.extras[5..], [Extra::Null, Extra::Null]);
    component.feed(&[20.0, 60.0, 500.0]);
    let said = component.feed(&[20.0, 60.0, 600.0]);
    assert_eq!(said.extras[5], Extra::Text("-1 100.00 %".into()));
    let transitions = Extra::Text("-1 to -1 50.00 %, 0 to -1 50.00 %".into());
    assert_eq!(said.extras[6], transitions);
    let calm = component.feed_all(&two_levels(20, &mut noise));
    assert_ne!(calm[5].extras[5], Extra::Null);
    assert_eq!(calm[19].extras[5], Extra::Null);
}

#[test]
fn missing_values_are_held_and_are_no_evidence() {
    let (mut component, _) = trained(&small());
    component.feed(&[20.0, 60.0, 5.0]);
    let said = component.feed(&[20.0, f64::NAN, 5.0]);
    assert_eq!((said.state(), said.contributions[1]), (0, None));
    assert!(said.score() < 3.0);
    let nothing = component.feed(&[f64::NAN; 3]);
    assert!(nothing.score.is_none() && nothing.reports.is_empty());
    // A metric that comes later is flat until the next build.
    let mut late = Component::new(&settings(3, &small()));
    for mut slot in two_levels(210, &mut Noise(1)) {
        slot[2] = f64::NAN;
        late.feed(&slot);
    }
    let said = late.feed(&[20.0, 60.0, 1e9]);
    assert!(said.score() < 3.0 && said.contributions[2] == Some(0.0), "{said:?}");
}

#[test]
fn without_its_switch_an_unseen_transition_is_three_deviations() {
    // Three levels in turn, never back.
    let level = |i: usize| [0.0, 100.0, 200.0][i / 5 % 3];
    for (switch, raised) in [(true, true), (false, false)] {
        let options = small().with("unseen_transitions", switch).with("eps", 0.5);
        let mut component = Component::new(&settings(2, &options));
        let mut noise = Noise(50);
        for i in 0..203 {
            component.feed(&[level(i) + noise.normal(), level(i) - noise.normal()]);
        }
        assert!(component.model.phase().scores());
        // After slot 202 the component is at its second level; the first may not follow.
        assert_eq!((level(202), level(200)), (100.0, 100.0));
        let said = component.feed(&[0.5, 0.5]);
        assert_eq!(said.score() > 3.0, raised, "{said:?}");
    }
}
