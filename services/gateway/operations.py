"""What the signatures of the calls do not say: what each takes and gives, and which problems it may answer with."""

from __future__ import annotations

from typing import NamedTuple

from shardy_gateway.jobs import FRAME_TYPE

JSON, BYTES, NPY, EVENTS, TEXT, CSV = (
    "application/json",
    "application/octet-stream",
    "application/x-npy",
    "text/event-stream",
    "text/plain",
    "text/csv",
)


class Answer(NamedTuple):
    """schema: a name in answers.py; empty for bytes or text of that media type. media "": no body."""

    means: str
    schema: str = ""
    media: str = JSON
    headers: tuple[str, ...] = ()


class Operation(NamedTuple):
    """scope: of the key; "any" key, "session" token, or "" for nothing. body: schema by media type ("" for bytes)."""

    scope: str
    answers: dict[int, Answer]
    problems: tuple[str, ...] = ()
    body: dict[str, str] = {}
    body_required: bool = True
    parameters: tuple[str, ...] = ()  # headers that are read beside the signature


STANDS = ("Upload-Offset", "Upload-Length")
RANGE = ("Content-Range", "Accept-Ranges", "ETag")
STORED = Answer("stored, and there before", "Stored")
STATUS = Answer("the job's status", "JobStatus")
_BLOB = {
    200: Answer("the bytes", media=BYTES, headers=("Accept-Ranges", "ETag")),
    206: Answer("a range of them, cut where they end", media=BYTES, headers=RANGE),
}
_SUBMITTED = Answer("submitted; with `wait`, as it is when it ends or the time is over", "JobStatus")
_NO_RECEIPT = ("no-receipt", "evidence-gone", "try-again")
_SMALL_BODY = ("malformed-body", "refused", "wrong-content-type", "body-too-large")
_STEP = {200: Answer("told before", "Ceremony"), 201: Answer("the transcript with it", "Ceremony")}
_STEP_PROBLEMS = (*_SMALL_BODY, "no-such-ceremony", "ceremony-has-moved-on", "log-full", "try-again")
_REPLAYED = Answer("this Idempotency-Key named the same job before", "JobStatus", headers=("Idempotent-Replayed",))

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("HEAD", "/v1/blobs/{digest}"): Operation(
        "any",
        {200: Answer("stored; Content-Length is its size", media="", headers=("Accept-Ranges",))},
        ("bad-digest", "not-found"),
    ),
    ("PUT", "/v1/blobs/{digest}"): Operation(
        "any",
        {200: STORED, 201: Answer("stored now", "Stored")},
        ("bad-digest", "digest-mismatch", "body-too-large", "too-many-bodies", "store-full", "try-again"),
        {BYTES: ""},
    ),
    ("GET", "/v1/blobs/{digest}"): Operation(
        "submit", _BLOB, ("bad-digest", "not-found", "bad-range"), parameters=("Range", "If-Range")
    ),
    ("HEAD", "/v1/uploads/{digest}"): Operation(
        "any",
        {200: Answer("where it stands", media="", headers=(*STANDS, "Upload-Complete"))},
        ("bad-digest", "no-such-upload"),
    ),
    ("PATCH", "/v1/uploads/{digest}"): Operation(
        "any",
        {
            201: Answer("complete: it is a blob now", "Stored"),
            204: Answer("more is wanted", media="", headers=STANDS),
        },
        (
            "bad-digest",
            "bad-parameter",
            "wrong-offset",
            "upload-length-differs",
            "body-too-large",
            "digest-mismatch",
            "too-many-uploads",
            "too-many-bodies",
            "store-full",
            "try-again",
        ),
        {BYTES: ""},
    ),
    ("DELETE", "/v1/uploads/{digest}"): Operation(
        "any", {204: Answer("dropped", media="")}, ("bad-digest", "no-such-upload")
    ),
    ("POST", "/v1/jobs"): Operation(
        "submit",
        {200: _REPLAYED, 201: _SUBMITTED},
        (
            "malformed-body",
            "refused",
            "bad-parameter",
            "missing-blob",
            "body-too-large",
            "wrong-content-type",
            "bad-idempotency-key",
            "idempotency-key-reused",
            "too-many-active-jobs",
            "too-many-bodies",
            "mesh-busy",
            "log-full",
            "store-full",
            "try-again",
        ),
        {JSON: "JobRequest", FRAME_TYPE: ""},
    ),
    ("GET", "/v1/jobs"): Operation("submit", {200: Answer("a page of jobs", "JobList")}, ("bad-parameter",)),
    ("GET", "/v1/jobs/{job_id}"): Operation("any", {200: STATUS}, ("bad-parameter", "no-such-job", "too-many-waits")),
    ("POST", "/v1/jobs/{job_id}/cancel"): Operation(
        "any", {200: Answer("cancelled", "JobStatus")}, ("no-such-job", "job-has-ended", "try-again")
    ),
    ("GET", "/v1/jobs/{job_id}/events"): Operation(
        "any",
        {
            200: Answer("events until the job ends", media=EVENTS),
            204: Answer("Last-Event-ID was the last there is", media=""),
        },
        ("no-such-job", "too-many-streams"),
    ),
    ("GET", "/v1/jobs/{job_id}/tasks"): Operation(
        "any", {200: Answer("a page of tasks", "TaskList")}, ("bad-parameter", "bad-cursor", "no-such-job")
    ),
    ("GET", "/v1/jobs/{job_id}/result/{part}"): Operation(
        "any",
        {200: Answer("the part as an .npy file", media=NPY)},
        ("no-such-job", "no-such-part", "no-result", "result-gone"),
    ),
    ("GET", "/v1/jobs/{job_id}/receipt"): Operation(
        "any",
        {200: Answer("the receipt", "Receipt", headers=("ETag",)), 304: Answer("you have this one", media="")},
        (*_NO_RECEIPT, "no-such-job"),
        parameters=("If-None-Match",),
    ),
    ("GET", "/v1/jobs/{job_id}/tasks/{task_id}/receipt"): Operation(
        "any",
        {200: Answer("the receipt", "Receipt", headers=("ETag",)), 304: Answer("you have this one", media="")},
        (*_NO_RECEIPT, "no-such-job", "no-such-task"),
        parameters=("If-None-Match",),
    ),
    ("GET", "/v1/credit"): Operation("any", {200: Answer("totals by worker", "Credit")}, ("bad-parameter",)),
    ("GET", "/v1/credit/ledger"): Operation("any", {200: Answer("a page of entries", "Ledger")}, ("bad-parameter",)),
    ("GET", "/v1/credit/export"): Operation("any", {200: Answer("the ledger, a line for each entry", media=CSV)}),
    ("GET", "/v1/mesh"): Operation("any", {200: Answer("the mesh", "Mesh")}),
    ("GET", "/v1/workers"): Operation("any", {200: Answer("a page of workers", "WorkerList")}, ("bad-parameter",)),
    ("GET", "/v1/workers/{worker_id}"): Operation("any", {200: Answer("the worker", "OneWorker")}, ("no-such-worker",)),
    ("GET", "/v1/frauds"): Operation("any", {200: Answer("a page of frauds", "FraudList")}, ("bad-parameter",)),
    ("GET", "/v1/refusals"): Operation("operate", {200: Answer("counts by kind", "RefusalCounts")}),
    ("GET", "/v1/services"): Operation("operate", {200: Answer("what each replica says", "ServiceList")}),
    ("GET", "/healthz"): Operation(
        "", {200: Answer("it follows the log", "Health"), 503: Answer("it does not, just now", "Health")}
    ),
    ("GET", "/v1/keys"): Operation("operate", {200: Answer("a page of keys", "KeyList")}, ("bad-parameter",)),
    ("POST", "/v1/keys"): Operation(
        "operate",
        {201: Answer("the key, told this once", "NewKey")},
        ("malformed-body", "refused", "wrong-content-type", "body-too-large", "too-many-keys", "try-again"),
        {JSON: "KeyRequest"},
    ),
    ("POST", "/v1/keys/{key_id}/rotate"): Operation(
        "own",
        {201: Answer("the key that follows, told this once", "NewKey")},
        (
            "malformed-body",
            "refused",
            "wrong-content-type",
            "body-too-large",
            "no-such-key",
            "key-is-ending",
            "too-many-keys",
            "try-again",
        ),
        {JSON: "RotateRequest"},
        body_required=False,
    ),
    ("DELETE", "/v1/keys/{key_id}"): Operation(
        "own", {204: Answer("revoked", media="")}, ("no-such-key", "last-operator-key", "try-again")
    ),
    ("GET", "/v1/verifiers"): Operation(
        "operate", {200: Answer("a page of versions", "VerifierList")}, ("bad-parameter", "bad-cursor")
    ),
    ("GET", "/v1/verifiers/{version}"): Operation(
        "operate", {200: Answer("the version, with its key", "OneVerifier")}, ("no-such-verifier",)
    ),
    ("POST", "/v1/verifiers"): Operation(
        "operate",
        {200: Answer("registered like this before", "Verifier"), 201: Answer("registered now", "Verifier")},
        (
            *_SMALL_BODY,
            "version-is-taken",
            "development-key",
            "missing-blob",
            "too-many-verifiers",
            "log-full",
            "try-again",
        ),
        {JSON: "VerifierRequest"},
    ),
    ("POST", "/v1/verifiers/rotate"): Operation(
        "operate",
        {200: Answer("the version is active", "Rotation")},
        (
            *_SMALL_BODY,
            "no-such-verifier",
            "version-is-active",
            "version-is-revoked",
            "development-key",
            "too-many-verifiers",
            "log-full",
            "try-again",
        ),
        {JSON: "RotationRequest"},
    ),
    ("POST", "/v1/verifiers/revoke"): Operation(
        "operate",
        {200: Answer("the version is revoked", "Verifier")},
        (
            *_SMALL_BODY,
            "no-such-verifier",
            "version-is-not-active",
            "version-is-revoked",
            "development-key",
            "log-full",
            "try-again",
        ),
        {JSON: "RevocationRequest"},
    ),
    ("GET", "/v1/ceremonies"): Operation(
        "any", {200: Answer("a page of ceremonies", "CeremonyList")}, ("bad-parameter",)
    ),
    ("GET", "/v1/ceremonies/{circuit}"): Operation(
        "any", {200: Answer("the transcript", "Ceremony")}, ("bad-parameter", "no-such-ceremony")
    ),
    ("POST", "/v1/ceremonies"): Operation(
        "operate",
        {200: Answer("begun like this before", "Ceremony"), 201: Answer("begun now", "Ceremony")},
        (*_SMALL_BODY, "no-such-ceremony", "ceremony-is-running", "too-many-ceremonies", "log-full", "try-again"),
        {JSON: "CeremonyRequest"},
    ),
    ("POST", "/v1/ceremonies/{circuit}/contributions"): Operation(
        "submit", _STEP, (*_STEP_PROBLEMS, "too-many-ceremonies"), {JSON: "ContributionRequest"}
    ),
    ("POST", "/v1/ceremonies/{circuit}/beacon"): Operation(
        "operate", _STEP, (*_STEP_PROBLEMS, "ceremony-is-not-ready"), {JSON: "BeaconRequest"}
    ),
    ("POST", "/v1/ceremonies/{circuit}/checks"): Operation("any", _STEP, _STEP_PROBLEMS, {JSON: "CheckRequest"}),
    ("POST", "/v1/ceremonies/{circuit}/finish"): Operation(
        "operate", _STEP, (*_STEP_PROBLEMS, "ceremony-is-not-ready"), {JSON: "FinishRequest"}
    ),
    ("GET", "/v1/dlq"): Operation("operate", {200: Answer("dead letters", "LetterList")}, ("bad-parameter",)),
    ("GET", "/v1/dlq/{entry}"): Operation("operate", {200: Answer("the letter", "Letter")}, ("no-such-entry",)),
    ("POST", "/v1/dlq/{entry}/replay"): Operation(
        "operate",
        {200: Answer("what was done", "LetterClosed")},
        ("no-such-entry", "entry-closed", "cannot-be-replayed", "try-again"),
    ),
    ("POST", "/v1/dlq/{entry}/discard"): Operation(
        "operate",
        {200: Answer("closed", "LetterClosed")},
        (
            "malformed-body",
            "refused",
            "wrong-content-type",
            "body-too-large",
            "no-such-entry",
            "entry-closed",
            "try-again",
        ),
        {JSON: "DiscardRequest"},
    ),
    ("GET", "/v1/log"): Operation(
        "operate", {200: Answer("a page of events", "LogPage")}, ("bad-parameter", "archive-missing", "try-again")
    ),
    ("GET", "/v1/log/events"): Operation(
        "operate",
        {200: Answer("events (LogEvent) as they are appended, without end", media=EVENTS)},
        ("bad-parameter", "too-many-streams", "try-again"),
    ),
    ("GET", "/v1/log/tasks/{task_id}"): Operation(
        "operate", {200: Answer("the story", "TaskStory")}, ("refused", "no-such-task", "archive-missing", "try-again")
    ),
    ("GET", "/v1/worker/blobs/{digest}"): Operation(
        "session", _BLOB, ("bad-digest", "not-found", "bad-range"), parameters=("Range", "If-Range")
    ),
    ("PUT", "/v1/worker/results/{lease}"): Operation(
        "session",
        {201: Answer("stored", "Stored")},
        ("no-such-lease", "refused", "body-too-large", "try-again"),
        {BYTES: ""},
    ),
    ("GET", "/problems/{slug}"): Operation("", {200: Answer("the text", media=TEXT)}, ("not-found",)),
}
ALWAYS = ("url-too-long", "head-too-large")
BY_SCOPE = {
    "": (),
    "session": ("no-valid-session-token",),
    "any": ("no-valid-api-key", "too-many-requests"),
    "submit": ("no-valid-api-key", "scope-missing", "too-many-requests"),
    "operate": ("no-valid-api-key", "scope-missing", "too-many-requests"),
    "own": ("no-valid-api-key", "scope-missing", "too-many-requests"),
}
TAGS = {
    "jobs": "What is computed: submitted, watched, cancelled, and its result.",
    "blobs": "Operands and results as bytes under their BLAKE3 digest.",
    "uploads": "Large blobs in pieces: an upload goes on where it stopped.",
    "mesh": "The mesh as a whole: limits, devices, proven wrong results.",
    "receipts": "Signed statements of what was verified.",
    "credit": "What was verified of whom.",
    "keys": "API keys: issued, rotated, revoked.",
    "verifiers": "Verification keys of proofs: registered, rotated, revoked.",
    "ceremonies": "Keys that nobody holds the randomness of: contributed to by many, verified by anyone.",
    "dlq": "Dead letters, for operators.",
    "log": "The event log, for operators.",
    "problems": "What refusals mean.",
    "worker": "For joined workers (protocol §3, §5).",
}
HEADERS = {
    "RateLimit-Policy": 'quotas of the key: `"requests";q=N;w=SECONDS`, and the same for upload bytes',
    "RateLimit": 'what is left: `"requests";r=N;t=SECONDS`, with t until all of it is there again',
    "Retry-After": "seconds to wait before asking again",
    "WWW-Authenticate": "Bearer",
    "Allow": "the methods that this address takes",
    "Upload-Offset": "how many bytes are here: the next piece begins there",
    "Upload-Length": "bytes of the whole",
    "Upload-Complete": "?1 when it is stored as a blob, ?0 while pieces are wanted",
    "Content-Range": "which bytes of how many these are",
    "Accept-Ranges": "bytes",
    "ETag": "what the bytes are, in quotes: a blob's digest",
    "Idempotent-Replayed": "true",
    "Range": "bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH",
    "If-None-Match": "ETags that you have: 304 in place of the same bytes",
    "If-Range": "the ETag for which the range holds; the whole is sent for another",
}
