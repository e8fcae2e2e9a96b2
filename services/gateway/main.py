"""Entry point of the gateway."""

from __future__ import annotations

import uvicorn

from shardy_common.config import configure_logging
from shardy_common.run import relax_gc, slot
from shardy_common.wire.frame import FRAME_BYTES_MAX
from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings
from shardy_gateway.descriptors import raise_descriptors
from shardy_gateway.http_head import BoundedHttp
from shardy_gateway.socket_head import BoundedSocket


def main() -> None:
    settings = GatewaySettings()
    configure_logging("gateway", settings.log_level)
    settings = slot("gateway", settings)
    raise_descriptors()
    relax_gc()
    uvicorn.run(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        ws=BoundedSocket,
        ws_max_size=FRAME_BYTES_MAX + 1024,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # heartbeats and the sweep of silent sessions do it, with no timer for each socket
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
