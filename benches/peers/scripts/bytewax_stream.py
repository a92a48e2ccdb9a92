"""Runs the queries on Bytewax: rows are tuples in memory, batches of 1,024.

Its clock is one for each key: a window of a key closes by a later row of that key, or at the end. So what is best of all
keys in a window is known at the end only (q5), and is taken there.
"""

import datetime

import bytewax.operators as op
import pyarrow as pa
import bytewax.operators.windowing as windowing
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main, run_main

import common

BATCH_ROWS = 1024
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
SECOND = datetime.timedelta(seconds=1)
TEN = 10 * SECOND


class Rows(DynamicSource):
    """Rows of a list, batch by batch in turn for each worker."""

    def __init__(self, rows):
        self.batches = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]

    def build(self, step_id, worker_index, worker_count):
        return Part(iter(self.batches[worker_index::worker_count]))


class Part(StatelessSourcePartition):
    def __init__(self, batches):
        self.batches = batches

    def next_batch(self):
        # The end of the iterator is that of the source.
        return next(self.batches)


class Kept(DynamicSink):
    """Results as they came, in a list."""

    def __init__(self):
        self.rows = []

    def build(self, step_id, worker_index, worker_count):
        return KeptPart(self.rows)


class KeptPart(StatelessSinkPartition):
    def __init__(self, rows):
        self.rows = rows

    def write_batch(self, items):
        self.rows.extend(items)


def millis(time):
    return (time - EPOCH) // datetime.timedelta(milliseconds=1)


def rows_of(file, columns):
    """Tuples of some columns; times are datetimes."""
    table = common.table(job, file).select(columns)
    lists = []
    for name in columns:
        if name in ("date_time", "ts"):
            times = table[name].cast(pa.timestamp("us"), safe=False).to_pylist()
            # Bytewax takes the time zone of the standard library only.
            lists.append([time.replace(tzinfo=datetime.timezone.utc) for time in times])
        else:
            lists.append(table[name].to_pylist())
    return list(zip(*lists))


def event_clock(time, disorder):
    """A clock of events alone: by itself it goes on while nothing comes, and rows are late for a slow machine."""
    return windowing.EventClock(
        ts_getter=time, wait_for_system_duration=disorder, now_getter=lambda: EPOCH, to_system_utc=lambda _: None
    )


def fold(name, keyed, time, size, disorder, builder, folder, merger, windower=None):
    """Windows of a keyed stream, aligned to 1970."""
    clock = event_clock(time, disorder)
    windower = windower or windowing.TumblingWindower(length=size, align_to=EPOCH)
    return windowing.fold_window(name, keyed, clock, windower, builder, folder, merger, ordered=False).down


def start_of(number, step=10):
    """The start of a window with a number, in milliseconds."""
    return number * step * 1000


def count(name, keyed, time, windower=None):
    add = lambda total, _: total + 1
    return fold(name, keyed, time, TEN, 4 * SECOND, int, add, lambda a, b: a + b, windower)


def q0(flow, bids):
    return op.map("project", bids, lambda bid: (bid[0], bid[1], bid[2], bid[3], bid[4]))


def q1(flow, bids):
    return op.map("project", bids, lambda bid: (bid[0], bid[1], 0.908 * bid[2], bid[3], bid[4]))


def q2(flow, bids):
    some = op.filter("some", bids, lambda bid: bid[0] % 123 == 0)
    return op.map("project", some, lambda bid: (bid[0], bid[2]))


def q5(flow, bids):
    keyed = op.map("key", bids, lambda bid: (str(bid[0]), bid[3]))
    windower = windowing.SlidingWindower(length=TEN, offset=2 * SECOND, align_to=EPOCH)
    counts = count("counts", keyed, lambda time: time, windower)
    by_window = op.map("by window", counts, lambda row: (str(row[1][0]), (row[1][1], row[0])))

    def best(state, row):
        if row[0] > state[0]:
            return (row[0], [row[1]])
        if row[0] == state[0]:
            state[1].append(row[1])
        return state

    most = op.fold_final("best", by_window, lambda: (0, []), best)
    end = lambda number: start_of(int(number), 2) + 10_000
    return op.flat_map("rows", most, lambda row: [(int(auction), row[1][0], end(row[0])) for auction in row[1][1]])


