"""Blobs in pieces: an upload goes on where it stopped, through any gateway of the mesh that shares the store."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from shardy_common import limits
from shardy_common.blobs.uploads import LengthDiffers, Partial, TooManyUploads, WrongOffset
from shardy_common.errors import Refused, Transient
from shardy_gateway.api.blobs import digest_of
from shardy_gateway.api.common import Caller, announced, anybody, charge_upload, state_of, store_takes, too_large

router = APIRouter()
PIECE_BYTES = 4 << 20  # gathered before a write, which is made in a thread
Offset = Annotated[int, Header(ge=0, le=limits.BLOB_BYTES_MAX, description="where the piece begins")]
Length = Annotated[int, Header(ge=0, description="of the whole blob")]


@router.head("/v1/uploads/{digest}", tags=["uploads"])
async def upload_stands(request: Request, digest: str, who: Annotated[Caller, Depends(anybody)]) -> Response:
    """Where a partial upload stands: go on at `Upload-Offset`. `Upload-Complete: ?1` if the blob is stored."""
    state = state_of(request)
    size = state.blobs.size(digest_of(digest))
    if size is not None:
        return Response(headers=_stands(size, size) | {"Upload-Complete": "?1"})
    found = await asyncio.to_thread(state.uploads.find, who.owner, digest)
    if found is None:
        raise Refused("there is no partial upload of this digest", status=404, title="No such upload")
    return Response(
        headers=_stands(found.offset, found.length) | {"Upload-Complete": "?0", "Cache-Control": "no-store"}
    )


@router.patch("/v1/uploads/{digest}", tags=["uploads"], status_code=204)
async def upload_piece(
    request: Request,
    digest: str,
    who: Annotated[Caller, Depends(anybody)],
    upload_offset: Offset,
    upload_length: Length,
) -> Response:
    """Append the body. What was received stays even if the connection breaks. When the last byte is there the digest
    is checked over the whole: 201, or 422 and the upload begins anew."""
    state = state_of(request)
    if upload_length > limits.BLOB_BYTES_MAX:
        raise too_large(limits.BLOB_BYTES_MAX)
    size = state.blobs.size(digest_of(digest))
    if size is not None:
        await asyncio.to_thread(state.uploads.drop, who.owner, digest)
        return JSONResponse({"digest": digest, "bytes": size}, 201)
    try:
        with state.gates.body(who.key):
            store_takes(request, announced(request))
            upload = await asyncio.to_thread(state.uploads.begin, who.owner, digest, upload_length)
            offset = await _receive(request, upload, upload_offset)
        if offset < upload.length:
            return Response(status_code=204, headers=_stands(offset, upload.length))
        fits = await asyncio.to_thread(state.uploads.complete, upload, digest)
    except WrongOffset as error:
        raise Refused(
            f"the upload stands at {error.offset}: go on there",
            status=409,
            title="Wrong offset",
            headers=_stands(error.offset, upload_length),
        ) from None
    except LengthDiffers as error:
        raise Refused(
            f"the upload began with the length {error.length}", status=409, title="Upload length differs"
        ) from None
    except TooManyUploads as error:
        raise Refused(
            "finish or DELETE some of your partial uploads first",
            status=429,
            title="Too many uploads",
            limit=str(error),
            retry_s=60,
        ) from None
    except OSError as error:
        raise Transient(
            f"the mesh could not store the piece ({error.strerror}); what came before it is kept", retry_ms=10_000
        ) from None
    if not fits:
        raise Refused(
            f"the {upload.length} bytes do not have this digest: the upload was dropped, begin anew",
            title="Digest mismatch",
        )
    return JSONResponse({"digest": digest, "bytes": upload.length}, 201)


@router.delete("/v1/uploads/{digest}", tags=["uploads"], status_code=204)
async def drop_upload(request: Request, digest: str, who: Annotated[Caller, Depends(anybody)]) -> Response:
    """Drop a partial upload. A blob that is stored stays."""
    if not await asyncio.to_thread(state_of(request).uploads.drop, who.owner, digest_of(digest)):
        raise Refused("there is no partial upload of this digest", status=404, title="No such upload")
    return Response(status_code=204)


async def _receive(request: Request, upload: Partial, offset: int) -> int:
    """Append the body in pieces from `offset` on; the new offset. A piece that is not whole when the connection breaks
    is appended too."""
    uploads = state_of(request).uploads
    if upload.offset != offset:
        raise WrongOffset(upload.offset)
    if offset + announced(request) > upload.length:
        raise _past_the_end(upload.length - offset)
    gathered = bytearray()

    async def write() -> None:
        nonlocal offset
        data = bytes(gathered)
        gathered.clear()
        offset = await asyncio.to_thread(uploads.append, upload, offset, data)
        state_of(request).store_room.wrote(len(data))

    try:
        async for chunk in request.stream():
            if offset + len(gathered) + len(chunk) > upload.length:
                raise _past_the_end(upload.length - offset - len(gathered))
            store_takes(request, len(gathered) + len(chunk))
            charge_upload(request, len(chunk))
            gathered += chunk
            if len(gathered) >= PIECE_BYTES:
                await write()
    except (ClientDisconnect, Refused):
        if gathered:
            await write()
        raise
    if gathered:
        await write()
    return offset


def _past_the_end(left: int) -> Refused:
    return Refused(
        f"the piece goes past the upload's end: {left} bytes are wanted",
        status=413,
        title="Body too large",
        limit=f"{left} bytes",
    )


def _stands(offset: int, length: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset), "Upload-Length": str(length)}
