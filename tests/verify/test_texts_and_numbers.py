"""Both readers take the same texts: of documents, of verification keys, of floats; and the same signatures."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
from typing import Any

import pytest
from blake3 import blake3
from both_checkers import Both
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made_keys import NOTE, made_vk
from made_proofs import key, made_proved
from made_receipts import MESH, made, signed_again
from mesh_events import PRE

from shardy_common import ids, kinds
from shardy_common.proofs.parse import Q
from shardy_common.receipts import canonical
from shardy_common.receipts.statements import SIGN_TAG
from shardy_common.wire import merkle
from shardy_common.wire.job import Pre

TASK = made().tasks[1]
TEXT = canonical(TASK).decode()
L = 2**252 + 27742317777372353535851937790883648493  # the order of Ed25519's group


def turned(value: Any) -> Any:
    """The same with all keys in another order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in sorted(value, reverse=True)}
    return [turned(item) for item in value] if isinstance(value, list) else value


def with_mesh(mesh: str) -> dict[str, Any]:
    """A receipt of a mesh of this name."""
    receipt = copy.deepcopy(TASK)
    receipt["statement"]["mesh"] = mesh
    return signed_again(receipt)


RIGHT: list[str] = [
    json.dumps(TASK, indent=3),
    json.dumps(turned(TASK)),
    f"\n\t\r {TEXT} \n",
    TEXT.replace('"shardy"', '"sh\\u0061rdy"'),
    TEXT.replace('"shardy"', '"\\u0073hardy"').replace('"rounds":0', '"rounds":-0'),
    TEXT.replace('"mesh"', '"me\\u0073h"'),
    *(json.dumps(with_mesh(name), ensure_ascii=escaped) for escaped in (False, True)
      for name in ("ü", "網", "🜁", "\x7f\u2028\u2029", "\0\x1f\b\f\n\r\t\"\\/")),
    json.dumps(with_mesh("🜁" * 200)),
    json.dumps(with_mesh("a/b")).replace("a/b", "a\\/b"),
    json.dumps(with_mesh("__proto__")),
]  # fmt: skip

BROKEN: list[str | bytes] = [
    "",
    " ",
    "null",
    "7",
    '"{}"',
    "[]",
    "{",
    "{}",
    "}",
    TEXT[:-1],
    TEXT + "}",
    TEXT + " x",
    TEXT + TEXT,
    TEXT + "\0",
    TEXT.replace(",", ",,", 1),
    TEXT.replace("}", ",}", 1),
    TEXT.replace("]", ",]", 1),
    TEXT.replace(":", "=", 1),
    TEXT.replace('"', "'"),
    TEXT.replace('"mesh"', "mesh"),
    TEXT.replace('"mesh":', '"mesh" "shardy":'),
    "/* receipt */" + TEXT,
    TEXT + "// receipt",
    "\ufeff" + TEXT,
    "\u00a0" + TEXT,
    "\v" + TEXT,
    TEXT.encode("utf-16"),
    TEXT.encode("utf-16-le"),
    TEXT.encode("utf-32"),
    TEXT.encode("utf-8-sig"),
    TEXT.encode().replace(b'"shardy"', b'"sh\xffrdy"'),
    TEXT.encode().replace(b'"shardy"', b'"sh\xed\xa0\x80rdy"'),
    TEXT.encode().replace(b'"shardy"', b'"sh\xc0\xafrdy"'),
    TEXT.replace('"shardy"', '"sh\\ud800rdy"'),
    TEXT.replace('"shardy"', '"\\udc00\\ud800"'),
    TEXT.replace('"shardy"', '"\\u12"'),
    TEXT.replace('"shardy"', '"\\u00g0"'),
    TEXT.replace('"shardy"', '"\\u 123"'),
    TEXT.replace('"shardy"', '"\\U0041"'),
    TEXT.replace('"shardy"', '"\\x41"'),
    TEXT.replace('"shardy"', '"\\'),
    TEXT.replace('"shardy"', '"a\nb"'),
    TEXT.replace('"shardy"', '"a\tb"'),
    TEXT.replace('"shardy"', '"a\0b"'),
    TEXT.replace('"shardy"', "shardy"),
    TEXT.replace('"shardy"', "null"),
    TEXT.replace('"shardy"', "true"),
    TEXT.replace('"shardy"', "False"),
    TEXT.replace('"shardy"', '""x'),
    json.dumps(with_mesh("🜁" * 201)),
    json.dumps({**TASK, "\u00e9": 1}),
    json.dumps({**TASK, "__proto__": 1}),
    json.dumps({**TASK, "tasks": []}),
    json.dumps({**TASK, "keys": None}),
    json.dumps({**TASK, "keys": {"a": 1}}),
    json.dumps({**TASK, "keys": []}),
    *(TEXT.replace('"rounds":0', f'"rounds":{number}') for number in (
        "00", "0.0", "0e0", "-1", "--0", "+0", ".0", "0.", "1.", "0x0", "0e", "NaN", "Infinity", "-Infinity", "1_0",
        "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740992", "1" * 5_000, "٠",
        "1e400", "0 0",
    )),
    '{"a":' * 100_000,
    "[" * 100_000,
    '{"statement":' * 9 + "1" + "}" * 9,
]  # fmt: skip


