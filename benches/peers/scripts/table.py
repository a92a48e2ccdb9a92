"""Runs every query on every engine, compares results with the reference, and prints one table. Started by `run`."""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile

import duckdb
from pyarrow import ipc

import batch
from common import QUERIES, sources

HERE = pathlib.Path(__file__).resolve().parent
DRIFTLINE = "driftline"
# In the order of the table. Those that take minutes for a million rows are given the first few.
STREAMING = ["driftline", "laminar", "dbsp", "renoir", "flink", "pathway", "bytewax"]
BATCH = ["duckdb", "datafusion"]
FEW = {"pathway", "bytewax"}
# Sums of floats in another order part at the sixteenth digit.
TOLERANCE = 1e-9
# Of an error that is put into the table; the rest is in a log.
MESSAGE_CHARACTERS = 160


def arguments():
    parser = argparse.ArgumentParser(prog="run", description="Driftline beside its peers, on the same rows.")
    words = lambda text: text.split(",")
    parser.add_argument("--queries", type=words, default=QUERIES, help="with commas between them; all by default")
    parser.add_argument("--engines", type=words, default=STREAMING + BATCH, help="likewise")
    parser.add_argument("--workers", type=int, default=1, help="of each engine; 1 by default")
    parser.add_argument("--rounds", type=int, default=3, help="measured, after one that is not; the median is taken")
    parser.add_argument("--events", type=int, default=2_000_000, help="of Nexmark, 10,000 for each second")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of telemetry, 50,000 for each second")
    parser.add_argument("--few-events", type=int, default=200_000, help=f"for {', '.join(sorted(FEW))}")
    parser.add_argument("--few-rows", type=int, default=500_000, help="likewise")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for an engine and a query")
    return parser.parse_args()


class Reference:
    """Right answers, worked out by DuckDB once for each query and number of rows."""

    def __init__(self):
        self.database = duckdb.connect()
        self.digests = {}

    def digest_of(self, data, query, touching=False):
        key = (data, query, touching)
        if key not in self.digests:
            for name, file in sources(query).items():
                with ipc.open_file(data / f"{file}.arrow") as reader:
                    rows = reader.read_all()
                self.database.register(name, rows)
            sql = batch.queries(batch.duckdb_bucket, touching)[query]
            self.database.execute(f"CREATE OR REPLACE TEMP TABLE right_one AS {sql}").fetchall()
            described = self.database.execute("DESCRIBE right_one").fetchall()
            types = [column[1] for column in described]
            places = [f'"{column[0]}"' for column in described]
            self.digests[key] = types, self.digest("right_one", places, types)
        return self.digests[key]

    def digest(self, relation, columns, types):
        """Rows, a checksum over all columns that are exact, and for each float sums that are tied to its row."""
        exact, floats = [], []
        for column, type in zip(columns, types):
            if type.startswith("TIMESTAMP"):
                exact.append(f"epoch_ms({column}::TIMESTAMP)::BIGINT")
            elif type == "DOUBLE":
                floats.append(f"{column}::DOUBLE")
            else:
                exact.append(f"{column}::{type}")
        row = f"hash({', '.join(exact)})"
        sums = "".join(f", count({one}), sum({one} * (1 + {row} % 1000 / 1000.0))" for one in floats)
        found = self.database.execute(f"SELECT count(*), sum({row}::HUGEINT){sums} FROM {relation}").fetchall()[0]
        return found[0], int(found[1] or 0) % 2**64, found[2:]

    def compare(self, data, query, results):
        """`equal`, or in which way results differ."""
        types, expected = self.digest_of(data, query)
        found = self.digest_of_file(results, types)
        if same(found, expected):
            return "equal"
        if query == "q11" and same(found, self.digest_of(data, query, touching=True)[1]):
            return "equal; sessions a gap apart join"
        if found[0] != expected[0]:
            return f"DIFFERS: {found[0]} rows instead of {expected[0]}"
        return "DIFFERS: same number of rows, other values"

    def digest_of_file(self, results, types):
        arrow, text = results.with_suffix(".arrow"), results.with_suffix(".tsv")
        if arrow.exists():
            with ipc.open_file(arrow) as reader:
                found = reader.read_all()
            found = found.rename_columns([f"c{place}" for place in range(found.num_columns)])
            self.database.register("found_one", found)
            digest = self.digest("found_one", [f"c{place}" for place in range(len(types))], types)
            self.database.unregister("found_one")
            return digest
        columns = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(types)))
        relation = f"read_csv('{text}', delim='\t', header=false, quote='', escape='', nullstr='', columns={{{columns}}})"
        # Times are numbers already.
        plain = ["BIGINT" if type.startswith("TIMESTAMP") else type for type in types]
        return self.digest(relation, [f"c{place}" for place in range(len(types))], plain)


def same(found, expected):
    close = lambda a, b: a == b or (a is not None and b is not None and abs(a - b) <= TOLERANCE * (1 + abs(b)))
    return found[:2] == expected[:2] and all(map(close, found[2], expected[2]))


