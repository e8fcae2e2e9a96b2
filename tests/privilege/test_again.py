"""A service appends an event of its own once more, out of a dead letter: when, and when not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from guardkit import ANSWER_S, Guarded

from shardy_common import again
from shardy_common.log import Append, Appended, JetStreamLog
from shardy_common.wire import events as ev

pytestmark = pytest.mark.connected
EVENT = ev.TaskDisputed("t1", "j1", {}, 1)


@contextlib.asynccontextmanager
async def opened(guarded: Guarded, role: str) -> AsyncIterator[JetStreamLog]:
    log = await JetStreamLog.open(guarded.node.url, name="t", role=role, seed_file=guarded.seed(role))
    yield log
    await log.close()


async def appended(log: JetStreamLog, event: ev.Event, msg_id: str) -> int:
    (outcome,) = await log.append([Append(event, msg_id)])
    assert isinstance(outcome, Appended) and not outcome.duplicate
    return outcome.seq


def poison(entry: str, seq: int, cause: str = "poison") -> ev.DlqRecorded:
    return ev.DlqRecorded(entry, cause, EVENT.subject, seq, {})


async def test_only_its_own_and_only_for_a_letter(guarded: Guarded) -> None:
    async with opened(guarded, "quorum") as quorum, opened(guarded, "matchmaker") as matchmaker:
        seq = await appended(quorum, EVENT, "only")
        fraud = await appended(quorum, poison("e-fraud", seq, "fraud"), "e-fraud")
        foreign = await appended(matchmaker, ev.JobFailed("j9", "x"), "foreign")
        await appended(matchmaker, poison("e-foreign", foreign), "e-foreign")
        await appended(quorum, poison("e-right", seq), "e-right")
        questions = {
            "malformed": [{}, {"entry": "e-right"}, {"entry": "*", "seq": seq}, {"entry": "e-right", "seq": "1"}],
            "no dead letter": [
                *({"entry": "e-none", "seq": seq}, {"entry": "e-fraud", "seq": seq}),
                *({"entry": "e-right", "seq": fraud}, {"entry": "e-right", "seq": seq + 1_000}),
            ],
            "no event of the quorum": [{"entry": "e-foreign", "seq": foreign}],
        }
        last = await quorum.last_seq()
        for why, asked in questions.items():
            for question in asked:
                assert why in await again.append_again(quorum, "quorum", question), question
        assert await quorum.last_seq() == last, "nothing was appended"
        for _ in range(2):
            assert await again.append_again(quorum, "quorum", {"entry": "e-right", "seq": seq}) == ""
        assert await quorum.last_seq() == last + 1, "once"
        found = await quorum.get(last + 1)
        assert found is not None and found.event == EVENT


async def test_a_gateway_asks_and_sees_it_in_the_log(guarded: Guarded) -> None:
    async with opened(guarded, "quorum") as quorum, opened(guarded, "gateway") as gateway:
        seq = await appended(quorum, ev.TaskDisputed("t2", "j1", {}, 1), "asked")
        await appended(quorum, poison("e-asked", seq), "e-asked")
        event = (await gateway.get(seq)).event  # type: ignore[union-attr]
        assert event is not None
        asked: list[bytes] = []
        await quorum.client.subscribe_raw("ctl.quorum.again", lambda _s, _r, data, _h: asked.append(data))
        await quorum.client.flush()
        asking = asyncio.create_task(again.ask(gateway, "quorum", "e-asked", event, seq))
        async with asyncio.timeout(ANSWER_S):
            while not asked:
                await asyncio.sleep(0.02)
        assert await again.append_again(quorum, "quorum", json.loads(asked[0])) == ""
        assert await asking == await quorum.last_seq()
        assert gateway.client.forbidden == set()


async def test_nobody_answers(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "PATIENCE_S", 0.3)
    async with opened(guarded, "gateway") as gateway:
        assert await again.ask(gateway, "matchmaker", "e", ev.JobFailed("j10", "x"), 1) is None
