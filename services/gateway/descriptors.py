"""File descriptors: every worker socket takes one, so they bound how many workers a gateway holds.

The soft limit that processes begin with (often 1,024) is raised to the hard one. What is left after RESERVED for the
log, the projection, blobs and HTTP calls is for worker sockets. One more is refused with words: a process that has run
out can neither accept a socket nor open a blob.
"""

from __future__ import annotations

import logging
import sys

RESERVED = 256
log = logging.getLogger("shardy.gateway")


def raise_descriptors() -> None:
    """Call once at start."""
    if sys.platform == "win32":  # has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:  # an unlimited one may still be more than the system allows
            log.warning("the limit of %d open files cannot be raised to %d: %s", soft, hard, error)
    log.info("file descriptors for %d worker sockets", sockets_max())


def sockets_max() -> int:
    """How many worker sockets may be open. Asked at each join, for a running process's limit can be changed."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - RESERVED, 1)