def measured(words, timeout):
    """Runs a command; with what it says, the most memory that it had, in MiB."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def run(engine, query, options, data, results):
    """What the runner of an engine reports, or why it cannot."""
    command = os.environ.get(f"PEERS_{engine.upper()}")
    if not command:
        return {"cannot": os.environ.get(f"PEERS_{engine.upper()}_WHY", "not installed")}
    words = command.split("\t") + ["--data", str(data), "--query", query, "--workers", str(options.workers)]
    words += ["--rounds", str(options.rounds), "--results", str(results)]
    for ending in (".arrow", ".tsv"):
        results.with_suffix(ending).unlink(missing_ok=True)
    try:
        # The system tells the most memory of all children of a process, so that each runner is the only child of one.
        with concurrent.futures.ProcessPoolExecutor(max_workers=1) as alone:
            done, peak = alone.submit(measured, words, options.timeout).result()
    except subprocess.TimeoutExpired:
        return {"cannot": f"not done after {options.timeout} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    try:
        return {**json.loads(lines[-1]), "peak": peak}
    except (IndexError, ValueError):
        log = results.with_name(f"{engine}_{query}.log")
        log.write_text(done.stdout + done.stderr)
        said = [line.strip() for line in done.stderr.splitlines() if "rror" in line or "panicked" in line]
        print(f"{engine} failed on {query}; see {log}", file=sys.stderr)
        return {"cannot": f"failed ({done.returncode}): {' '.join(said[-1:])[:MESSAGE_CHARACTERS]}"}


def main():
    options = arguments()
    whole, few = pathlib.Path(os.environ["PEERS_DATA"]), pathlib.Path(os.environ["PEERS_DATA_FEW"])
    reference = Reference()
    figures, explained = [], []
    print(f"{datetime.date.today()}; {machine()}; {options.workers} worker(s); median of {options.rounds} rounds after one")
    print(f"Nexmark: {options.events} events, 10,000 a second; telemetry: {options.rows} rows, 50,000 a second")
    print(f"({', '.join(sorted(FEW))}: the first {options.few_events} and {options.few_rows})")
    print(versions())
    print()
    print("| query | engine | events | seconds | CPU-seconds | events/s | events/s per core | peak MiB | results |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    # Logs of what failed stay there.
    results = pathlib.Path(tempfile.mkdtemp(prefix="peers-results-"))
    for query in options.queries:
        rates = {}
        for engine in [engine for engine in STREAMING + BATCH if engine in options.engines]:
            data = few if engine in FEW else whole
            found = run(engine, query, options, data, results / f"{engine}_{query}")
            name = f"{engine} (batch)" if engine in BATCH else engine
            if "cannot" in found:
                print(f"| {query} | {name} | | | | | | | cannot: {found['cannot']} |", flush=True)
                continue
            events, seconds, cpu = found["events"], *(statistics.median(found[key]) for key in ("seconds", "cpu"))
            verdict = reference.compare(data, query, results / f"{engine}_{query}")
            for ending in (".arrow", ".tsv"):
                (results / f"{engine}_{query}").with_suffix(ending).unlink(missing_ok=True)
            notes = f"; {found['notes']}" if found.get("notes") else ""
            print(
                f"| {query} | {name} | {events:,} | {seconds:.3f} | {cpu:.3f} | {events / seconds:,.0f} "
                f"| {events / cpu:,.0f} | {found['peak']:,.0f} | {found['rows']:,} rows, {verdict}{notes} |",
                flush=True,
            )
            # What is not right is not compared.
            if verdict.startswith("equal"):
                rates[engine] = (events / seconds, events / cpu)
        if options.engines:
            _, (rows, checksum, _) = reference.digest_of(whole, query)
            explained.append(f"{query}: {rows:,} rows, checksum {checksum:016x}")
        figures += compared(query, rates)
    print("\nreference (DuckDB, one batch over all rows):", *explained, sep="\n  ")
    print()
    print(*figures, sep="\n")


def compared(query, rates):
    """Driftline against the best streaming peer, and against the best batch."""
    if DRIFTLINE not in rates:
        return []
    total, core = rates[DRIFTLINE]
    lines = [f"figure: {query}_per_core = {core:.0f} events/s"]
    for kind, engines in (("best_peer", STREAMING), ("best_batch", BATCH)):
        others = [rates[engine] for engine in engines if engine in rates and engine != DRIFTLINE]
        if others:
            lines.append(f"figure: {query}_over_{kind} = {core / max(other[1] for other in others):.2f} ratio")
            lines.append(f"figure: {query}_total_over_{kind} = {total / max(other[0] for other in others):.2f} ratio")
    return lines


def versions():
    """What is measured, from the files that pin it."""
    pinned = []
    for crate in ("driftline", "laminar-db", "dbsp", "renoir"):
        found = re.search(f'name = "{crate}"\nversion = "([^"]+)"', (HERE.parent / "Cargo.lock").read_text())
        pinned += [f"{crate} {found[1]}"] if found else []
    for name in ("flink", "pathway", "bytewax", "table"):
        for line in (HERE.parent / f"requirements-{name}.txt").read_text().split():
            package, version = line.split("==")
            pinned += [f"{package} {version}"] if f"{package} {version}" not in pinned else []
    return ", ".join(pinned)


def machine():
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())
