//! The usual statistics of one column, all at once.
//!
//! `count`, `sum`, `avg`, `stddev`, `min` and `max` of the same numbers are what telemetry asks for most. One accumulator
//! for each walks the rows as often as there are aggregates, and touches as many arrays for each row; where there are more
//! groups than fit into a cache, each touch is a miss. Here all numbers of a group lie in one cache line.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};

use crate::error::Result;
use crate::expression::{AggregateArguments, GroupAccumulator};

/// What can be asked of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// How many rows there are, whatever is in them.
    Rows,
    /// How many values there are.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// Their variance: of a sample, which is unknown for one value, or of all there is.
    Variance {
        /// Whether the values are a sample.
        sample: bool,
    },
    /// Its square root.
    Deviation {
        /// Whether the values are a sample.
        sample: bool,
    },
}

impl Statistic {
    fn is_spread(self) -> bool {
        matches!(self, Self::Variance { .. } | Self::Deviation { .. })
    }
}

/// Fields of the partial state of [`Moments`].
#[must_use]
pub fn state_fields() -> Fields {
    let count = |name| Field::new(name, DataType::Int64, false);
    let number = |name| Field::new(name, DataType::Float64, false);
    let counts = [count("rows"), count("count")];
    let numbers = ["sum", "mean", "squares", "minimum", "maximum"].map(number);
    counts.into_iter().chain(numbers).collect()
}

/// Statistics of one column of type Float64 over many groups.
#[derive(Debug)]
pub struct Moments {
    statistics: Arc<[Statistic]>,
    has_spread: bool,
    groups: Vec<Moment>,
}

/// A group; a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Moment {
    rows: i64,
    count: i64,
    sum: f64,
    mean: f64,
    /// Squared distances from the mean, summed.
    squares: f64,
    minimum: f64,
    maximum: f64,
}

impl Moment {
    const EMPTY: Self = Self {
        rows: 0,
        count: 0,
        sum: 0.0,
        mean: 0.0,
        squares: 0.0,
        minimum: f64::INFINITY,
        maximum: f64::NEG_INFINITY,
    };

    #[inline]
    fn add<const SPREAD: bool>(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.bound(value, value);
        if SPREAD {
            // Welford's method.
            let before = value - self.mean;
            self.mean += before / self.count as f64;
            self.squares += before * (value - self.mean);
        }
    }

    /// As in DataFusion, what cannot be compared replaces what was there.
    #[inline]
    fn bound(&mut self, minimum: f64, maximum: f64) {
        if !(minimum >= self.minimum) {
            self.minimum = minimum;
        }
        if !(maximum <= self.maximum) {
            self.maximum = maximum;
        }
    }

    /// Adds another group, by the method of Chan, Golub and LeVeque.
    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            // Weights would round the mean: a state that a checkpoint hands back would not be the one it took.
            *self = Self { rows: self.rows, ..*other };
            return;
        }
        let (own, its) = (self.count as f64, other.count as f64);
        self.count += other.count;
        let all = self.count as f64;
        let between = self.mean - other.mean;
        self.squares += other.squares + between * between * own * its / all;
        self.mean = self.mean * own / all + other.mean * its / all;
        self.sum += other.sum;
        self.bound(other.minimum, other.maximum);
    }

    /// The variance, if there are enough values for one.
    fn variance(&self, sample: bool) -> Option<f64> {
        let freedom = self.count - i64::from(sample);
        (freedom > 0).then(|| self.squares / freedom as f64)
    }
}

impl Moments {
    /// An accumulator of these statistics, which [`GroupAccumulator::finish`] gives in this order.
    #[must_use]
    pub fn new(statistics: Arc<[Statistic]>) -> Self {
        let has_spread = statistics.iter().any(|statistic| statistic.is_spread());
        Self { statistics, has_spread, groups: Vec::new() }
    }

