"""What the documents name exists, what they show is what the code does, and the generated ones are up to date."""

from __future__ import annotations

import functools
import inspect
import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from shardy_client.demo import __main__ as demo
from shardy_client.demo import show
from shardy_common import limits
from shardy_common.wire import frame
from shardy_gateway import hub, join, session
from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate_docs as generate  # noqa: E402

from shardy_common.permissions import RECORDED, emitters  # noqa: E402

PAGES = sorted(
    [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + [ROOT / "deploy/README.md", ROOT / "circuits/README.md"]
    + list((ROOT / "docs").rglob("*.md"))
)
FOLDERS = (
    "libs",
    "services",
    "tests",
    "docs",
    "deploy",
    "bench",
    "vectors",
    "engine-rs",
    "proofs-rs",
    "web-worker",
    "circuits",
)
MADE = {"secrets/", "secrets/api_keys", ".data/api_key", "build/contribute/"}  # by commands that the pages describe
FILE = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|md|rs|ts|json|toml|yml|sh|conf|txt|wasm)|\.?[\w-]+(/[\w.-]+)*/")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Fenced and indented code, a block each."""
    fenced = re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
    rest = re.sub(r"(?ms)^```.*?^```", "", text)
    return fenced + re.findall(r"(?m)(?:^ {4,}\S.*\n?)+", rest)


def spans(text: str) -> list[str]:
    """Inline code."""
    rest = re.sub(r"(?ms)^```.*?^```", "", text)
    return re.findall(r"`([^`\n]+)`", rest)


def code(text: str) -> str:
    return "\n".join(blocks(text) + spans(text))


@functools.cache
def repository_paths() -> frozenset[str]:
    """Files and folders (with a slash at the end) below the repository, without what is installed or built."""
    found = {path.name for path in ROOT.iterdir() if path.is_file()} | {".ci/run"}
    for top in FOLDERS:
        for folder, folders, files in os.walk(ROOT / top):
            folders[:] = [name for name in folders if name not in ("node_modules", "__pycache__", "target")]
            here = Path(folder).relative_to(ROOT).as_posix()
            found |= {f"{here}/", *(f"{here}/{name}" for name in files)}
    return frozenset(found)


NAMED = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def test_generated_pages_are_up_to_date() -> None:
    assert generate.stale() == [], "run make docs"
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate_docs.py"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_emitters_are_where_the_events_are_made() -> None:
    """A service that is said to emit an event constructs it; no other does."""
    for event in generate.ev.EVENT_TYPES:
        makers = set()
        for service in generate.FOLDERS:
            sources = "\n".join(text_of(path) for path in (ROOT / "services" / service).rglob("*.py"))
            if re.search(rf"\b(ev\.)?{event.__name__}\(", sources):
                makers.add(service)
        said = {"dlq"} if event.name == RECORDED else set(emitters(event.name))  # others do in shared code
        if event in (generate.ev.TasksCreated, generate.ev.ResultsSubmitted):
            said = set()  # the log's client makes them of what those append
        assert makers == said, event.name


@pytest.mark.parametrize("page", NAMED)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", text_of(file))
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", NAMED)
def test_named_files_exist(page: Path) -> None:
    """A path in code style is one from the root, or the end of one."""
    known = repository_paths()
    for span in spans(text_of(page)):
        if FILE.fullmatch(span) and span not in MADE:
            assert any(path == span or path.endswith("/" + span) for path in known), f"{page.name} names {span}"


@pytest.mark.parametrize("page", NAMED)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", text_of(ROOT / "Makefile")))
    used = set(re.findall(r"\bmake ([a-z][a-z-]*)", code(text_of(page))))
    assert used <= targets, f"{page.name} names {used - targets}"


