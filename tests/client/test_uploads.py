"""Large operands arrive whole, once, whatever breaks on the way."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from breaker import Breaker
from fake_api import KEY, FakeApi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardy_client import InvalidInput, Mesh, Patience, Refused, ShardyError, Transfer
from shardy_client.upload import PIECE_BYTES, STALLS_MAX

QUICK = Patience(pause_s=0.001, pause_s_max=0.002, rounds=3)
BIG = np.random.default_rng(9).integers(-128, 128, (5_000, 4_003), np.int8)  # 20 MB: three pieces
DIGEST = blake3(BIG.tobytes()).hexdigest()


def patches(api: FakeApi) -> int:
    return sum(method == "PATCH" for method, _ in api.requests)


def test_a_large_operand_goes_in_pieces_and_once(api: FakeApi, mesh: Mesh) -> None:
    seen: list[Transfer] = []
    stored = mesh.put(BIG, name="A", on_transfer=seen.append)
    assert api.blobs[stored.digest] == BIG.tobytes() and patches(api) == 3
    assert [t.bytes_done for t in seen] == sorted(t.bytes_done for t in seen)
    assert seen[0] == Transfer("A", 0, BIG.nbytes) and seen[-1] == Transfer("A", BIG.nbytes, BIG.nbytes)
    mesh.put(BIG)
    assert patches(api) == 3 and api.requests[-1][0] == "HEAD"


def test_a_new_process_goes_on_where_another_stopped(api: FakeApi) -> None:
    breaker = Breaker(api.url)
    breaker.cuts = [PIECE_BYTES + 3_000_000, *[0] * 100]
    with Mesh(breaker.url, KEY, patience=Patience(rounds=1, lost_s=0)) as mesh, pytest.raises(ShardyError):
        mesh.put(BIG)
    kept = len(api.uploads.partial[DIGEST])
    assert PIECE_BYTES < kept < PIECE_BYTES + 3_000_000
    breaker.down()
    seen: list[Transfer] = []
    with Mesh(api.url, KEY) as mesh:
        mesh.put(BIG, on_transfer=seen.append)
    assert api.blobs[DIGEST] == BIG.tobytes() and api.uploads.received == BIG.nbytes, "no byte was stored twice"
    assert seen[0].bytes_done == kept


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, PIECE_BYTES + 1_000_000), max_size=6), st.lists(st.integers(0, 400), max_size=6))
def test_any_breaks_on_the_way_change_nothing(running_api: FakeApi, cuts: list[int], answer_cuts: list[int]) -> None:
    running_api.reset()
    breaker = Breaker(running_api.url)
    breaker.cuts, breaker.answer_cuts = list(cuts), list(answer_cuts)
    try:
        with Mesh([breaker.url, running_api.url, breaker.url + "/"], KEY, patience=QUICK) as mesh:
            mesh._mesh.http.urls = (breaker.url,) * 4  # the same address again: each connection has its own break
            assert mesh.put(BIG).digest == DIGEST
        assert running_api.blobs == {DIGEST: BIG.tobytes()} and not running_api.uploads.partial
    finally:
        breaker.down()


def test_an_answer_that_was_lost_after_the_last_piece(api: FakeApi) -> None:
    api.uploads.lose_answers = 1
    with Mesh(api.url, KEY, patience=QUICK) as mesh:
        assert mesh.put(BIG).digest == DIGEST and patches(api) == 4


def test_wrong_bytes_of_somebody_else_are_replaced(api: FakeApi, mesh: Mesh) -> None:
    api.uploads.partial[DIGEST] = bytearray(PIECE_BYTES)
    api.uploads.lengths[DIGEST] = BIG.nbytes
    mesh.put(BIG)
    assert api.blobs[DIGEST] == BIG.tobytes()
    api.reset()
    api.uploads.partial[DIGEST], api.uploads.lengths[DIGEST] = bytearray(9 << 20), 10 << 20  # of another length
    mesh.put(BIG)
    assert api.blobs[DIGEST] == BIG.tobytes()


def test_a_mesh_that_spoils_bytes_is_told_of_once(api: FakeApi, mesh: Mesh) -> None:
    api.uploads.spoil = True
    with pytest.raises(Refused, match="do not have this digest"):
        mesh.put(BIG)
    assert mesh.put(BIG).digest == DIGEST


def test_an_operand_that_changes_on_the_way_is_named(api: FakeApi, mesh: Mesh) -> None:
    mine = BIG.copy()

    def change(now: Transfer) -> None:
        mine[-1, -1] = 0 if mine[-1, -1] else 1

    with pytest.raises(InvalidInput, match="A was changed"):
        mesh.put(mine, name="A", on_transfer=change)


def test_an_upload_that_does_not_move_ends(api: FakeApi, mesh: Mesh) -> None:
    api.uploads.stuck = True
    with pytest.raises(ShardyError, match="does not get past 5 bytes"):
        mesh.put(BIG)
    assert patches(api) <= 2 + STALLS_MAX