    fn add<const SPREAD: bool>(
        &mut self,
        values: &Float64Array,
        filter: Option<&BooleanArray>,
        groups: &[usize],
    ) {
        if values.null_count() == 0 && filter.is_none() {
            for (&group, &value) in groups.iter().zip(values.values()) {
                let moment = &mut self.groups[group];
                moment.rows += 1;
                moment.add::<SPREAD>(value);
            }
            return;
        }
        for (row, &group) in groups.iter().enumerate() {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            let moment = &mut self.groups[group];
            moment.rows += 1;
            if values.is_valid(row) {
                moment.add::<SPREAD>(values.value(row));
            }
        }
    }
}

fn integers(groups: &[Moment], value: impl Fn(&Moment) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(groups.iter().map(value)))
}

fn floats(groups: &[Moment], value: impl Fn(&Moment) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(groups.iter().map(value)))
}

/// Numbers of the groups that have values.
fn known(groups: &[Moment], value: impl Fn(&Moment) -> f64) -> ArrayRef {
    let values = groups.iter().map(value).collect::<Vec<_>>();
    let nulls = groups.iter().map(|group| group.count > 0).collect::<NullBuffer>();
    Arc::new(Float64Array::new(values.into(), (nulls.null_count() > 0).then_some(nulls)))
}

fn statistic(groups: &[Moment], statistic: Statistic) -> ArrayRef {
    match statistic {
        Statistic::Rows => integers(groups, |group| group.rows),
        Statistic::Count => integers(groups, |group| group.count),
        Statistic::Sum => known(groups, |group| group.sum),
        Statistic::Mean => known(groups, |group| group.sum / group.count as f64),
        Statistic::Minimum => known(groups, |group| group.minimum),
        Statistic::Maximum => known(groups, |group| group.maximum),
        Statistic::Variance { sample } => {
            Arc::new(groups.iter().map(|group| group.variance(sample)).collect::<Float64Array>())
        }
        Statistic::Deviation { sample } => {
            let deviation = |group: &Moment| group.variance(sample).map(f64::sqrt);
            Arc::new(groups.iter().map(deviation).collect::<Float64Array>())
        }
    }
}

