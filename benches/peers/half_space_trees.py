"""river's half-space trees over rows of many series, one forest for each, as its users run it.

    python3 half_space_trees.py FILE ROWS

FILE holds pairs of a series' number (u32) and a value (f32), little-endian. One line of JSON comes out.
Needs river: pip install river
"""

import json
import struct
import sys
import time
from importlib.metadata import version

from river.anomaly import HalfSpaceTrees

with open(sys.argv[1], "rb") as file:
    rows = list(struct.iter_unpack("<If", file.read()))[: int(sys.argv[2])]
forests = {}
scored = 0.0
begin = time.process_time()
for key, value in rows:
    forest = forests.get(key)
    if forest is None:
        forest = forests[key] = HalfSpaceTrees(seed=42)
    row = {"value": value}
    scored += forest.score_one(row)
    forest.learn_one(row)
seconds = time.process_time() - begin
print(json.dumps({"rows_per_second": len(rows) / seconds, "series": len(forests), "version": version("river")}))
