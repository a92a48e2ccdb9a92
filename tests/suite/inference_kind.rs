//! A detector whose network is scored by the inference service, and devices that are slow, stuck or broken: what a host
//! would bring, through the public API alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, StructArray,
    UInt64Array,
};
use driftline::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef};
use driftline::detector::{
    Answers, Detector, DetectorKind, DetectorPlan, DetectorRequest, DetectorStatistics, KeyShare,
    OUTPUT_COLUMNS, OperatorError, OptionKind, OptionReader, OptionSpec,
};
use driftline::inference::{Asking, Compute, Device, DeviceChoice, Network, Placement};

/// `USING chained`: half of each value, less half of what came out for the row of the key before. So answers depend on
/// the order in which rows were answered.
#[derive(Debug)]
pub(super) struct Chained;

/// Halves a number; cannot halve [`POISON`], on any device.
#[derive(Debug)]
struct Halve;

/// A value that no device can score.
pub(super) const POISON: f64 = 666.0;

impl Network for Halve {
    fn inputs(&self) -> usize {
        1
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, _on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        if rows.iter().any(|value| f64::from(*value) == POISON) {
            return Err("this number cannot be halved".into());
        }
        out.extend(rows.iter().map(|value| value / 2.0));
        Ok(())
    }
}

impl DetectorKind for Chained {
    fn name(&self) -> &'static str {
        "chained"
    }

    fn summary(&self) -> &'static str {
        "values and the ones before them, by a network of one weight"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let words = OptionKind::Choice(DeviceChoice::WORDS);
        vec![OptionSpec::new("device", words, DeviceChoice::WORDS[0], "Where it is scored.")]
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>, OperatorError> {
        let owner = "detector kind \"chained\"";
        let options = OptionReader::new(owner, request.options, &self.options())?;
        let choice = DeviceChoice::from_word(options.text("device"));
        let placement = request.inference.place(owner, choice)?;
        let detail = DataType::Struct(detail_fields());
        let types = [
            DataType::Float64,
            DataType::Boolean,
            DataType::Float64,
            DataType::Utf8,
            DataType::UInt64,
            detail,
        ];
        let own = OUTPUT_COLUMNS.iter().zip(types);
        let own = own.map(|(name, data_type)| Arc::new(Field::new(*name, data_type, true)));
        let fields: Fields = request.schema.fields().iter().cloned().chain(own).collect();
        let device = options.text("device").to_owned();
        let is_keyed = !request.partition_by.is_empty();
        let schema = Arc::new(Schema::new(fields));
        Ok(Arc::new(ChainedPlan { schema, device, is_keyed, placement }))
    }
}

fn detail_fields() -> Fields {
    vec![Field::new("halved", DataType::Float64, true)].into()
}

#[derive(Debug)]
struct ChainedPlan {
    schema: SchemaRef,
    device: String,
    is_keyed: bool,
    placement: Placement,
}

impl DetectorPlan for ChainedPlan {
    fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn describe(&self) -> Vec<(String, String)> {
        vec![("device".into(), self.device.clone())]
    }

    fn placement(&self) -> Option<&Placement> {
        Some(&self.placement)
    }

    fn detector(&self) -> Box<dyn Detector> {
        Box::new(ChainedDetector {
            schema: Arc::clone(&self.schema),
            network: Arc::new(Halve),
            is_keyed: self.is_keyed,
            asking: self.placement.service.clone().map(Asking::new),
            open: VecDeque::new(),
            before: BTreeMap::new(),
            rows: 0,
        })
    }
}

struct ChainedDetector {
    schema: SchemaRef,
    network: Arc<dyn Network>,
    asking: Option<Asking>,
    is_keyed: bool,
    open: VecDeque<RecordBatch>,
    before: BTreeMap<String, f64>,
    rows: u64,
}

fn values(rows: &RecordBatch) -> Vec<f32> {
    let values = rows.column_by_name("value").expect("the tests select it");
    values.as_primitive::<Float64Type>().values().iter().map(|value| *value as f32).collect()
}

impl ChainedDetector {
    fn answer(
        &mut self,
        rows: &RecordBatch,
        halved: &[f32],
        out: &mut Answers,
    ) -> Result<(), OperatorError> {
        let count = rows.num_rows();
        let keys = rows.column_by_name("service").expect("the tests select it");
        let keys = keys.as_string::<i32>();
        let mut scores = Vec::with_capacity(count);
        for (row, half) in halved.iter().enumerate() {
            let before = self.before.entry(keys.value(row).to_owned()).or_default();
            let score = f64::from(*half) - *before / 2.0;
            *before = f64::from(*half);
            scores.push(score);
        }
        self.rows += count as u64;
        let halved: ArrayRef =
            Arc::new(Float64Array::from_iter_values(halved.iter().map(|half| f64::from(*half))));
        let detail = StructArray::new(detail_fields(), vec![halved], None);
        let anomalous = scores.iter().map(|score| Some(*score > 40.0)).collect::<BooleanArray>();
        let mut columns = rows.columns().to_vec();
        columns.extend([
            Arc::new(Float64Array::from(scores)) as ArrayRef,
            Arc::new(anomalous),
            Arc::new(Float64Array::from(vec![40.0; count])),
            Arc::new(StringArray::from(vec!["detecting"; count])),
            Arc::new(UInt64Array::from(vec![1; count])),
            Arc::new(detail),
        ]);
        out.rows.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        Ok(())
    }
}

