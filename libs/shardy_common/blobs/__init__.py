"""Content-addressed blobs behind one interface."""

from shardy_common.blobs.room import NoRoom, StoreRoom
from shardy_common.blobs.store import PACKED_BYTES_MAX, BlobStore, BlobWriter, DirectoryStore, MissingBlob
from shardy_common.blobs.uploads import Uploads

__all__ = [
    "PACKED_BYTES_MAX",
    "BlobStore",
    "BlobWriter",
    "DirectoryStore",
    "MissingBlob",
    "NoRoom",
    "StoreRoom",
    "Uploads",
]
