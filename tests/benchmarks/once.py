"""Run one contender on one workload, once, in a new process without caches or connections.

Prints a line of JSON: the seconds that the work took, of them CPU seconds, a checksum of the pixels, and the
peak memory in MB.
"""

import importlib
import json
import os
import re
import resource
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HTTP2_MODULE = "h2"  # what the [http2] extra installs


def main() -> None:
    arguments = json.load(sys.stdin)
    if arguments["contender"].endswith("[http2]"):
        importlib.import_module(HTTP2_MODULE)  # imports are not timed
    else:
        sys.modules[HTTP2_MODULE] = None  # importing it fails, as if it were not installed
    from contenders import CONTENDERS
    from workloads import growth, workloads

    import rio_terrascope

    workload = next(
        each for each in workloads(arguments["quick"]) + growth() if each.name == arguments["workload"]
    )
    work = CONTENDERS[arguments["contender"]](arguments["origin"], arguments["token"]).run(workload)
    checksum = 0
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    if isinstance(result, Iterator):  # the arrays are not kept, so that only reading takes memory
        for array in result:
            checksum = zlib.crc32(array, checksum)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    for array in result if isinstance(result, list) else [result] if isinstance(result, np.ndarray) else []:
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    found = {"seconds": seconds, "cpu": cpu, "pixels": checksum, "memory": _peak()}
    rio_terrascope.logout()
    print(json.dumps(found), flush=True)
    os._exit(0)  # obstore's threads sometimes crash an interpreter that is shutting down


def _peak() -> float:
    """Return the peak memory in MB. On Linux maxrss counts the memory of the parent process too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024**2 if sys.platform == "darwin" else 1024
    )


main()
