"""drain3 over a file of log messages, as its users run it, with the masks of the published settings for HDFS.

    python3 log_keys.py FILE

One line of JSON comes out. Needs drain3: pip install drain3
"""

import json
import logging
import sys
import time
from importlib.metadata import version

from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

logging.disable(logging.CRITICAL)
config = TemplateMinerConfig()
config.drain_sim_th = 0.5
config.drain_depth = 4
config.masking_instructions = [
    MaskingInstruction(r"blk_-?\d+", "BLK"),
    MaskingInstruction(r"(\d+\.){3}\d+(:\d+)?", "IP"),
]
with open(sys.argv[1], encoding="utf-8") as file:
    lines = file.read().split("\n")
miner = TemplateMiner(config=config)
begin = time.process_time()
for line in lines:
    miner.add_log_message(line)
seconds = time.process_time() - begin
print(
    json.dumps(
        {"lines_per_second": len(lines) / seconds, "clusters": len(miner.drain.clusters), "version": version("drain3")}
    )
)