def doubled() -> list[str]:
    """The receipt with each of its keys twice, the second after the first and before it, the same value or another."""
    found = []
    for name in {*TASK, *TASK["statement"], *TASK["statement"]["workers"][0], *TASK["statement"]["result"], "a"}:
        for value in ("null", "1", '"x"'):
            found += [TEXT.replace(f'"{name}":', f'"{name}":{value},"{name}":', 1)]
        found.append(TEXT.replace(f'"{name}":', f'"{name}":0,"\\u{ord(name[0]):04x}{name[1:]}":', 1))
    return found


def test_of_texts(both: Both) -> None:
    assert both([(text[:80], text.encode()) for text in RIGHT]) == [True] * len(RIGHT)
    broken = [text if isinstance(text, bytes) else text.encode() for text in [*BROKEN, *doubled()]]
    assert TEXT.encode() not in broken
    assert both([(str(text[:80]), text) for text in broken]) == [False] * len(broken)


def test_of_nesting(both: Both) -> None:
    """Each depth up to the limit and beyond, of maps and lists, empty and full."""
    inside = ["{}", "[]", "1", '"x"', "null", '{"a":1}', "[1]"]
    texts = [
        TEXT.replace('"operands":{', '"operands":{"x":' + opened * depth + inner + closed * depth + ",")
        for depth in range(9)
        for opened, closed in (("[", "]"), ('{"a":', "}"))
        for inner in inside
    ]
    both([(text[200:400], text.encode()) for text in texts])


def test_of_keys_without_number(both: Both) -> None:
    keys = {f"{n:064x}": "x" for n in range(257)}
    few = {name: keys[name] for name in list(keys)[:256]}
    assert both([("256", {**TASK, "keys": few}), ("257", {**TASK, "keys": keys})]) == [True, False]
    # A module holds 256 keys: those of former receipts must not stay.
    assert all(both([(str(n), made_proved(1 + n % 3, small=True, dev=n % 2 == 0).receipt) for n in range(300)]))


