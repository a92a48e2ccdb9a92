"""Writes the files of rows in a folder as text too, for the engine that has no reader of Arrow in memory (Flink).

A row is a line, columns are between tabs, times are milliseconds since 1970.
"""

import pathlib
import sys

import pyarrow as pa
from pyarrow import compute, csv, ipc

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.arrow")):
    with ipc.open_file(path) as reader:
        rows = reader.read_all()
    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            # Rounded down, which leaves a time in its window.
            time = compute.floor_temporal(rows[field.name], unit="millisecond").cast(pa.timestamp("ms")).cast(pa.int64())
            rows = rows.set_column(place, field.name, time)
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    csv.write_csv(rows, path.with_suffix(".tsv"), options)