def q7(flow, bids):
    keyed = op.map("key", bids, lambda bid: ("", bid))

    def add(best, bid):
        if not best or bid[2] > best[0][2]:
            return [bid]
        if bid[2] == best[0][2]:
            best.append(bid)
        return best

    def merge(some, others):
        for bid in others:
            some = add(some, bid)
        return some

    best = fold("best", keyed, lambda bid: bid[3], TEN, 4 * SECOND, list, add, merge)
    return op.flat_map("rows", best, lambda row: [(bid[0], bid[2], bid[1], bid[3], bid[4]) for bid in row[1][1]])


def q8(flow, people, auctions):
    clock = event_clock(lambda row: row[-1], 4 * SECOND)
    windower = windowing.TumblingWindower(length=TEN, align_to=EPOCH)
    people = op.map("by person", people, lambda person: (str(person[0]), person))
    sellers = op.map("by seller", auctions, lambda auction: (str(auction[0]), auction))
    both = windowing.join_window("join", clock, windower, people, sellers, insert_mode="first", ordered=False).down
    met = op.filter("both", both, lambda row: row[1][1][0] is not None and row[1][1][1] is not None)
    return op.map("rows", met, lambda row: (row[1][1][0][0], row[1][1][0][1], start_of(row[1][0])))


def q11(flow, bids):
    keyed = op.map("key", bids, lambda bid: (str(bid[1]), bid[3]))
    add = lambda session, time: (session[0] + 1, min(session[1], time), max(session[2], time))
    merge = lambda a, b: (a[0] + b[0], min(a[1], b[1]), max(a[2], b[2]))
    none = lambda: (0, datetime.datetime.max.replace(tzinfo=datetime.timezone.utc), EPOCH)
    sessions = fold(
        "sessions", keyed, lambda time: time, TEN, 4 * SECOND, none, add, merge, windowing.SessionWindower(gap=TEN)
    )
    return op.map("rows", sessions, lambda row: (int(row[0]), row[1][1][0], row[1][1][1], row[1][1][2] + TEN))


def q12(flow, bids):
    keyed = op.map("key", bids, lambda bid: (str(bid[1]), bid[3]))
    counts = count("counts", keyed, lambda time: time)
    return op.map(
        "rows", counts, lambda row: (int(row[0]), row[1][1], start_of(row[1][0]), start_of(row[1][0]) + 10_000)
    )


def tumble(flow, rows):
    keyed = op.map("key", rows, lambda row: (row[0], row))

    # Mean and deviation after Welford.
    def add(state, row):
        count, mean, squares, least, most = state
        value = row[1]
        count += 1
        delta = value - mean
        mean += delta / count
        return (count, mean, squares + delta * (value - mean), min(least, value), max(most, value))

    def merge(a, b):
        count = a[0] + b[0]
        delta = b[1] - a[1]
        mean = a[1] + delta * b[0] / count
        squares = a[2] + b[2] + delta * delta * a[0] * b[0] / count
        return (count, mean, squares, min(a[3], b[3]), max(a[4], b[4]))

    none = lambda: (0, 0.0, 0.0, float("inf"), float("-inf"))
    five = fold("five", keyed, lambda row: row[2], TEN, 2 * SECOND, none, add, merge)

    def line(row):
        host, (number, (count, mean, squares, least, most)) = row
        deviation = (squares / (count - 1)) ** 0.5 if count > 1 else None
        return (host, start_of(number), count, mean, deviation, least, most)

    return op.map("rows", five, line)


job = common.job()
BID = ["auction", "bidder", "price", "date_time", "extra"]
if job.query.startswith("tumble_"):
    plan, inputs = tumble, [rows_of(common.sources(job.query)["load"], ["host", "value", "ts"])]
elif job.query == "q8":
    plan, inputs = q8, [rows_of("person", ["id", "name", "date_time"]), rows_of("auction", ["seller", "date_time"])]
else:
    plan, inputs = globals()[job.query], [rows_of("bid", BID)]
sources = [Rows(rows) for rows in inputs]


def round():
    kept = Kept()
    flow = Dataflow("peers")
    streams = [op.input(f"rows {place}", flow, source) for place, source in enumerate(sources)]
    op.output("results", plan(flow, *streams), kept)
    with common.Clock() as clock:
        if job.workers == 1:
            run_main(flow)
        else:
            cluster_main(flow, [], 0, worker_count_per_proc=job.workers)
    return clock, kept.rows


def write(job, rows):
    cell = lambda value: millis(value) if isinstance(value, datetime.datetime) else value
    return common.write_rows(job, [tuple(map(cell, row)) for row in rows])


common.report(job, sum(len(rows) for rows in inputs), round, write, "rows are Python tuples")
