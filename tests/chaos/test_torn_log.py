"""The end of the log is damaged while nats-server is dead: it comes back with what is whole, and the mesh goes on."""

from __future__ import annotations
