"""`Prover`: its proofs under every verifier, whole and in parts, and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from circuitkit import Compiled, compiled, product, random_product
from proofkit import Files, node, proof_json

from shardy_common.proofs import pure
from shardy_common.proofs.instance import MODULE_PATH, Instance
from shardy_common.proofs.keyfile import B2, H, KeyFile
from shardy_common.proofs.parse import parse_vkey
from shardy_common.proofs.prover import Cancelled, Prover, packed_inputs, solving_plan
from shardy_common.proofs.signals import public_signals
from shardy_common.proofs.verifier import Verifier

RANDOM = bytes(range(128))


@pytest.fixture(scope="module")
def small() -> Compiled:
    return compiled(8, 8, 8)


@pytest.fixture(scope="module")
def keys(small: Compiled, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small.keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def prover(small: Compiled, keys: tuple[Path, Path]) -> Iterator[Prover]:
    with Prover(keys[0], small.r1cs, threads=2) as made:
        yield made


def test_every_verifier_takes_it(
    small: Compiled, keys: tuple[Path, Path], prover: Prover, verifier: Verifier, tmp_path: Path
) -> None:
    key = parse_vkey(keys[1].read_bytes())
    handle = verifier.add_key(key)
    for each in (random_product(small.shape, 1), random_product(small.shape, 2, 3, 5, 2)):
        proof, publics = prover.prove(*each.arguments)
        assert publics == list(public_signals(*each.arguments))
        assert verifier.verify(handle, proof, publics) and pure.verify(key, proof, publics)
        changed = [publics[0] + 1, *publics[1:]]
        assert not verifier.verify(handle, proof, changed) and not pure.verify(key, proof, changed)
        (tmp_path / "proof.json").write_text(proof_json(proof))
        for signals, right in ((publics, True), (changed, False)):
            (tmp_path / "public.json").write_text(json.dumps([str(value) for value in signals]))
            done = node("snarkjs", "groth16", "verify", keys[1], tmp_path / "public.json", tmp_path / "proof.json")
            assert (done.returncode == 0) is right, done.stdout


def test_however_it_is_cut_it_is_the_same_proof(small: Compiled, keys: tuple[Path, Path], verifier: Verifier) -> None:
    """One thread, three threads, the server's module in one call, and the browser's module in odd slices."""
    each = random_product(small.shape, 3)
    [witness] = small.calculated([each.inputs])
    assert isinstance(witness, bytes)
    whole = verifier.prove(keys[0].read_bytes(), witness, RANDOM)
    for threads in (1, 3):
        with Prover(keys[0].read_bytes(), small.r1cs, threads) as made:
            assert made.prove(*each.arguments, random=RANDOM) == whole
    browser = Instance(MODULE_PATH.with_name("prover.wasm").read_bytes())
    assert in_slices(browser, keys[0].read_bytes(), witness[76:], 700) == whole_wire(whole)


def whole_wire(made: tuple[object, list[int]]) -> bytes:
    proof, publics = made
    return proof.wire() + b"".join(value.to_bytes(32, "big") for value in publics)  # type: ignore[attr-defined]


def parts_of(instance: Instance, key: KeyFile, values: bytes, size: int) -> list[bytes]:
    """The parts of all lists in slices of `size` points, the last list first."""
    head, coefficients = bytes(key.sections[2]), bytes(key.sections[4])
    room = 32 * key.domain
    with instance.blocks(head, coefficients, values, room) as (at_head, at_coefficients, at_values, out):
        places = (at_head, len(head), at_coefficients, len(coefficients), at_values, len(values))
        instance.checked("prove_quotient", *places, out, room)
        quotient = instance.read(out, room)
    parts = []
    for section in (9, 8, 7, 6, 5):
        scalars = {H: quotient, 8: values[32 * (key.public + 1) :]}.get(section, values)
        point = 128 if section == B2 else 64
        for first in range(0, len(scalars) // 32, size):
            points = bytes(key.sections[section][point * first :][: point * size])
            some = scalars[32 * first :][: 32 * size]
            with instance.blocks(points, some, 140) as (at, at_scalars, out):
                instance.checked("prove_sum", section, first, at, len(points), at_scalars, len(some), out)
                parts.append(instance.read(out, 140))
    return parts


def finished(instance: Instance, key: KeyFile, values: bytes, parts: list[bytes]) -> bytes | int:
    head, joined = bytes(key.sections[2]), b"".join(parts)
    size = 256 + 32 * key.public
    with instance.blocks(head, values, joined, RANDOM, size) as (at_head, at_values, at_parts, at_random, out):
        places = (at_head, len(head), at_values, len(values), at_parts, len(joined), at_random, out, size)
        result = instance.call("prove_finish", *places)
        return instance.read(out, size) if result == key.public else result


def in_slices(instance: Instance, zkey: bytes, values: bytes, size: int) -> bytes | int:
    key = KeyFile.read(memoryview(zkey))
    return finished(instance, key, values, parts_of(instance, key, values, size))


def test_parts_that_are_missing_or_doubled(files: Files) -> None:
    instance, key = Instance(), KeyFile.read(memoryview(files.zkey.read_bytes()))
    values = files.witness.read_bytes()[76:]
    parts = parts_of(instance, key, values, 20)
    right = finished(instance, key, values, parts)
    assert isinstance(right, bytes) and finished(instance, key, values, parts[::-1]) == right
    for at in range(len(parts)):
        assert finished(instance, key, values, parts[:at] + parts[at + 1 :]) == -5
        assert finished(instance, key, values, [*parts, parts[at]]) == -5
    cut = b"".join(parts)[:-1]
    assert finished(instance, key, values, [cut]) == -1
    assert finished(instance, key, values, [b"\x0a" + parts[0][1:], *parts[1:]]) == -3
    assert finished(instance, key, values[:32], parts) == -5


def test_slices_whose_lengths_do_not_fit(files: Files) -> None:
    instance, key = Instance(), KeyFile.read(memoryview(files.zkey.read_bytes()))
    values, points = files.witness.read_bytes()[76:], bytes(key.sections[5])
    with instance.blocks(points, values, 140) as (at, at_values, out):
        for section, points_length, scalars_length, wanted in (
            (5, 64 * 4, 32 * 3, -1), (5, 64 * 3, 32 * 4, -1), (7, 64 * 4, 32 * 4, -1), (5, 64, 31, -1),
            (4, 64, 32, -3), (10, 64, 32, -3), (0, 0, 0, -3), (5, 64 * 4, 32 * 4, 4), (5, 0, 0, 0),
        ):  # fmt: skip
            assert instance.call("prove_sum", section, 0, at, points_length, at_values, scalars_length, out) == wanted
    with instance.blocks(b"\xff" * 32, bytes(64), 140) as (scalar, point, out):
        assert instance.call("prove_sum", 5, 0, point, 64, scalar, 32, out) == -3


def test_a_wrong_result_is_refused(small: Compiled, prover: Prover) -> None:
    right = random_product(small.shape, 4)
    a, b = (np.frombuffer(part, np.int8).reshape(8, 8) for part in (right.a, right.b))
    wrong = np.frombuffer(right.c, "<i4").copy()
    wrong[17] -= 1
    with pytest.raises(ValueError, match="C is not A·Bᵀ"):
        prover.prove(*product(small.shape, a, b, wrong).arguments)
    with pytest.raises(ValueError, match="C has"):
        prover.prove(*right.arguments[:4], right.c[:-4])
    with pytest.raises(ValueError, match="random"):
        prover.prove(*right.arguments, random=b"short")
    prover.prove(*right.arguments)


def test_another_circuit(small: Compiled, keys: tuple[Path, Path], prover: Prover, files: Files) -> None:
    other = compiled(16, 16, 16)
    with pytest.raises(ValueError, match="another shape"):
        prover.prove(*random_product(other.shape, 1).arguments)
    with pytest.raises(ValueError, match="wires"):
        Prover(keys[0], files.r1cs)
    with pytest.raises(ValueError, match="wires"):
        Prover(files.zkey.read_bytes(), small.r1cs)


def test_a_damaged_key_proves_nothing(small: Compiled, keys: tuple[Path, Path]) -> None:
    """One point changed for another: counts fit, so the proof itself must tell."""
    zkey = bytearray(keys[0].read_bytes())
    section = KeyFile.read(memoryview(bytes(zkey))).sections[9]
    at = bytes(zkey).index(bytes(section[:64]))
    zkey[at : at + 64] = section[64:128]
    with Prover(bytes(zkey), small.r1cs) as made, pytest.raises(ValueError, match="damaged"):
        made.prove(*random_product(small.shape, 1).arguments)


def test_files_that_are_no_keys(small: Compiled, keys: tuple[Path, Path]) -> None:
    zkey, plan = keys[0].read_bytes(), solving_plan(small.r1cs)
    for wrong in (b"", b"zkey", zkey[:12], zkey[:700], zkey[:-1], b"wtns" + zkey[4:], zkey[:8] + b"\x0b" + zkey[9:]):
        with pytest.raises(ValueError, match="zkey"):
            Prover(wrong, plan)
    for wrong in (b"", plan[:100], plan[:-1], b"xxxx" + plan[4:]):
        with pytest.raises(ValueError, match="solver_open"):
            Prover(zkey, wrong)
    for threads in (0, 65):
        with pytest.raises(ValueError, match="threads"):
            Prover(zkey, plan, threads)


def test_cancel_and_close(small: Compiled, keys: tuple[Path, Path]) -> None:
    """Cancelled as soon as the first slice runs; the next proof is not."""
    each = random_product(small.shape, 1)
    made = Prover(keys[0], small.r1cs)
    first, go = threading.Event(), threading.Event()
    quotient = made._quotient

    def held(*arguments: object) -> bytes:
        first.set()
        assert go.wait(60)
        return quotient(*arguments)  # type: ignore[arg-type]

    made._quotient = held  # type: ignore[method-assign,assignment]
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(made.prove(*each.arguments))
        except Cancelled as stopped:
            outcome.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    assert first.wait(60)
    made.cancel()
    go.set()
    thread.join(60)
    assert isinstance(outcome[0], Cancelled)
    made.cancel()  # nothing is being made: no effect on what comes
    assert made.prove(*each.arguments)[1] == list(public_signals(*each.arguments))
    made.close()
    made.close()
    with pytest.raises(ValueError, match="closed"):
        made.prove(*each.arguments)


def test_memory_does_not_grow_with_proofs(small: Compiled, prover: Prover) -> None:
    inputs = packed_inputs(random_product(small.shape, 8).inputs)
    # Which instance gets which slice is the threads' choice: each has had the largest after some turns.
    sizes = [prover.prove_inputs(inputs) and prover.memory_bytes for _ in range(8)]
    assert max(sizes) < 64 << 20 and sizes[-1] == sizes[-3]
