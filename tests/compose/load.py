"""Jobs one after another, two at a time, until a line comes on standard input: what somebody who uses the mesh sees of
its upgrades and losses. Runs in a container beside the gateways; prints each job, and what was wrong with it, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import numpy as np

from shardy_client import Mesh, MeshUnreachable, Refused

PATIENCE_S = 150.0  # for one job: services and nodes of the log are away meanwhile
ROWS = 1_500


def one(mesh: Mesh, rng: np.random.Generator, name: str) -> dict[str, object]:
    a, b = rng.integers(-128, 128, (ROWS, 256), np.int8), rng.integers(-128, 128, (256, 16), np.int8)
    wanted = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32)
    deadline = time.monotonic() + PATIENCE_S
    job = None
    while True:
        try:
            if job is None:
                job = mesh.submit_matmul(a, b, policy="audit", task_rows=1, idempotency_key=name)
                print(json.dumps({"submitted": job.id}), flush=True)
            job.wait(timeout_s=deadline - time.monotonic())
            right = bool(np.array_equal(job.result(), wanted))
            return {"job": job.id, "right": right}
        except (MeshUnreachable, Refused) as error:
            if (isinstance(error, Refused) and error.status < 500) or time.monotonic() > deadline:
                return {"job": job.id if job else "", "right": False, "error": repr(error)}
            time.sleep(0.2)  # to another gateway: the name has all that are there
        except Exception as error:
            return {"job": job.id if job else "", "right": False, "error": repr(error)}


def main() -> None:
    stop = threading.Event()

    def go_on(number: int) -> None:
        rng = np.random.default_rng(number)
        count = 0
        with Mesh(os.environ["SHARDY_URL"], os.environ["LOAD_KEY"]) as mesh:
            while not stop.is_set():
                count += 1
                print(json.dumps(one(mesh, rng, f"load-{os.getpid()}-{number}-{count}-{time.time_ns()}")), flush=True)

    threads = [threading.Thread(target=go_on, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()


main()
