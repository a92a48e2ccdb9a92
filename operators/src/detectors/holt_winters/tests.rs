//! Proves that the season is learned, by rows and by time, and that what is normal at one hour is not at another.

use super::*;

const HOUR_NS: i64 = 3_600_000_000_000;

fn settings(season: Season) -> Settings {
    Settings {
        season,
        alpha: 0.2,
        beta: 0.02,
        gamma: 0.2,
        damping: 0.98,
        warm_up: 24,
        floor: ScaleFloor::DEFAULT,
    }
}

/// A day with a bump at noon, and a little noise that repeats only after a long time.
fn value(hour: i64) -> f64 {
    let of_day = (hour.rem_euclid(24) - 12) as f64;
    let noise = (hour * 7_919).rem_euclid(101) as f64 / 101.0;
    100.0 * (-of_day * of_day / 8.0).exp() + noise
}

fn score(model: &Smoothing, settings: &Settings, hour: i64, value: f64) -> f64 {
    let Forecast { expected, scale } = model.forecast(settings, EventTime(hour * HOUR_NS)).unwrap();
    (value - expected).abs() / scale
}

#[test]
fn noon_is_normal_at_noon_only() {
    let day = Season::Interval { length_ns: 24 * HOUR_NS, slots: 24 };
    for season in [Season::Rows(24), day] {
        let settings = settings(season);
        let mut model = Smoothing::new(&settings);
        for hour in 0..20 * 24 {
            model.learn(&settings, EventTime(hour * HOUR_NS), value(hour));
        }
        for hour in 20 * 24..21 * 24 {
            assert!(score(&model, &settings, hour, value(hour)) < 6.0, "{season:?} hour {hour}");
            if !(20 * 24 + 8..20 * 24 + 17).contains(&hour) {
                assert!(score(&model, &settings, hour, 100.0) > 20.0, "{season:?} hour {hour}");
            }
            model.learn(&settings, EventTime(hour * HOUR_NS), value(hour));
        }
    }
}

#[test]
fn gaps_do_not_shift_a_season_of_time_and_passed_rows_not_one_of_rows() {
    let day = Season::Interval { length_ns: 24 * HOUR_NS, slots: 24 };
    for season in [Season::Rows(24), day] {
        let settings = settings(season);
        let mut model = Smoothing::new(&settings);
        for hour in 0..20 * 24 {
            let time = EventTime(hour * HOUR_NS);
            match season {
                _ if !(hour > 200 && hour % 31 == 0) => model.learn(&settings, time, value(hour)),
                Season::Rows(_) => model.pass(&settings, time),
                _ => {}
            }
        }
        let noon = 20 * 24 + 12;
        (20 * 24..noon)
            .for_each(|hour| model.learn(&settings, EventTime(hour * HOUR_NS), value(hour)));
        assert!(score(&model, &settings, noon, value(noon)) < 6.0, "{season:?}");
        assert!(score(&model, &settings, noon, 0.0) > 20.0, "{season:?}");
    }
}

#[test]
fn a_trend_is_followed() {
    let settings = settings(Season::None);
    let mut model = Smoothing::new(&settings);
    for row in 0..600_i64 {
        model.learn(&settings, EventTime(row), row as f64 * 3.0 + value(row * 24) * 10.0);
    }
    let next = 600.0 * 3.0 + value(600 * 24) * 10.0;
    assert!(score(&model, &settings, 600, next) < 6.0);
    assert!(score(&model, &settings, 600, next + 100.0) > 6.0);
}

#[test]
fn scores_begin_after_a_season_and_the_warm_up() {
    let settings = settings(Season::Rows(48));
    let mut model = Smoothing::new(&settings);
    let learned = (0..200).take_while(|row| {
        model.learn(&settings, EventTime(*row), value(*row));
        !model.is_ready(&settings)
    });
    assert_eq!(learned.count() + 1, 48 + 24);
}
