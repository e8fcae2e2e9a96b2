"""A stack that folds a long log anew is waited for as long as it gets on, and no longer."""

from __future__ import annotations

import os
from pathlib import Path

from shardy_common.patience import Patience, written


def test_patience_ends_when_nothing_has_moved_for_the_limit() -> None:
    patience = Patience(60, now_s=100, sign=0)
    assert patience.lasts(159.9, 0) and not patience.lasts(160, 0)


def test_each_sign_of_progress_begins_the_time_anew() -> None:
    patience = Patience(60, now_s=0, sign=0)
    assert all(patience.lasts(50 * step, step) for step in range(1, 20))
    assert patience.lasts(1_009.9, 19) and not patience.lasts(1_010, 19)


def test_what_is_written_is_seen_whichever_file_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "projections"
    assert written(folder) == 0
    folder.mkdir()
    first, second = folder / "a.db", folder / "b.db-wal"
    first.write_text("x")
    second.write_text("x")
    os.utime(first, ns=(0, 5_000))
    os.utime(second, ns=(0, 7_000))
    assert written(folder) == 7_000
    os.utime(first, ns=(0, 9_000))
    assert written(folder) == 9_000
