"""Matrices in files: `.npy`, and tensors of `.safetensors`, mapped rather than read; and files that appear whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shardy_client.errors import InvalidInput

SUFFIX = ".safetensors"
HEADER_BYTES_MAX = 100 << 20  # the format's own limit
NAMES_SHOWN_MAX = 20
TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I8": np.dtype("i1")}
CODES = {"float32": "F32", "int8": "I8", "int32": "I32"}
ADVICE = {
    "F16": 'store it as float32: save_file({name: x.astype("float32") for name, x in load_file(old).items()}, new)'
    " with safetensors.numpy",
    "BF16": "NumPy has no such type; store it as float32:"
    " save_file({name: x.float() for name, x in load_file(old).items()}, new) with safetensors.torch",
    "F64": 'store it as float32: x.astype("float32")',
    "U8": 'check its range, then store it as int8: x.astype("int8")',
}


@dataclass(slots=True, frozen=True)
class Tensor:
    """An entry of a safetensors file. code: its type there, such as F32; at: where its bytes begin in the file."""

    name: str
    code: str
    shape: tuple[int, ...]
    at: int
    size: int

    def __str__(self) -> str:
        return f"{self.name} ({self.code} {'×'.join(map(str, self.shape)) or 'scalar'})"


def split(text: str | os.PathLike[str]) -> tuple[Path, str]:
    """`A.safetensors:name` as file and tensor; the name is empty where none is given, and for other files."""
    whole = os.fspath(text)
    head, colon, name = whole.rpartition(f"{SUFFIX}:")
    return (Path(head + SUFFIX), name) if colon else (Path(whole), "")


def load(path: str | os.PathLike[str], name: str = "") -> NDArray[Any]:
    """The matrix of a `.npy` file, or a tensor of a `.safetensors` file: `load("A.safetensors:name")`.

    The name may be left out where the file holds one matrix. Nothing is read before it is used. InvalidInput says
    what to change, and which tensors there are.
    """
    file, named = split(path)
    if file.suffix == SUFFIX:
        return _tensor(file, name or named)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {file}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{file} is no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{file} holds several arrays; save the one to use with numpy.save")
    return array


def tensors(file: Path) -> list[Tensor]:
    """What a safetensors file holds, by its header alone."""
    try:
        with open(file, "rb") as stream:
            whole = os.fstat(stream.fileno()).st_size
            size = int.from_bytes(stream.read(8), "little")
            if whole < 8 or size > min(HEADER_BYTES_MAX, whole - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(size))
            header.pop("__metadata__", None)
            return [_entry(name, fields, 8 + size, whole) for name, fields in sorted(header.items())]
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {file}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{file} is no safetensors file: {error}") from None


def _entry(name: str, fields: dict[str, Any], base: int, whole: int) -> Tensor:
    begin, end = fields["data_offsets"]
    shape = tuple(fields["shape"])
    if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)) or not begin <= end <= whole - base:
        raise ValueError(f"the entry {name} does not fit the file")
    return Tensor(name, str(fields["dtype"]), shape, base + begin, end - begin)


def _tensor(file: Path, name: str) -> NDArray[Any]:
    found = tensors(file)
    matrices = [tensor for tensor in found if len(tensor.shape) == 2]
    chosen = next((tensor for tensor in found if tensor.name == name), None)
    if not name and len(matrices) == 1:
        chosen = matrices[0]
    if chosen is None:
        shown = ", ".join(map(str, found[:NAMES_SHOWN_MAX])) or "nothing"
        more = f" and {len(found) - NAMES_SHOWN_MAX} more" if len(found) > NAMES_SHOWN_MAX else ""
        problem = f"has no tensor {name!r}" if name else f"holds {len(matrices)} matrices"
        raise InvalidInput(f"{file} {problem}; write {file}:NAME with one of: {shown}{more}")
    if chosen.code not in TYPES:
        advice = ADVICE.get(chosen.code, "store it as float32 or int8")
        raise InvalidInput(f"{file}: {chosen} has a type that the mesh does not take (F32 and I8): {advice}")
    dtype = TYPES[chosen.code]
    if chosen.size != dtype.itemsize * int(np.prod(chosen.shape, dtype=object)):
        raise InvalidInput(f"{file} is no safetensors file: {chosen} has {chosen.size} bytes")
    if chosen.size == 0:
        return np.empty(chosen.shape, dtype)
    return np.memmap(file, dtype, "r", chosen.at, chosen.shape)


def safetensors_head(name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """What stands before the bytes of a file that holds this tensor alone."""
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod(shape, dtype=object))
    entry = {"dtype": CODES[kind.name], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({name: entry}, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the bytes begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def writable(path: Path) -> Path:
    """`path`, if a file can be put there: better known before the work than after."""
    folder = path.parent
    if path.is_dir():
        raise InvalidInput(f"cannot write {path}: it is a folder")
    if not folder.is_dir():
        raise InvalidInput(f"cannot write {path}: its folder does not exist")
    if not os.access(folder, os.W_OK):
        raise InvalidInput(f"cannot write {path}: its folder may not be written to")
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to and read from that becomes `path` when the block ends well, and nothing otherwise."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None
    try:
        # mkstemp makes files for nobody else; a result is an ordinary file.
        os.chmod(name, 0o666 & ~_umask())
        with os.fdopen(handle, "w+b") as file:
            yield file
        os.replace(name, path)
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise  # not the file's fault
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
