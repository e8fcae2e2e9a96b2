"""The quorum with a planted defect: it cannot fold the join of a worker called `cursed`, unless a file says that it is
repaired. `python -m brokenquorum`, with REPAIRED naming the file."""

from __future__ import annotations

import os
from pathlib import Path

from shardy_common.log import Recorded
from shardy_common.wire import events as ev
from shardy_quorum.main import main
from shardy_quorum.task import Quorum

evolve = Quorum.evolve


def throws(quorum: Quorum, recorded: Recorded) -> None:
    """After it has changed something: half an event must not stay."""
    event = recorded.event
    if isinstance(event, ev.WorkerJoined) and "cursed" in event.agent and not Path(os.environ["REPAIRED"]).exists():
        quorum.agents[event.worker] = "half"
        quorum.touched_agents.add(event.worker)
        raise LookupError("this name is cursed")
    evolve(quorum, recorded)


Quorum.evolve = throws  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