impl Detector for ChainedDetector {
    fn process(&mut self, rows: &RecordBatch, out: &mut Answers) -> Result<(), OperatorError> {
        if self.asking.is_some() {
            self.open.push_back(rows.clone());
            return Ok(());
        }
        let mut halved = Vec::new();
        let scored = self.network.score(Compute::Cpu, &values(rows), &mut halved);
        scored.map_err(|problem| OperatorError::evaluation("scoring", problem))?;
        self.answer(rows, &halved, out)
    }

    fn poll(&mut self, waker: &Waker, out: &mut Answers) -> Result<Poll<()>, OperatorError> {
        while let (Some(rows), Some(asking)) = (self.open.front().cloned(), &mut self.asking) {
            if asking.is_idle() {
                asking.start(&self.network, values(&rows));
            }
            match asking.poll(waker) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(halved) => {
                    let halved = halved.map_err(|problem| {
                        OperatorError::evaluation("scoring", problem.to_string())
                    })?;
                    self.open.pop_front();
                    self.answer(&rows, &halved, out)?;
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn statistics(&self) -> DetectorStatistics {
        DetectorStatistics { rows: self.rows, ..DetectorStatistics::default() }
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        assert!(self.open.is_empty(), "asked for between two steps only");
        let keys = self.before.iter().map(|(key, before)| format!("{} {key}\n", before.to_bits()));
        Ok(format!("{}\n{}", self.rows, keys.collect::<String>()).into_bytes())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        self.adopt(&[snapshot.to_vec()], KeyShare::ALL)
    }

    fn adopt(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<(), OperatorError> {
        assert!(self.open.is_empty(), "asked for between two steps only");
        (self.rows, self.before) = (0, BTreeMap::new());
        let number = |text: &str| text.parse::<u64>().expect("it was written by this");
        for snapshot in snapshots {
            let text = String::from_utf8_lossy(snapshot);
            let mut lines = text.lines();
            let rows = lines.next().map_or(0, number);
            self.rows += if share.worker == 0 { rows } else { 0 };
            for (bits, key) in lines.filter_map(|line| line.split_once(' ')) {
                if share.owns(Some(key.as_bytes()), self.is_keyed) {
                    self.before.insert(key.to_owned(), f64::from_bits(number(bits)));
                }
            }
        }
        Ok(())
    }
}

/// What a device does with a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whim {
    /// Scores.
    Score,
    /// Scores after so many milliseconds.
    Wait(u64),
    /// Says that it cannot.
    Fail,
    /// Panics.
    Panic,
    /// Gives one number too few.
    CutShort,
}

/// A device that goes through its whims, launch after launch, and again from the first.
#[derive(Debug)]
pub(super) struct Whimsical {
    whims: Vec<Whim>,
    pub(super) launches: AtomicUsize,
}

impl Whimsical {
    pub(super) fn new(whims: &[Whim]) -> Arc<Self> {
        Arc::new(Self { whims: whims.to_vec(), launches: AtomicUsize::new(0) })
    }
}

impl Device for Whimsical {
    fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        let launch = self.launches.fetch_add(1, Ordering::SeqCst);
        match self.whims[launch % self.whims.len()] {
            Whim::Score => {}
            Whim::Wait(millis) => std::thread::sleep(Duration::from_millis(millis)),
            Whim::Fail => return Err("the device is out of memory".into()),
            Whim::Panic => panic!("the driver has gone"),
            Whim::CutShort => {
                network.score(Compute::Cpu, rows, out)?;
                out.pop();
                return Ok(());
            }
        }
        network.score(Compute::Cpu, rows, out)
    }
}

/// A device that is stuck in each launch until it is let go.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a gate")
    }
}

impl Gate {
    /// Lets everything through from now on.
    pub(super) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// Waits until the device is stuck, or was, in so many launches.
    pub(super) fn wait_for_launches(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (state, _) =
            self.changed.wait_timeout_while(state, patience, |state| state.1 < count).unwrap();
        assert!(state.1 >= count, "only {} launches", state.1);
    }
}

impl Device for Gate {
    fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.0).unwrap());
        network.score(Compute::Cpu, rows, out)
    }
}
