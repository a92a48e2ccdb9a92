"""What the Python runners share: arguments, rows, clocks and reports. See common/src/lib.rs for the form of a report."""

import argparse
import json
import pathlib
import resource
import time

import pyarrow as pa
from pyarrow import ipc

QUERIES = ["q0", "q1", "q2", "q5", "q7", "q8", "q11", "q12", "tumble_1e3", "tumble_1e5", "tumble_1e6"]


def job():
    """What this runner is asked to do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--query", choices=QUERIES, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--results", type=pathlib.Path, required=True)
    return parser.parse_args()


def sources(query):
    """Names of the files that a query reads, and of the relations that it knows them by."""
    if query.startswith("tumble_"):
        return {"load": "load_" + query.removeprefix("tumble_")}
    if query == "q8":
        return {"person": "person", "auction": "auction"}
    return {"bid": "bid"}


def table(job, file):
    """A file of rows, as one table."""
    with ipc.open_file(job.data / f"{file}.arrow") as reader:
        return reader.read_all()


def busy():
    """Processor time of this process and of the children that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Clock:
    """Time that passes, and processor time, within `with`."""

    def __enter__(self):
        self.begin, self.busy = time.perf_counter(), busy()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu = time.perf_counter() - self.begin, busy() - self.busy


def write_table(job, results):
    """Results as a file of Arrow IPC; times may have any unit."""
    results = results if isinstance(results, pa.Table) else pa.Table.from_batches(results)
    with ipc.new_file(job.results.with_suffix(".arrow"), results.schema) as writer:
        writer.write_table(results)
    return results.num_rows


def write_rows(job, rows):
    """Results as text; times are milliseconds since 1970."""
    with open(job.results.with_suffix(".tsv"), "w") as file:
        for row in rows:
            file.write("\t".join("" if cell is None else repr(cell) if isinstance(cell, float) else str(cell) for cell in row))
            file.write("\n")
    return len(rows)


def report(job, events, round, write, notes=""):
    """Measures a round as often as the job says, after once that is not measured, whose results are kept.

    A round gives its clock and its results.
    """
    _, results = round()
    rows = write(job, results)
    del results
    clocks = [round()[0] for _ in range(job.rounds)]
    found = {
        "events": events,
        "rows": rows,
        "seconds": [clock.seconds for clock in clocks],
        "cpu": [clock.cpu for clock in clocks],
        "notes": notes,
    }
    print(json.dumps(found), flush=True)


def cannot(reason):
    """Says why the engine cannot run the query."""
    print(json.dumps({"cannot": reason}), flush=True)
