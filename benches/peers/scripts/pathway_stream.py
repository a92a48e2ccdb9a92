"""Runs the queries on Pathway, which reads files of CSV: a row from Python's memory would cost it more than that.

Files hold the columns that a query reads. Results of the round that is not measured are written to a file, those of the
others nowhere. Windows are over all rows of the file: nothing is forgotten.
"""

import os
import tempfile

import common

job = common.job()
os.environ["PATHWAY_THREADS"] = str(job.workers)

import pathway as pw
import pyarrow as pa
from pathway.internals.parse_graph import G
from pyarrow import compute, csv

TEN, TWO = 10_000, 2_000
BID = ["auction", "bidder", "price", "date_time", "extra"]
KINDS = {"extra": str, "name": str, "host": str, "value": float}


def write_file(folder, name, file, columns):
    """A file of CSV; times are milliseconds since 1970, rounded down."""
    table = common.table(job, file).select(columns)
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            time = compute.floor_temporal(table[field.name], unit="millisecond").cast(pa.timestamp("ms")).cast(pa.int64())
            table = table.set_column(place, field.name, time)
    # A table of Pathway has an `id` of its own.
    table = table.rename_columns(["person_id" if column == "id" else column for column in columns])
    path = os.path.join(folder, f"{name}.csv")
    csv.write_csv(table, path)
    return table.num_rows


def read(folder, name, columns):
    named = ["person_id" if column == "id" else column for column in columns]
    schema = pw.schema_from_types(**{column: KINDS.get(column, int) for column in named})
    return pw.io.csv.read(os.path.join(folder, f"{name}.csv"), schema=schema, mode="static")


def q0(bid):
    return bid.select(bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra)


def q1(bid):
    return bid.select(bid.auction, bid.bidder, price=0.908 * bid.price, date_time=bid.date_time, extra=bid.extra)


def q2(bid):
    return bid.filter(bid.auction % 123 == 0).select(pw.this.auction, pw.this.price)


def q5(bid):
    counts = bid.windowby(
        bid.date_time, window=pw.temporal.sliding(hop=TWO, duration=TEN), instance=bid.auction
    ).reduce(auction=pw.this._pw_instance, num=pw.reducers.count(), window_end=pw.this._pw_window_end)
    best = counts.groupby(counts.window_end).reduce(counts.window_end, most=pw.reducers.max(counts.num))
    return counts.join(best, counts.window_end == best.window_end, counts.num == best.most).select(
        counts.auction, counts.num, counts.window_end
    )


def q7(bid):
    bid = bid.with_columns(window=bid.date_time // TEN)
    best = bid.groupby(bid.window).reduce(bid.window, most=pw.reducers.max(bid.price))
    return bid.join(best, bid.window == best.window, bid.price == best.most).select(
        bid.auction, bid.price, bid.bidder, bid.date_time, bid.extra
    )


def q8(person, auction):
    tumble = pw.temporal.tumbling(duration=TEN)
    people = person.windowby(person.date_time, window=tumble, instance=person.person_id).reduce(
        person=pw.this._pw_instance, name=pw.reducers.any(pw.this.name), start=pw.this._pw_window_start
    )
    sellers = auction.windowby(auction.date_time, window=tumble, instance=auction.seller).reduce(
        seller=pw.this._pw_instance, start=pw.this._pw_window_start
    )
    return people.join(sellers, people.person == sellers.seller, people.start == sellers.start).select(
        people.person, people.name, people.start
    )


def q11(bid):
    return (
        bid.windowby(bid.date_time, window=pw.temporal.session(max_gap=TEN), instance=bid.bidder)
        .reduce(
            bidder=pw.this._pw_instance,
            bid_count=pw.reducers.count(),
            first=pw.reducers.min(pw.this.date_time),
            last=pw.reducers.max(pw.this.date_time),
        )
        .select(pw.this.bidder, pw.this.bid_count, pw.this.first, end=pw.this.last + TEN)
    )


def q12(bid):
    return bid.windowby(bid.date_time, window=pw.temporal.tumbling(duration=TEN), instance=bid.bidder).reduce(
        bidder=pw.this._pw_instance,
        bid_count=pw.reducers.count(),
        start=pw.this._pw_window_start,
        end=pw.this._pw_window_end,
    )


def tumble(load):
    load = load.with_columns(square=load.value * load.value)
    # There is no reducer for a deviation; it follows from sums.
    sums = load.windowby(load.ts, window=pw.temporal.tumbling(duration=TEN), instance=load.host).reduce(
        host=pw.this._pw_instance,
        start=pw.this._pw_window_start,
        n=pw.reducers.count(),
        total=pw.reducers.sum(pw.this.value),
        squares=pw.reducers.sum(pw.this.square),
        least=pw.reducers.min(pw.this.value),
        most=pw.reducers.max(pw.this.value),
    )
    mean = sums.total / sums.n
    return sums.select(sums.host, sums.start, sums.n, mean=mean, rest=sums.squares - sums.total * mean, least=sums.least, most=sums.most)


if job.query.startswith("tumble_"):
    plan, inputs = tumble, {"load": (common.sources(job.query)["load"], ["ts", "host", "value"])}
elif job.query == "q8":
    plan, inputs = q8, {"person": ("person", ["id", "name", "date_time"]), "auction": ("auction", ["seller", "date_time"])}
else:
    # Only what the query reads.
    columns = {"q2": ["auction", "price"], "q5": ["auction", "date_time"]}
    columns |= {"q11": ["bidder", "date_time"], "q12": ["bidder", "date_time"]}
    plan, inputs = globals()[job.query], {"bid": ("bid", columns.get(job.query, BID))}

folder = tempfile.TemporaryDirectory(prefix="peers-pathway-")
events = sum(write_file(folder.name, name, file, columns) for name, (file, columns) in inputs.items())
results = os.path.join(folder.name, "results.csv")
first = True


def round():
    global first
    G.clear()
    table = plan(*(read(folder.name, name, columns) for name, (_, columns) in inputs.items()))
    if first:
        pw.io.csv.write(table, results)
    else:
        pw.io.null.write(table)
    first = False
    with common.Clock() as clock:
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return clock, results


def write(job, path):
    """Results without the columns `time` and `diff`, which is always 1 over rows that come at once."""
    table = csv.read_csv(path)
    assert compute.all(compute.equal(table["diff"], 1)).as_py()
    table = table.drop_columns(["time", "diff"])
    if plan is tumble:
        rest = compute.max_element_wise(table["rest"], 0.0)
        fewer = compute.subtract(table["n"], 1)
        several = compute.greater(fewer, 0)
        variance = compute.divide(rest, compute.if_else(several, fewer, 1))
        deviation = compute.if_else(several, compute.sqrt(variance), pa.scalar(None, pa.float64()))
        table = table.set_column(table.schema.get_field_index("rest"), "rest", deviation)
    columns = [column.to_pylist() for column in table.columns]
    return common.write_rows(job, list(zip(*columns)))


common.report(job, events, round, write, "reads files")
