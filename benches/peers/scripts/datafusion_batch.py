"""Runs the queries on DataFusion, in one batch over record batches in memory; results come out as Arrow."""

import datafusion

import batch
import common

job = common.job()
sql = batch.queries(batch.datafusion_bucket)[job.query]
context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(job.workers))
events = 0
for name, file in common.sources(job.query).items():
    batches = common.table(job, file).to_batches()
    events += sum(rows.num_rows for rows in batches)
    # A partition for each worker, batch by batch in turn.
    context.register_record_batches(name, [batches[worker :: job.workers] for worker in range(job.workers)])


def round():
    with common.Clock() as clock:
        results = context.sql(sql).to_arrow_table()
    return clock, results


common.report(job, events, round, common.write_table)
