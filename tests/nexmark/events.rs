//! Nexmark's three streams as Arrow batches, from the `nexmark` crate's generator with everything fixed.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use driftline::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Bid, Event, Person};

/// The sources, with the four seconds of disorder of the original.
pub(crate) const CREATE: &str = "
CREATE SOURCE person (id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT,
  date_time TIMESTAMP(3), extra TEXT, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds');
CREATE SOURCE auction (id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT,
  date_time TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT,
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds');
CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT,
  date_time TIMESTAMP(3), extra TEXT, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')";

/// The table that q13 looks up, with a row for each remainder by 10,000, as in the original.
pub(crate) fn side_input() -> RecordBatch {
    let keys = Int64Array::from_iter_values(0..10_000);
    let values = StringArray::from_iter_values((0..10_000).map(|key| format!("value {key}")));
    RecordBatch::try_from_iter([("key", Arc::new(keys) as ArrayRef), ("value", Arc::new(values))])
        .expect("columns are of one length")
}

/// The time of the first event: 2024-01-01 00:00:00 UTC, in milliseconds.
const BASE_TIME: u64 = 1_704_067_200_000;

/// What is generated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) events: usize,
    /// Events for each second of event time, and so how long the stream is in its own time.
    pub(crate) first_rate: usize,
    /// Events come in groups of so many, each in an order of its own.
    pub(crate) out_of_order_group_size: usize,
    pub(crate) batch_rows: usize,
}

impl Load {
    /// Batches with the name of their source, in the order in which they fill up.
    pub(crate) fn batches(self) -> Vec<(&'static str, RecordBatch)> {
        // The disorder that the sources allow.
        assert!(
            self.out_of_order_group_size < 4 * self.first_rate,
            "groups are out of order by too much"
        );
        let config = NexmarkConfig {
            base_time: BASE_TIME,
            first_rate: self.first_rate,
            next_rate: self.first_rate,
            out_of_order_group_size: self.out_of_order_group_size,
            ..NexmarkConfig::default()
        };
        let (mut people, mut auctions, mut bids) = (Vec::new(), Vec::new(), Vec::new());
        let mut batches = Vec::new();
        for event in EventGenerator::new(config).take(self.events) {
            match event {
                Event::Person(person) => people.push(person),
                Event::Auction(auction) => auctions.push(auction),
                Event::Bid(bid) => bids.push(bid),
            }
            let full = self.batch_rows;
            batches.extend((people.len() == full).then(|| ("person", person_batch(&mut people))));
            batches.extend(
                (auctions.len() == full).then(|| ("auction", auction_batch(&mut auctions))),
            );
            batches.extend((bids.len() == full).then(|| ("bid", bid_batch(&mut bids))));
        }
        let rest = [
            ("person", person_batch(&mut people)),
            ("auction", auction_batch(&mut auctions)),
            ("bid", bid_batch(&mut bids)),
        ];
        batches.extend(rest);
        batches
    }
}

fn numbers<T>(rows: &[T], of: impl Fn(&T) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| of(row) as i64)))
}

fn texts<T>(rows: &[T], of: impl Fn(&T) -> &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
}

fn times<T>(rows: &[T], of: impl Fn(&T) -> u64) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| of(row) as i64)))
}

/// All columns may be null, as the sources declare them.
fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let is_time =
        |field: &Arc<Field>| *field.data_type() == DataType::Timestamp(TimeUnit::Millisecond, None);
    assert!(schema.fields().iter().any(is_time), "every event has a time");
    RecordBatch::try_new(schema, columns.map(|(_, column)| column).to_vec())
        .expect("columns are of one length")
}

fn person_batch(rows: &mut Vec<Person>) -> RecordBatch {
    let rows = &std::mem::take(rows);
    batch([
        ("id", numbers(rows, |row| row.id)),
        ("name", texts(rows, |row| &row.name)),
        ("email_address", texts(rows, |row| &row.email_address)),
        ("credit_card", texts(rows, |row| &row.credit_card)),
        ("city", texts(rows, |row| &row.city)),
        ("state", texts(rows, |row| &row.state)),
        ("date_time", times(rows, |row| row.date_time)),
        ("extra", texts(rows, |row| &row.extra)),
    ])
}

fn auction_batch(rows: &mut Vec<Auction>) -> RecordBatch {
    let rows = &std::mem::take(rows);
    batch([
        ("id", numbers(rows, |row| row.id)),
        ("item_name", texts(rows, |row| &row.item_name)),
        ("description", texts(rows, |row| &row.description)),
        ("initial_bid", numbers(rows, |row| row.initial_bid)),
        ("reserve", numbers(rows, |row| row.reserve)),
        ("date_time", times(rows, |row| row.date_time)),
        ("expires", times(rows, |row| row.expires)),
        ("seller", numbers(rows, |row| row.seller)),
        ("category", numbers(rows, |row| row.category)),
        ("extra", texts(rows, |row| &row.extra)),
    ])
}

fn bid_batch(rows: &mut Vec<Bid>) -> RecordBatch {
    let rows = &std::mem::take(rows);
    batch([
        ("auction", numbers(rows, |row| row.auction)),
        ("bidder", numbers(rows, |row| row.bidder)),
        ("price", numbers(rows, |row| row.price)),
        ("channel", texts(rows, |row| &row.channel)),
        ("url", texts(rows, |row| &row.url)),
        ("date_time", times(rows, |row| row.date_time)),
        ("extra", texts(rows, |row| &row.extra)),
    ])
}