@pytest.mark.parametrize("page", [*NAMED, pytest.param(ROOT / "docker-compose.yml", id="docker-compose.yml")])
def test_commands_exist_with_the_flags_shown(page: Path) -> None:
    text = text_of(page)
    shown = code(text) if page.suffix == ".md" else re.sub(r"[\[\],\"]", " ", text).replace("command: ", "\n")
    known = generate.commands()
    for line in shown.splitlines():
        found = re.search(r"\bshardy +([a-z][a-z-]*)(.*)", line.split(" #")[0])
        if found is None or line.strip().startswith(("name:", "git ", "image:")):
            continue
        below = f"{found[1]} {found[2].strip().partition(' ')[0]}"
        command = below if below in known else found[1]
        assert command in known, f"{page.name}: {line.strip()}"
        flags = {flag for option in known[command].params for flag in (*option.opts, *option.secondary_opts)}
        used = set(re.findall(r"(?<=\s)(--?[a-z][a-z0-9-]*)", found[2])) - {"--help"}
        assert used <= flags, f"{page.name}: {line.strip()} has {used - flags}"


def test_the_check_of_commands_can_fail(tmp_path: Path) -> None:
    for wrong in ("    shardy fly\n", "    shardy worker --fast\n", "`shardy matmul A B -z C`\n"):
        page = tmp_path / "page.md"
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            test_commands_exist_with_the_flags_shown(page)


# -- protocol and API -------------------------------------------------------------------------------------------------


def table_rows(text: str, first: str) -> dict[str, str]:
    """Second cell by first cell, of the table whose head starts with `first`."""
    body = re.search(rf"(?m)^\| ?{first} ?\|.*\n\|[-|]+\n((?:\|.*\n?)+)", text)
    assert body is not None, first
    rows = [line.strip("| \n").split(" | ") for line in body[1].splitlines()]
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


def test_protocol_limits_are_those_of_the_code() -> None:
    text = text_of(ROOT / "docs/protocol.md")
    rows = table_rows(text, "limit")
    want = {
        "frame": f"{frame.FRAME_BYTES_MAX >> 20} MiB",
        "time for the whole handshake (`hello` to `probed`)": f"{join.HANDSHAKE_S} s",
        "silence before the gateway drops a session": (
            f"{join.SILENCE_S} s (send a `heartbeat` at least every {join.HEARTBEAT_S} s)"
        ),
        "results in one frame": str(hub.RESULTS_PER_FRAME_MAX),
        "lease ids in `held`": f"{join.HELD_MAX:,}",
        "result bytes carried in a frame": (
            f"{limits.RESULT_INLINE_BYTES_MAX >> 10} KiB each; larger ones are uploaded (§5)"
        ),
        "frames from one worker": (
            f"{session.FRAMES_PER_S:,} a second, averaged over {session.FRAMES_BURST_S} s; "
            f"a `result` frame counts {session.SIGNED_WEIGHT} times"
        ),
    }
    assert rows == want
    for words in (
        f"header length in bytes (u32), at most {frame.HEADER_BYTES_MAX:,}",
        f"at most {frame.SEGMENTS_MAX:,} segments",
        f"at most {limits.AGENT_CHARS_MAX} characters",
        f"k ≤ {limits.K_MAX:,} keeps every sum inside int32",
        f"heartbeat_s: {join.HEARTBEAT_S}}}",
        f'`"{join.DOMAIN[:-1].decode()}" ‖ 00 ‖ nonce ‖ key ‖ utf8(session)`',
        f"versions:[{join.VERSIONS[0]}]",
    ):
        assert words in text, words
    assert frame.MAGIC.hex(" ").upper() in text and join.DOMAIN[-1] == 0


def test_close_codes_are_those_of_the_code() -> None:
    used: set[str] = set()
    for path in (ROOT / "services/gateway").glob("*.py"):
        for argument in re.findall(r"CloseSession\(([^,]*),", text_of(path)):
            used |= set(re.findall(r"\b\d{4}\b", argument))
    assert used == set(table_rows(text_of(ROOT / "docs/protocol.md"), "code"))


