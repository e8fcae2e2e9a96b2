"""Jobs one after another until a line comes on standard input: what somebody who uses the mesh sees of its upgrades and
losses. Runs in a container beside the gateways; prints each job, and what was wrong with it, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import numpy as np

from shardy_client import Mesh, MeshUnreachable, Refused

PATIENCE_S = 240.0  # for one job: services and nodes of the log are away meanwhile
ROWS = 400


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

    def listen() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    rng = np.random.default_rng(3)
    with Mesh(os.environ["SHARDY_URL"], os.environ["LOAD_KEY"]) as mesh:
        while not stop.is_set():
            print(json.dumps(one(mesh, rng, f"load-{time.time_ns()}")), flush=True)


main()
