"""`Prover`: proofs of one circuit's products from its key and its constraints, on several cores.

A witness is computed by the committed module from the constraints, so nothing that a circom compiler wrote runs here.
A proof is a few large sums, cut into slices that instances of the module add up, each in a thread of its own.
"""

from __future__ import annotations

import mmap
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from .instance import UNSATISFIED, Bytes, Instance, parse_proof_wire
from .keyfile import B1, B2, COEFFICIENTS, HEAD, A, C, H, KeyFile, point_bytes
from .parse import Proof
from .signals import Circuit, Context, Witness, witness
from .verifier import Verifier

THREADS_MAX = 64
MEMORY_MAX = 1 << 30
"""Bytes of memory of each instance at most; what it takes follows from the key (`Prover.memory_bytes`)."""
_PART = 140
_WITNESS_HEAD = 76
_SLICE_MIN = 2048


class Cancelled(Exception):
    """`Prover.cancel` was called while the proof was being made."""


def solving_plan(r1cs: Bytes) -> bytes:
    """What `Prover` takes in place of an .r1cs: constraints and the order in which wires follow from inputs.

    Made once per circuit, in seconds; read in a hundredth of that. For 64×64×64 it has 8 MB, the .r1cs 68. ValueError
    for a file that is no .r1cs over this field, or a circuit whose wires do not follow from its inputs.
    """
    instance = Instance(memory_max=MEMORY_MAX)  # of its own: its memory grows by several times the file
    with instance.blocks(r1cs) as (at,):
        handle = instance.checked("solver_open", at, memoryview(r1cs).nbytes)
    size = instance.checked("solver_save", handle, 0, 0)
    with instance.blocks(size) as (out,):
        instance.checked("solver_save", handle, out, size)
        return instance.read(out, size)


