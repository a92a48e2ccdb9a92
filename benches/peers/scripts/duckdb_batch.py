"""Runs the queries on DuckDB, in one batch over tables in memory; results come out as Arrow."""

import duckdb

import batch
import common

job = common.job()
sql = batch.queries(batch.duckdb_bucket)[job.query]
database = duckdb.connect(config={"threads": job.workers})
events = 0
for name, file in common.sources(job.query).items():
    rows = common.table(job, file)
    events += rows.num_rows
    database.execute(f"CREATE TABLE {name} AS SELECT * FROM rows").fetchall()


def round():
    with common.Clock() as clock:
        results = database.execute(sql).to_arrow_table()
    return clock, results


common.report(job, events, round, common.write_table)