impl GroupAccumulator for Moments {
    fn update(
        &mut self,
        arguments: &AggregateArguments,
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.groups.resize(group_count.max(self.groups.len()), Moment::EMPTY);
        let values = arguments.values[0].as_primitive::<Float64Type>();
        match self.has_spread {
            true => self.add::<true>(values, arguments.filter.as_ref(), groups),
            false => self.add::<false>(values, arguments.filter.as_ref(), groups),
        }
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        self.groups.resize(group_count.max(self.groups.len()), Moment::EMPTY);
        let counts = [0, 1].map(|column: usize| state[column].as_primitive::<Int64Type>().values());
        let numbers = [2, 3, 4, 5, 6]
            .map(|column: usize| state[column].as_primitive::<Float64Type>().values());
        for (row, &group) in groups.iter().enumerate() {
            self.groups[group].merge(&Moment {
                rows: counts[0][row],
                count: counts[1][row],
                sum: numbers[0][row],
                mean: numbers[1][row],
                squares: numbers[2][row],
                minimum: numbers[3][row],
                maximum: numbers[4][row],
            });
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        let groups = &self.groups;
        let state = vec![
            integers(groups, |group| group.rows),
            integers(groups, |group| group.count),
            floats(groups, |group| group.sum),
            floats(groups, |group| group.mean),
            floats(groups, |group| group.squares),
            floats(groups, |group| group.minimum),
            floats(groups, |group| group.maximum),
        ];
        self.groups.clear();
        Ok(state)
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let results = self.statistics.iter().map(|asked| statistic(&self.groups, *asked)).collect();
        // The next window may have as many groups, and finds room for them; one that had far fewer gives room back.
        self.groups.shrink_to(self.groups.len().saturating_mul(4));
        self.groups.clear();
        Ok(results)
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Moment>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Statistic; 9] = [
        Statistic::Rows,
        Statistic::Count,
        Statistic::Sum,
        Statistic::Mean,
        Statistic::Minimum,
        Statistic::Maximum,
        Statistic::Variance { sample: true },
        Statistic::Variance { sample: false },
        Statistic::Deviation { sample: true },
    ];

    fn arguments(values: &[Option<f64>], filter: Option<Vec<bool>>) -> AggregateArguments {
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        AggregateArguments { values: vec![values], filter: filter.map(BooleanArray::from) }
    }

    fn finished(moments: &mut Moments) -> Vec<Vec<Option<f64>>> {
        let columns = moments.finish().unwrap().into_iter();
        let read = |column: ArrayRef| {
            let column = arrow::compute::cast(&column, &DataType::Float64).unwrap();
            column.as_primitive::<Float64Type>().iter().collect()
        };
        columns.map(read).collect()
    }

    #[test]
    fn statistics_are_those_of_the_values_that_are_there() {
        let mut moments = Moments::new(ALL.into());
        let values = [Some(2.0), None, Some(4.0), Some(6.0), Some(99.0), None];
        let filter = vec![true, true, true, true, false, true];
        moments.update(&arguments(&values, Some(filter)), &[0, 0, 0, 0, 0, 1], 2).unwrap();
        let expected = [
            [Some(4.0), Some(1.0)],
            [Some(3.0), Some(0.0)],
            [Some(12.0), None],
            [Some(4.0), None],
            [Some(2.0), None],
            [Some(6.0), None],
            [Some(4.0), None],
            [Some(8.0 / 3.0), None],
            [Some(2.0), None],
        ];
        assert_eq!(finished(&mut moments), expected.map(Vec::from));
        assert!(finished(&mut moments).iter().all(Vec::is_empty), "it is as good as new");
        moments.update(&arguments(&[Some(f64::INFINITY)], None), &[0], 1).unwrap();
        let infinite = finished(&mut moments);
        assert_eq!((infinite[4][0], infinite[5][0]), (Some(f64::INFINITY), Some(f64::INFINITY)));
        assert_eq!(infinite[6][0], None, "one value is no sample");
    }

    /// A checkpoint takes states out and hands them back. Those of keys without a row must be the same the next time.
    #[test]
    fn a_state_comes_back_as_it_was() {
        let values: Vec<Option<f64>> =
            (0..3000).map(|i| Some(f64::from(i * 7919 % 1013))).collect();
        let groups: Vec<usize> = (0..3000).map(|row| row * 31 % 400).collect();
        let mut moments = Moments::new(ALL.into());
        moments.update(&arguments(&values, None), &groups, 400).unwrap();
        let state = moments.state().unwrap();
        let all: Vec<usize> = (0..400).collect();
        moments.merge(&state, &all, 400).unwrap();
        assert_eq!(moments.state().unwrap(), state);
    }

    #[test]
    fn parts_that_are_merged_are_the_whole() {
        let values: Vec<Option<f64>> =
            (0..1000).map(|i| (i % 7 != 0).then_some(f64::from(i * 37 % 101) - 40.0)).collect();
        let groups: Vec<usize> =
            (0..1000).map(|row| if row < 3 { row } else { row * 31 % 3 }).collect();
        let mut whole = Moments::new(ALL.into());
        whole.update(&arguments(&values, None), &groups, 3).unwrap();
        let mut merged = Moments::new(ALL.into());
        for part in [0..10, 10..11, 11..500, 500..1000] {
            let mut moments = Moments::new(ALL.into());
            moments.update(&arguments(&values[part.clone()], None), &groups[part], 3).unwrap();
            let state = moments.state().unwrap();
            for (array, field) in state.iter().zip(&state_fields()) {
                assert_eq!(array.data_type(), field.data_type());
            }
            merged.merge(&state, &[0, 1, 2], 3).unwrap();
        }
        for (merged, whole) in
            finished(&mut merged).iter().flatten().zip(finished(&mut whole).iter().flatten())
        {
            let (merged, whole) = (merged.unwrap(), whole.unwrap());
            assert!((merged - whole).abs() <= 1e-12 * whole.abs(), "{merged} {whole}");
        }
    }
}
