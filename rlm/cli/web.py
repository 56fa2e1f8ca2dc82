"""`rlm web`: the HTTP face, a long-running process that looks on and changes nothing."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import click

from rlm.cli.common import WholeNumber, config_option, examples
from rlm.cli.processes import log_format_option, long_running

if TYPE_CHECKING:
    import socket
    from pathlib import Path

log = logging.getLogger(__name__)


@click.command(
    epilog=examples("rlm web --metrics-only", "rlm web --port 9090", "RLM_WEB__TOKEN=env:RLM_TOKEN rlm web --host ::")
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8088, show_default=True, type=WholeNumber(0, 65535), help="0 picks a free one.")
@click.option("--metrics-only", is_flag=True, help="Serve /metrics and /healthz only, and no page for people.")
@config_option
@log_format_option
def web(*, config: Path | None, host: str, port: int, metrics_only: bool) -> None:
    """Serve metrics for Prometheus, and a health check, over HTTP. TERM ends it at once.

    /metrics has what the ledger says at that moment, over all processes and hosts; one such process is enough for all
    of them. /healthz answers 200 while Redis answers and a scheduler lives, else 503 with the reason. / says so. It
    starts without Redis too, and says that it is away.

    On another address than the loopback interface's it starts only with a token (web.token), which all but /healthz
    then ask for, as "Authorization: Bearer TOKEN".

    The Host of a request must be this host's loopback, the address at which it arrived, or listed in web.hosts.
    """
    from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs
    from rlm.web.access import read_token  # noqa: PLC0415
    from rlm.web.serve import bind, serve  # noqa: PLC0415

    settings = load_settings(config).web
    token = read_token(settings.token, os.environ)
    with bind(host, port, has_token=bool(token)) as bound:
        where = _url(bound)
        with long_running(config, "web") as (store, wakeup, stop):
            from rlm.web.app import make_app  # noqa: PLC0415
            from rlm.web.health import redis_trouble  # noqa: PLC0415

            asked = "a token is asked for" if token else "this host only, without a token"
            log.info("Serving %s/metrics and %s/healthz, %s", where, where, asked, extra={"action": "serve"})
            if reason := redis_trouble(store):
                log.warning("Nothing can be read yet: %s", reason, extra={"action": "serve"})
            app = make_app(store, token, settings.hosts, metrics_only=metrics_only)
            serve(app, bound, wakeup, stop)


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
