"""Run one contender on one workload, once, in a new process without caches or connections.

Prints a line of JSON: the seconds that the work took, a hash of the pixels, and the peak memory in MB.
"""

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
from contenders import CONTENDERS
from workloads import growth, workloads

import rio_terrascope


def main() -> None:
    arguments = json.load(sys.stdin)
    known = workloads(arguments["quick"]) + growth(arguments["quick"])
    workload = next(each for each in known if each.name == arguments["workload"])
    work = CONTENDERS[arguments["contender"]](arguments["origin"], arguments["token"]).run(workload)
    digest = hashlib.sha256()
    start = time.perf_counter()
    result = work()
    if isinstance(result, Iterator):  # arrays are not kept, so that only reading is measured
        for array in result:
            digest.update(array.tobytes())
    seconds = time.perf_counter() - start
    if not isinstance(result, Iterator):
        for array in result if isinstance(result, list) else [result]:
            digest.update(np.ascontiguousarray(array).tobytes())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "pixels": digest.hexdigest(), "memory": peak}), flush=True)
    rio_terrascope.logout()
    os._exit(0)  # obstore's threads sometimes crash an interpreter that is shutting down


main()