def key_texts() -> list[str]:
    vk = made_vk(1, shardy=NOTE)
    text = key(1).vk
    point = vk["vk_alpha_1"]
    other = [str(int(point[0]) + 1), *point[1:]]
    beta = vk["vk_beta_2"]
    changed: list[dict[str, Any]] = [
        {"protocol": "plonk"},
        {"curve": "bls12381"},
        *({"nPublic": number} for number in (-1, 0, 3, 5, 64, 65, "4", None, True, 4.0)),
        {"IC": vk["IC"][:-1]},
        {"IC": [*vk["IC"], vk["IC"][0]]},
        {"nPublic": 5, "IC": [*vk["IC"], vk["IC"][0]]},
        {"nPublic": 3, "IC": vk["IC"][:-1]},
        *({"vk_alpha_1": changed} for changed in (
            other, point[:2], [*point, "1"], [*point[:2], "0"], [*point[:2], 1], ["0" + point[0], *point[1:]],
            ["+" + point[0], *point[1:]], [" " + point[0], *point[1:]], [point[0] + "\n", *point[1:]], ["0", "0", "1"],
            [str(2**254), *point[1:]], [str(Q), "2", "1"], [str(Q + 1), "2", "1"],
        )),
        *({"vk_beta_2": changed} for changed in (
            beta[::-1], [beta[1], beta[0], beta[2]], [beta[0], beta[1], ["1", "1"]], [beta[0], beta[1], ["1"]],
            [beta[0][::-1], *beta[1:]], [["0", "0"], ["0", "0"], ["1", "0"]],
        )),
        {"more": 1},
        {"shardy": None},
        {"shardy": {**NOTE, "dev": False}},
        {"shardy": {**NOTE, "dev": 1}},
        {"shardy": {**NOTE, "more": "x"}},
        {"shardy": {**NOTE, "circuit": 1}},
        {"shardy": {}},
        {"vk_alphabeta_12": [[["1"]]]},
        {"vk_alphabeta_12": [[[[1]]]]},
        {"vk_alphabeta_12": {"ü": [True, False, None, 999]}},
        {"vk_alphabeta_12": 1000},
        {"vk_alphabeta_12": -1},
        {"vk_alphabeta_12": 1.5},
        {"vk_alphabeta_12": "x" * 70_000},
        {"vk_alphabeta_12": "ü" * 32_000},
    ]  # fmt: skip
    texts = [json.dumps({**vk, **change}, ensure_ascii=False) for change in changed]
    for name in vk:
        texts.append(json.dumps({field: vk[field] for field in vk if field != name}))
        texts.append(text.replace(f'"{name}":', f'"{name}":1,"{name}":'))
    return [
        *texts, json.dumps(vk, indent=1), text.replace("groth16", "groth\\u0031\\u0036"), "\ufeff" + text, text + "x",
        "", "null", text.replace('"nPublic":4', '"nPublic":04'), text.replace('"nPublic":4', '"nPublic":4e0'),
        text.replace('"', "'"),
        text.replace('"nPublic":4', '"nPublic":-0'), text.replace("bn128", "bn128\x01"),
    ]  # fmt: skip


def test_of_verification_keys(both: Both) -> None:
    """Each proof is one under the key that the text was made from: what holds depends on the text's form alone."""
    texts = key_texts()
    found = both([(text, made_proved(1, small=True, text=text).receipt) for text in texts], words=False)
    assert len(found) > 70 and 3 <= found.count(True) <= 10, [t[:200] for t, ok in zip(texts, found, strict=True) if ok]


def test_of_key_hashes_and_places(both: Both) -> None:
    job = made_proved(small=True).receipt
    ((name, text),) = job["keys"].items()
    other = key(2)
    cases = [
        {**job, "keys": {}},
        {**job, "keys": {name: other.vk}},
        {**job, "keys": {other.vk_hash: text}},
        {**job, "keys": {name: text, other.vk_hash: other.vk}},
        {**job, "keys": {name: text, "x": "y"}},
        {**job, "keys": {name: text + " "}},
        {**job, "keys": {name.upper(): text}},
        {field: job[field] for field in job if field != "keys"},
    ]
    assert both([(str(at), case) for at, case in enumerate(cases)]).count(True) == 2


FLOATS = [
    "0.0", "-0.0", "1.0", "1", "1.", ".5", "0.50", "1e0", "1e5", "100000.0", "1e16", "1e+16", "1e+016", "1E+16",
    "1e-05", "1e-5", "1e-005", "0.0001", "1e-04", "9999999999999998.0", "1e+22", "1e22", "123456789012345680.0",
    "1.2345678901234568e+17", "inf", "nan", "-inf", "infinity", "1_0.0", " 1.0", "1.0 ", "+1.0", "0x1p3", "1.0\n",
    "٣.0", "0.1", "0.10000000000000001", "5e-324", "1e-320", "1.7976931348623157e+308", "1.7976931348623159e+308",
    "8.507059173023462e+37", "8.507059173023463e+37", "", "-", "1e",
]  # fmt: skip


def stream_with(pre: dict[str, Any]) -> dict[str, Any]:
    receipt = copy.deepcopy(made(kind="stream").tasks[1])
    receipt["statement"]["pre"].update(pre)
    return signed_again(receipt)


