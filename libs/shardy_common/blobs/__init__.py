"""Content-addressed blobs behind one interface."""

from shardy_common.blobs.store import PACKED_BYTES_MAX, BlobStore, BlobWriter, DirectoryStore, MissingBlob

__all__ = ["PACKED_BYTES_MAX", "BlobStore", "BlobWriter", "DirectoryStore", "MissingBlob"]
