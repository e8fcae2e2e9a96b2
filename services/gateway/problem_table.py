"""Everything that the API can refuse, in one table: docs/problems.md and GET /problems/{slug} are made from it."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """What it means, and what to do about it."""

    title: str
    status: tuple[int, ...]
    means: str
    do: str


TABLE = (
    Problem(
        "Refused",
        (400, 413, 422),
        "The request was understood, and cannot be served as it is.",
        "Change what detail names.",
    ),
    Problem(
        "Malformed body",
        (400,),
        "The body is not JSON, no frame, or no object.",
        "Send what the API document shows for this call.",
    ),
    Problem(
        "Malformed request",
        (400,),
        "The request is not HTTP/1.1 as it should be.",
        "Check what sends it; a client library does this right.",
    ),
    Problem(
        "Bad parameter",
        (422,),
        "A parameter of the path or the query is outside of what the call takes.",
        "Change the parameter that detail names.",
    ),
    Problem(
        "Bad digest",
        (400,),
        "A digest is 64 lower-case hex digits: the BLAKE3 of the bytes.",
        "Compute it over the very bytes that are sent.",
    ),
    Problem(
        "Bad range",
        (400, 416),
        "The Range header has no range, or one that begins past the end.",
        "Ask for bytes=FIRST-LAST below the size that Content-Range tells.",
    ),
    Problem(
        "Bad cursor",
        (422,),
        "after or before names nothing in this list.",
        "Take next of the page before as it stands.",
    ),
    Problem(
        "Bad idempotency key",
        (422,),
        "Idempotency-Key is empty, too long, or has other than visible ASCII characters.",
        "A random UUID does well.",
    ),
    Problem(
        "Idempotency key reused",
        (422,),
        "The same Idempotency-Key came with another job within a day.",
        "Take a new key for each job; repeat a key only with what it named.",
    ),
    Problem(
        "No valid API key",
        (401,),
        "There was no API key, or it is unknown, revoked or expired.",
        "Send Authorization: Bearer KEY. An operator issues keys.",
    ),
    Problem(
        "No valid session token",
        (401,),
        "The worker's session has ended.",
        "Join again; the new tier frame has a new token.",
    ),
    Problem(
        "Scope missing",
        (403,),
        "The API key is valid, and may not do this.",
        "Use a key with the scope that detail names.",
    ),
    Problem(
        "Not found",
        (404,),
        "There is nothing at this address.",
        "GET /v1/openapi.json says what exists.",
    ),
    Problem(
        "No such job",
        (404,),
        "No job of this key's owner has this id.",
        "List jobs with GET /v1/jobs; a key with the scope operate sees all.",
    ),
    Problem(
        "No such part",
        (404,),
        "The job's result has no part of this name.",
        "Take one of the names that detail lists.",
    ),
    Problem(
        "No such key",
        (404,),
        "No API key has this id.",
        "List keys with GET /v1/keys.",
    ),
    Problem(
        "No such worker",
        (404,),
        "No worker with this id ever joined.",
        "List workers with GET /v1/workers.",
    ),
    Problem(
        "No such upload",
        (404,),
        "There is no partial upload of this digest, or it has expired.",
        "Begin again at Upload-Offset 0.",
    ),
    Problem(
        "No such lease",
        (409,),
        "The lease is another worker's, or its task has been decided.",
        "Drop the result; nothing is lost.",
    ),
    Problem(
        "Method not allowed",
        (405,),
        "The address exists, and does not take this method.",
        "Use one of those in the header Allow.",
    ),
    Problem(
        "Missing blob",
        (409,),
        "An operand's bytes are not stored.",
        "Send them with PUT /v1/blobs/{digest}, then the job again.",
    ),
    Problem(
        "Job has ended",
        (409,),
        "The job is completed, failed or cancelled, and stays so.",
        "Nothing; its status says how it ended.",
    ),
    Problem(
        "No result",
        (409,),
        "The job has no result yet, or failed.",
        "Wait with GET /v1/jobs/{id}?wait=60.",
    ),
    Problem(
        "Result gone",
        (410,),
        "The job completed, and its bytes are no longer in the store.",
        "Submit the job again.",
    ),
    Problem(
        "Wrong offset",
        (409,),
        "The piece does not begin where the upload stands.",
        "Go on at Upload-Offset of this answer.",
    ),
    Problem(
        "Upload length differs",
        (409,),
        "Upload-Length is another than with the first piece.",
        "Send the same length, or DELETE the upload and begin again.",
    ),
    Problem(
        "Key is ending",
        (409,),
        "The key was replaced or revoked, and lives only through its grace.",
        "Rotate the key that followed it.",
    ),
    Problem(
        "Last operator key",
        (409,),
        "Without this key nobody could operate the mesh.",
        "Issue another key with the scope operate first.",
    ),
    Problem(
        "Too many keys",
        (409,),
        "As many API keys are in use as may be.",
        "Revoke what nobody uses.",
    ),
    Problem(
        "No such verifier",
        (404,),
        "No verification key is registered under this version.",
        "List them with GET /v1/verifiers.",
    ),
    Problem(
        "Version is taken",
        (409,),
        "The version is registered with another key, circuit or shape, and stays so.",
        "Register under a name of its own.",
    ),
    Problem(
        "Version is active",
        (409,),
        "The circuit's active version is this one already.",
        "Nothing; GET /v1/verifiers says since when.",
    ),
    Problem(
        "Version is not active",
        (409,),
        "Only an active version has a successor.",
        "Revoke it without one, or rotate.",
    ),
    Problem(
        "Version is revoked",
        (409,),
        "A revoked version is never active again.",
        "Register a key under another version.",
    ),
    Problem(
        "Development key",
        (409,),
        "The key was made from randomness that somebody knows, and the mesh does not run in development mode.",
        "Register a key of a ceremony; for trials set SHARDY_DEVELOPMENT.",
    ),
    Problem(
        "Too many verifiers",
        (409,),
        "As many circuits, versions of one, or graces at once are there as may be.",
        "Read detail: what is full says what to do.",
    ),
    Problem(
        "No such ceremony",
        (404,),
        "The circuit has no ceremony, or not this run of it.",
        "List them with GET /v1/ceremonies.",
    ),
    Problem(
        "Ceremony is running",
        (409,),
        "The circuit has a ceremony already.",
        "Go on with it, or say `again` to put a new run in its place.",
    ),
    Problem(
        "Ceremony has moved on",
        (409,),
        "The step was made from a key that is not the newest, or the run takes no such step any more.",
        "GET the ceremony, and begin again from its newest key.",
    ),
    Problem(
        "Ceremony is not ready",
        (409,),
        "Something comes first: contributions before the beacon, the beacon and a check before the end.",
        "Read detail: it says what is missing.",
    ),
    Problem(
        "Too many ceremonies",
        (409,),
        "As many circuits, runs or contributions are there as may be.",
        "Read detail: what is full says what to do.",
    ),
    Problem(
        "No such entry",
        (404,),
        "There is no dead letter of this name.",
        "List them with GET /v1/dlq.",
    ),
    Problem(
        "Entry closed",
        (409,),
        "The dead letter was replayed or discarded before; detail says by whom, and how.",
        "Nothing; each is closed once.",
    ),
    Problem(
        "Cannot be replayed",
        (409,),
        "What the dead letter is about cannot be tried again as things are.",
        "Read detail; discard the letter if it stays so.",
    ),
    Problem(
        "Body too large",
        (413,),
        "The body is over the limit.",
        "Split it by rows; large operands are blobs.",
    ),
    Problem(
        "URL too long",
        (414,),
        "Path and query are longer than any call needs.",
        "Shorten them.",
    ),
    Problem(
        "Wrong content type",
        (415,),
        "The call does not take a body of this type.",
        "Send application/json, or for a job with operands the frame's type.",
    ),
    Problem(
        "Digest mismatch",
        (422,),
        "The bytes have another BLAKE3 than the address says: they were damaged or cut.",
        "Send them again.",
    ),
    Problem(
        "Too many requests",
        (429,),
        "A limit of calls, bytes or failed keys was passed.",
        "Come back after Retry-After seconds; RateLimit tells what is left.",
    ),
    Problem(
        "Too many active jobs",
        (429,),
        "As many of the owner's jobs are active as may be.",
        "Wait for some to end, or cancel some.",
    ),
    Problem(
        "Too many streams",
        (429,),
        "As many event streams of the key are open as may be.",
        "Close some, or ask with wait instead.",
    ),
    Problem(
        "Too many uploads",
        (429,),
        "The owner's partial uploads are as many, or as large, as may be.",
        "Finish or DELETE some.",
    ),
    Problem(
        "Too many bodies",
        (429,),
        "As many bodies of the key, or of all keys, are on their way in as may be.",
        "Send fewer at once.",
    ),
    Problem(
        "Too many waits",
        (429,),
        "As many calls of the key, or of all keys, wait for a job's end as may.",
        "Wait with fewer calls at once, or ask without wait.",
    ),
    Problem(
        "Mesh busy",
        (429,),
        "The mesh has more to do than it can take on; GET /v1/mesh shows how much, as pressure. Nothing was recorded.",
        "Come back after Retry-After seconds, which follow from how fast work drains.",
    ),
    Problem(
        "Log full",
        (503,),
        "The event log is at its limit, or so near that the rest is kept for jobs that run. Nothing is lost.",
        "Come back after Retry-After seconds; an operator archives the log or raises its limit.",
    ),
    Problem(
        "Store full",
        (503,),
        "The blob store is at its limit, or the disk has no more room than the mesh itself needs.",
        "Come back after Retry-After seconds; an operator makes room or raises the limit.",
    ),
    Problem(
        "Head too large",
        (431,),
        "The request's headers are larger than any call needs.",
        "Send fewer.",
    ),
    Problem(
        "No such task",
        (404,),
        "The job has no task of this id, or there was never one.",
        "List a job's tasks with GET /v1/jobs/{id}/tasks.",
    ),
    Problem(
        "No receipt",
        (409, 503),
        "Only what is verified has a receipt, and a gateway without a signing key makes none.",
        "Wait until the job has completed; an operator gives the gateway its key.",
    ),
    Problem(
        "Evidence gone",
        (410,),
        "What the receipt would hold is no longer stored.",
        "Submit the job again.",
    ),
    Problem(
        "Archive missing",
        (503,),
        "Events were archived, and the files that hold them are missing or were changed.",
        "An operator puts the files back: shardy log restore FILE --into DATA_DIR.",
    ),
    Problem(
        "A fault of the mesh",
        (500,),
        "Something broke that should not.",
        "Try again; the mesh has logged it.",
    ),
    Problem(
        "Try again",
        (503,),
        "A part of the mesh is away, or the disk is full.",
        "Repeat the call after Retry-After seconds; detail says if anything was recorded.",
    ),
)