def test_api_calls_are_the_routes() -> None:
    def plain(path: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])

    paths = make_app(GatewaySettings()).openapi()["paths"]
    routes = {(method.upper(), plain(path)) for path, methods in paths.items() for method in methods}
    worker = {route for route in routes if route[1].startswith("/v1/worker/")}
    said = set(re.findall(r"(?m)^\| `([A-Z]+) (/[^`]*)` \|", text_of(ROOT / "docs/api.md")))
    assert {(method, plain(path)) for method, path in said} == routes - worker
    protocol = re.findall(r"(?m)^(GET|PUT) (/v1/worker/\S+)", text_of(ROOT / "docs/protocol.md"))
    assert {(method, plain(path)) for method, path in protocol} == worker


def test_readme_limits_are_those_of_the_code() -> None:
    text = text_of(ROOT / "README.md")
    assert table_rows(text, "") == {
        "inner length k": f"{limits.K_MAX:,}: every sum fits int32",
        "a side of an operand": f"{limits.SIDE_MAX:,}",
        "an operand": f"{limits.BLOB_BYTES_MAX >> 30} GiB",
        "active jobs of an API key": f"{limits.JOBS_ACTIVE_PER_REQUESTER_MAX:,}",
        "devices of a gateway": f"{GatewaySettings().sessions_max:,}",
        "leases of a task before its job fails": f"{limits.ATTEMPTS_MAX}",
    }
    assert f"`redundancy` of them (2 to {limits.REDUNDANCY_MAX})" in text
    assert limits.AUDIT_ROUNDS == 2 and "the default is two rounds" in text


# -- the README's transcript ------------------------------------------------------------------------------------------


def shape(line: str) -> str:
    """A line with every number replaced, so that two runs of one program give the same."""
    return re.sub(r"[\d.,]*\d( [kMGT](?= ))?", "0", line).strip()


def test_the_transcript_is_what_the_demonstration_prints() -> None:
    transcript = next(b for b in blocks(text_of(ROOT / "README.md")) if b.startswith("mesh: "))
    out = io.StringIO()
    console = Console(file=out, width=110, highlight=False)
    show.timing(console, "words: 36×384 by 30,522×384 (quorum)", 1.25, 8e8, True)
    show.timing(console, "a batch: 2,048×384 by 30,522×384 (audit)", 7.26, 4e10, True)
    task = re.search(r"of task (\S+) ", transcript)
    assert task is not None
    fraud = {"name": "native/0.1 liar", "row": 9, "task": task[1], "method": "audit", "rounds": 2}
    show.caught(console, [fraud])
    show.nearest(console, ["king"], [[("queen", 0.5)]])
    workers = [
        {"id": name, "name": f"x {name}", "backend": "wasm", "gpu": None, "gops": 1.0, "banned": name == "liar"}
        for name in ("native-1", "native-2", "tab-1", "tab-2", "liar")
    ]
    show.computed(console, workers, [{"verified_by": ["native-1"], "rows": 1, "cols": 1}])
    printed = {shape(line) for line in out.getvalue().splitlines()}
    source = inspect.getsource(demo)
    for line in transcript.splitlines():
        if line.startswith("│"):
            continue  # a table's row: its head and figures are of one run
        literal = re.split(r"\d|native-|http", line)[0].strip(" (")
        assert line == "…" or shape(line) in printed or (len(literal) > 4 and literal in source), line
    for phrase in ("The answer is right, and the liar was caught.", "every byte equals NumPy's", "banned"):
        assert phrase in transcript


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    sections = re.findall(r"(?m)^## (.*)$", text_of(ROOT / "CHANGELOG.md"))
    assert sections[0] == "Unreleased" and version in sections


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (test_links_lead_somewhere, "[here](nowhere.md)"),
        (test_links_lead_somewhere, "# One\n\n[here](#two)"),
        (test_named_files_exist, "`libs/nothing.py`"),
        (test_named_files_exist, "`services/nobody/`"),
        (test_make_targets_exist, "    make money\n"),
    ],
)
def test_the_checks_can_fail(tmp_path: Path, check: Callable[[Path], None], wrong: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(wrong, encoding="utf-8")
    with pytest.raises(AssertionError):
        check(page)