class Prover:
    """Proofs of one circuit under one key. Safe to share among threads: one proof at a time.

    zkey: bytes, or a path, which is mapped and not read. r1cs: bytes or path of an .r1cs or of a `solving_plan`; a plan
    saves seconds here. threads: instances that add at the same time; more than cores gain nothing.

    Raises ValueError for files that are no such, or that do not belong to one circuit, as far as counts tell. A key
    that has the counts and is another circuit's is found by the first proof. After a MemoryError, make another.
    """

    def __init__(self, zkey: Bytes | Path | str, r1cs: Bytes | Path | str, threads: int = 1) -> None:
        if not 1 <= threads <= THREADS_MAX:
            raise ValueError(f"threads must be 1 to {THREADS_MAX}")
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        self._closed = False
        file = Path(r1cs).read_bytes() if isinstance(r1cs, (str, Path)) else bytes(r1cs)
        plan = file if file[:4] == b"shpl" else solving_plan(file)
        self._key = KeyFile.read(_mapped(Path(zkey)) if isinstance(zkey, (str, Path)) else memoryview(zkey))
        self._solver = Instance(memory_max=MEMORY_MAX)
        with self._solver.blocks(plan) as (at,):
            self._solving = self._solver.checked("solver_open", at, len(plan))
        self._inputs = self._solver.checked("solver_inputs", self._solving)
        wires = self._solver.checked("solver_wires", self._solving)
        if wires != self._key.wires:
            raise ValueError(f"the key is of a circuit of {self._key.wires} wires, the constraints of one of {wires}")
        self._verifier = Verifier()
        self._handle = self._verifier.add_key(self._key.verification_key())
        self._instances = [Instance(memory_max=MEMORY_MAX) for _ in range(threads)]
        self._idle: SimpleQueue[Instance] = SimpleQueue()
        for instance in self._instances:
            self._idle.put(instance)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prover")

    def prove(
        self, circuit: Circuit, context: Context, a: bytes, b: bytes, c: bytes, random: bytes | None = None
    ) -> tuple[Proof, list[int]]:
        """A proof that C = A·Bᵀ for the context, and its public signals; a, b, c as `signals.witness` takes them.

        random: 128 secret bytes, for tests that want the same proof again. Raises ValueError where sizes do not fit,
        where C is not A·Bᵀ, and where key and constraints are of different circuits; Cancelled after `cancel`.
        """
        inputs = witness(circuit, context, a, b, c)
        return self.prove_inputs(packed_inputs(inputs), random)

    def prove_inputs(self, inputs: bytes, random: bytes | None = None) -> tuple[Proof, list[int]]:
        """The same from the circuit's inputs as `packed_inputs` writes them, for any circuit."""
        secret = secrets.token_bytes(128) if random is None else random
        if len(secret) != 128:
            raise ValueError("random must be 128 bytes")
        if len(inputs) != 32 * self._inputs:
            raise ValueError(f"the circuit has {self._inputs} inputs, not {len(inputs) / 32:g}: it is of another shape")
        with self._lock:
            if self._closed:
                raise ValueError("the prover is closed")
            self._stop = threading.Event()
            try:
                values = self._solve(inputs)
                parts = self._sums(values, self._stop)
                proof, publics = self._finish(values, parts, secret)
            finally:
                self._stop = None
            if not self._verifier.verify(self._handle, proof, publics):
                raise ValueError("key and constraints are of different circuits, or the key is damaged")
            return proof, publics

    def cancel(self) -> None:
        """Stop the proof that is being made, if there is one, before its next slice; for another thread."""
        stop = self._stop
        if stop is not None:
            stop.set()

    def close(self) -> None:
        """Stop and give everything back. A second call does nothing."""
        self.cancel()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._pool.shutdown()
            # The file's map goes with the last view of it.
            del self._solver, self._instances, self._idle, self._key

    def __enter__(self) -> Prover:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def memory_bytes(self) -> int:
        """Linear memory of all instances now, beside the key: it grows with the first proof, and then no more."""
        return self._solver.memory_bytes + sum(instance.memory_bytes for instance in self._instances)

    # Parts of a proof

    def _solve(self, inputs: bytes) -> memoryview:
        """Values of all wires, 32 bytes each, little-endian."""
        size = _WITNESS_HEAD + 32 * self._key.wires
        with self._solver.blocks(inputs, size) as (at, out):
            result = self._solver.call("solve", self._solving, at, self._inputs, out, size)
            if result == UNSATISFIED:
                raise ValueError("C is not A·Bᵀ, or an input is out of its range: a constraint is not satisfied")
            self._solver.passed("solve", result)
            return memoryview(self._solver.read(out, size))[_WITNESS_HEAD:]

    def _sums(self, values: memoryview, stop: threading.Event) -> bytes:
        """The parts of all lists. The quotient comes first, since the last list waits for it."""
        running: list[Future[bytes]] = []

        def submit(work: Callable[[Instance], bytes]) -> Future[bytes]:
            running.append(self._pool.submit(self._with_instance, work, stop))
            return running[-1]

        def submit_list(section: int, scalars: memoryview) -> None:
            count = len(scalars) // 32
            size = max(_SLICE_MIN, -(-count // self._threads))
            for first in range(0, count, size):
                submit(partial(self._slice, section, first, scalars[32 * first :][: 32 * size]))

        try:
            quotient = submit(partial(self._quotient, values))
            for section in (B2, A, B1):
                submit_list(section, values)
            submit_list(C, values[32 * (self._key.public + 1) :])
            submit_list(H, memoryview(quotient.result()))
            for future in wait(running, return_when=FIRST_EXCEPTION).done:
                future.result()  # one that failed says so at once
            return b"".join(future.result() for future in running[1:])
        finally:
            # Where one failed the others need not go on; none may still use the key afterwards.
            stop.set()
            wait(running)

    def _with_instance(self, work: Callable[[Instance], bytes], stop: threading.Event) -> bytes:
        if stop.is_set():
            raise Cancelled
        instance = self._idle.get()
        try:
            return work(instance)
        finally:
            self._idle.put(instance)

    def _quotient(self, values: memoryview, instance: Instance) -> bytes:
        head, coefficients = self._key.sections[HEAD], self._key.sections[COEFFICIENTS]
        given = (head, coefficients, values)
        size = 32 * self._key.domain
        with instance.blocks(*given, size) as (at_head, at_coefficients, at_values, out):
            places = (at_head, len(head), at_coefficients, len(coefficients), at_values, len(values))
            instance.checked("prove_quotient", *places, out, size)
            return instance.read(out, size)

    def _slice(self, section: int, first: int, scalars: memoryview, instance: Instance) -> bytes:
        size = point_bytes(section)
        points = self._key.sections[section][size * first :][: size * (len(scalars) // 32)]
        with instance.blocks(points, scalars, _PART) as (at, at_scalars, out):
            instance.checked("prove_sum", section, first, at, len(points), at_scalars, len(scalars), out)
            return instance.read(out, _PART)

    def _finish(self, values: memoryview, parts: bytes, random: bytes) -> tuple[Proof, list[int]]:
        head, publics = self._key.sections[HEAD], values[: 32 * (self._key.public + 1)]
        size = 256 + 32 * self._key.public
        with self._solver.blocks(head, publics, parts, random, size) as (at_head, at_publics, at_parts, at_random, out):
            places = (at_head, len(head), at_publics, len(publics), at_parts, len(parts), at_random)
            self._solver.checked("prove_finish", *places, out, size)
            return parse_proof_wire(self._solver.read(out, size))


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def packed_inputs(inputs: Witness) -> bytes:
    """A circuit's inputs in its order: 32 bytes each, little-endian."""
    rows = [inputs.context, inputs.length, *(value for row in inputs.a for value in row), *inputs.b]
    rows += [value for row in inputs.c for value in row]
    return b"".join([value.to_bytes(32, "little") for value in rows])