def test_of_floats_as_they_are_written(both: Both) -> None:
    """A number has one spelling: Python's. Each of these as a bound; and random ones of each size."""
    rng = random.Random(3)
    bits = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(1_500)]
    short = [float(f"{rng.randint(1, 10 ** rng.randint(1, 17))}e{rng.randint(-25, 25)}") for _ in range(1_500)]
    near = [math.nextafter(10.0**n, way) for n in range(-8, 25) for way in (0, math.inf)] + [
        10.0**n for n in range(-8, 25)
    ]
    texts = [*FLOATS, *(repr(value) for value in (*bits, *short, *near) if math.isfinite(value))]
    lows = [(text, stream_with({"lo": text, "hi": "1e+30"})) for text in texts]
    found = both([*lows, *((text, stream_with({"lo": "-1e+30", "hi": text})) for text in texts)])
    assert 500 < found.count(True) < len(found) - 500


def test_of_smoothing(both: Both) -> None:
    """Rows of warm-up follow from alpha by a logarithm: at powers of two, where they are whole, and at random."""
    rng = random.Random(4)
    alphas = [1 - 2.0**-n for n in range(1, 54)] + [2.0**-n for n in range(1, 30)] + [1 - k / 64 for k in range(64)]
    alphas += [rng.random() for _ in range(400)] + [10 ** -rng.uniform(0, 5) for _ in range(400)]
    alphas += [0.0003, 0.00026, 1e-46, 1e-45, 5e-324, 0.0, 1.0, 1.0000000000000002, -0.5]
    cases = []
    for alpha in alphas:
        for segment in (1, 7, 4_096, 2**20):
            warm = kinds.warm_rows(0, alpha) if 1e-300 < alpha <= 1 else 0
            for rows in {warm, warm + 1, 0}:
                if rows < 2**53:
                    more = {"ema_axis": 0, "alpha": repr(alpha), "segment_rows": segment, "warm_rows": rows}
                    cases.append((f"{more}", stream_with(more)))
    found = both(cases)
    assert found.count(True) > 500 and not all(found)


def test_of_what_a_job_may_ask_for(both: Both) -> None:
    """Every number of a job at its limits, one less and one more."""
    edges = [0, 1, 2, 7, 8, 9, 63, 64, 255, 256, 65_534, 65_535, 65_536, 2**20 - 1, 2**20, 2**20 + 1, 2**30, 2**53 - 1]
    cases = []
    for one in (
        made().tasks[1],
        made(floats=True).tasks[0],
        made(kind="stream").receipt,
        made_proved(small=True).tasks[0],
    ):
        for number in edges:
            for name in ("redundancy", "audit_rounds", "rounds", "seq", "tasks", "verified_ms"):
                cases.append(
                    (f"{name} {number}", changed(one, lambda s, n=name, v=number: s.update({n: v}) if n in s else s))
                )
            for side in ("rows", "cols"):
                cases.append((f"all {side} {number}", changed(one, lambda s, n=side, v=number: sides(s, n, v))))
            cases.append(
                (f"segment {number}", changed(one, lambda s, v=number: s["pre"] and s["pre"].update(segment_rows=v)))
            )
            for at in range(4):
                cases.append(
                    (f"tile {at} {number}", changed(one, lambda s, a=at, v=number: "tile" in s and place(s, a, v)))
                )
        for scale in ("row", "tensor", "column", ""):
            cases.append((scale, changed(one, lambda s, v=scale: s["pre"] and s["pre"].update(scale=v))))
        for axis in (-2, -1, 0, 1, 2):
            cases.append((str(axis), changed(one, lambda s, v=axis: s["pre"] and s["pre"].update(ema_axis=v))))
        for dtype in ("int8", "int32", "float32", "float64", "constructor", "toString", ""):
            cases.append((dtype, changed(one, lambda s, v=dtype: sides(s, "dtype", v))))
        for kind in ("matmul", "stream", "constructor", "__proto__", ""):
            cases.append((kind, changed(one, lambda s, v=kind: s.update(kind=v))))
            cases.append((kind, changed(one, lambda s, v=kind: s.update(policy=v, method=v))))
            cases.append((kind, changed(one, lambda s, v=kind: s["operands"].update({v: s["operands"].get("a", 1)}))))
    both(cases)


