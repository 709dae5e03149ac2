"""One contender, one workload, once, in a process of its own: caches, connections and imports are new.

Prints one line of JSON: seconds of the work alone, a hash of the pixels, the most memory in use (MB).
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
    if isinstance(result, Iterator):  # its arrays are not kept, so that memory shows what reading needs
        for array in result:
            digest.update(array.tobytes())
    seconds = time.perf_counter() - start
    if not isinstance(result, Iterator):
        for array in result if isinstance(result, list) else [result]:
            digest.update(np.ascontiguousarray(array).tobytes())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "pixels": digest.hexdigest(), "memory": peak}), flush=True)
    rio_terrascope.logout()
    os._exit(0)  # obstore's threads now and then crash an interpreter that is about to end


main()
