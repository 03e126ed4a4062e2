"""`make bench`: a catalogue from file to search, its quality, then the four searches over HTTP.

python -m benchmarks                                      a drawn catalogue
python -m benchmarks --name hm --catalogue PATH/hm.zip    a real one
"""

from __future__ import annotations

import argparse

from benchmarks import evaluation, http_latency, pipeline, stack

parser = argparse.ArgumentParser(description=__doc__)
pipeline.arguments(parser)
parser.add_argument("--requests", type=int, default=300, help="requests of each kind")
parser.add_argument("--again", action="store_true", help="measure what the last run has indexed")
arguments = vars(parser.parse_args())
requests, again = arguments.pop("requests"), arguments.pop("again")
if not (again and stack.exists(arguments["name"])):
    pipeline.run(**arguments)
evaluation.run(name=arguments["name"])
http_latency.run(name=arguments["name"], requests=requests)