def changed(receipt: dict[str, Any], change: Any) -> dict[str, Any]:
    receipt = copy.deepcopy(receipt)
    change(receipt["statement"])
    return signed_again(receipt)


def sides(statement: dict[str, Any], name: str, value: Any) -> None:
    for operand in statement["operands"].values():
        operand[name] = value


def place(statement: dict[str, Any], at: int, value: int) -> None:
    statement["tile"][at] = value


def test_of_signatures_that_libraries_disagree_about(both: Both) -> None:
    """Keys of small order, under which anybody signs anything, and other spellings of S and R."""
    small = [
        "00" * 32, "01" + "00" * 31, "01" + "00" * 30 + "80", "ec" + "ff" * 30 + "7f", "ec" + "ff" * 31,
        "ee" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 31, "00" * 31 + "80",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ]  # fmt: skip
    cases: list[tuple[str, Any]] = []
    statement = TASK["statement"]
    good = bytes.fromhex(MESH.sign(statement)["sig"])
    for point in small:
        # S = 0 and R a point of small order pass the equation for one message of eight at least, under such a key.
        for r in (point, small[1]):
            cases.append((point, {**TASK, "signature": {"key": point, "sig": r + "00" * 32}}))
        cases.append((point, {**TASK, "signature": {"key": MESH.key, "sig": point + good[32:].hex()}}))
        signed = copy.deepcopy(made().tasks[0])
        entry = signed["statement"]["workers"][0]
        entry.update(key=point, worker=ids.worker_id(bytes.fromhex(point)), sig=small[1] + "00" * 32)
        cases.append((f"worker {point}", signed_again(signed)))
    s = int.from_bytes(good[32:], "little")
    for more in (0, L, 2 * L):
        if s + more < 2**256:
            sig = good[:32] + (s + more).to_bytes(32, "little")
            cases.append((f"S + {more}", {**TASK, "signature": {"key": MESH.key, "sig": sig.hex()}}))
    cases += [
        ("upper case", {**TASK, "signature": {"key": MESH.key, "sig": good.hex().upper()}}),
        ("white space", {**TASK, "signature": {"key": MESH.key, "sig": " " + good.hex()[:-2] + " "}}),
        ("no point", {**TASK, "signature": {"key": "02" + "00" * 31, "sig": good.hex()}}),
    ]
    found = both(cases)
    assert found.count(True) == 1 and found[[what for what, _ in cases].index("S + 0")]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_of_places_in_frames(both: Both, count: int) -> None:
    """Every place in frames of this many results, and each path with a hash less, more or another."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    public = private.public_key().public_bytes_raw()
    receipt = copy.deepcopy(made(policy="audit", method="audit", rounds=2, replicas=1).tasks[0])
    statement = receipt["statement"]
    lease = statement["workers"][0]["lease"]
    mine = merkle.leaf(lease, bytes.fromhex(statement["result"]["digest"]), statement["result"]["bytes"])
    cases, right = [], []
    for index in range(count):
        leaves = [mine if at == index else blake3(bytes([at])).digest() for at in range(count)]
        path = [node.hex() for node in merkle.path(leaves, index)]
        sig = private.sign(merkle.RESULTS_TAG + merkle.root(leaves)).hex()
        for tried in (path, path[:-1], [*path, "00" * 32], path[::-1], [*path[:-1], "00" * 32]):
            for of in (count - 1, count, count + 1):
                entry = {
                    "worker": ids.worker_id(public),
                    "key": public.hex(),
                    "sig": sig,
                    "index": index,
                    "count": of,
                    "path": tried,
                }
                one = copy.deepcopy(receipt)
                one["statement"]["workers"][0].update(entry)
                cases.append((f"{entry}", signed_again(one)))
                right.append(of == count and tried == path)
    # Of another number of results, a leaf may have the same path: the root says nothing of how many there are.
    found = both(cases)
    assert all(ok for ok, is_right in zip(found, right, strict=True) if is_right) and found.count(True) < len(found) / 2


def test_the_oracles_of_this_file_are_right() -> None:
    assert Pre(-1.0, 1.0) == PRE and MESH.sign(TASK["statement"]) == TASK["signature"]
    assert SIGN_TAG == b"shardy-receipt-v1\0"
