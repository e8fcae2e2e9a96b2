"""Uploads in pieces as the mesh takes them: strict on headers and on where each piece begins."""

from __future__ import annotations

from blake3 import blake3
from fake_problems import problem
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

WHOLE_BYTES_MAX = 8 << 20


class FakeUploads:
    """blobs: where complete ones go. A broken piece leaves what arrived of it."""

    def reset(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs
        self.partial: dict[str, bytearray] = {}
        self.lengths: dict[str, int] = {}
        self.received = 0
        self.spoil = False  # store other bytes than were sent, once
        self.lose_answers = 0  # complete so many pieces without saying so
        self.stuck = False  # say that nothing but five bytes is there, whatever comes

    async def handle(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if request.method == "DELETE":
            self.drop(digest)
            return Response(status_code=204)
        if request.method == "HEAD":
            return self._head(digest)
        offset, length = (request.headers[name] for name in ("upload-offset", "upload-length"))
        assert offset.isdigit() and length.isdigit() and int(length) > WHOLE_BYTES_MAX, "small blobs go by PUT"
        assert request.headers["content-length"].isdigit() and request.headers["content-type"]
        if digest in self.blobs:
            return JSONResponse({"digest": digest, "bytes": len(self.blobs[digest])}, 201)
        held = self.partial.setdefault(digest, bytearray())
        assert self.lengths.setdefault(digest, int(length)) == int(length)
        if int(offset) != len(held) or self.stuck:
            async for _ in request.stream():
                pass
            stands = "5" if self.stuck else str(len(held))
            detail = f"the upload stands at {stands}: go on there"
            return problem(409, "wrong-offset", detail, {"Upload-Offset": stands, "Upload-Length": length})
        try:
            async for chunk in request.stream():
                held += chunk
                self.received += len(chunk)
        except ClientDisconnect:
            return Response(status_code=400)
        assert len(held) <= int(length)
        if len(held) < int(length):
            return Response(status_code=204, headers={"Upload-Offset": str(len(held)), "Upload-Length": length})
        return self._complete(digest, bytes(held))

    def _head(self, digest: str) -> Response:
        if digest in self.blobs:
            return Response(headers={"Upload-Complete": "?1"})
        if digest not in self.partial:
            return Response(status_code=404)
        at, length = str(len(self.partial[digest])), str(self.lengths[digest])
        return Response(headers={"Upload-Offset": at, "Upload-Length": length})

    def _complete(self, digest: str, data: bytes) -> Response:
        self.drop(digest)
        if self.spoil:
            self.spoil, data = False, b"\0" + data[1:]
        if blake3(data).hexdigest() != digest:
            detail = f"the {len(data)} bytes do not have this digest: the upload was dropped, begin anew"
            return problem(422, "digest-mismatch", detail)
        self.blobs[digest] = data
        if self.lose_answers:
            self.lose_answers -= 1
            return Response(status_code=503, headers={"Retry-After": "0"})
        return JSONResponse({"digest": digest, "bytes": len(data)}, 201)

    def drop(self, digest: str) -> None:
        self.partial.pop(digest, None)
        self.lengths.pop(digest, None)
