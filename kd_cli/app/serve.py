"""Start the page's server. Free of Streamlit and torch until it is clear that the server can start."""

import gc
import importlib.util
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kd_cli.app.addresses import Names, require_free, where_to_open
from kd_cli.app.limits import DISCONNECTED_SECONDS, MESSAGE_MEGABYTES, UPLOAD_MEGABYTES
from kd_cli.config import DataConfig, KdError, PageConfig

INSTALL = "pip install 'kd-cli[app]', or pip install -e '.[app]' in a checkout"

MAIN = Path(__file__).with_name("main.py")

FIXED: dict[str, Any] = {
    "global.developmentMode": False,
    "server.baseUrlPath": "",
    "server.maxUploadSize": UPLOAD_MEGABYTES,
    "server.maxMessageSize": MESSAGE_MEGABYTES,
    "server.disconnectedSessionTTL": DISCONNECTED_SECONDS,
    "server.fileWatcherType": "none",  # nothing here changes while it runs
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.allowedHosts": [],  # the gate does that, for all requests
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.scriptHealthCheckEnabled": False,
    "client.allowedOrigins": [],
    "client.showErrorDetails": "none",  # paths are nobody else's business
    "client.toolbarMode": "minimal",
    "runner.postScriptGC": False,  # a full collection after every stroke takes ten times as long as the predictions
    "browser.gatherUsageStats": False,
    "logger.hideWelcomeMessage": True,
    "logger.level": "error",
    # These can be read on their pages; Streamlit's own red cannot on either.
    "theme.light.primaryColor": "#0b5cad",
    "theme.dark.primaryColor": "#6cb4f5",
}
"""What the page relies on. The user's own configuration of Streamlit cannot undo it; what a version lacks is left."""

log = logging.getLogger(__name__)


def serve(page: PageConfig, data: DataConfig) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        ConfigError: there is no such data set.
        KdError: Streamlit is missing or too old, the address cannot be listened on, or the folder that was named for
            networks has none of the data set.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise KdError(f"the page needs Streamlit: {INSTALL}")
    require_free(page.host, page.port)

    import streamlit
    import torch
    from starlette.middleware import Middleware

    from kd_cli.app import pages, process, settings  # noqa: F401  better now than while the first visitor waits
    from kd_cli.app.gate import Gate
    from kd_cli.app.uploads import count_bytes
    from kd_cli.commands.checkpoints import require_models
    from kd_cli.commands.choose_networks import name_data

    if not hasattr(getattr(streamlit, "App", None), "run"):
        raise KdError(f"the page needs a newer Streamlit than {streamlit.__version__}: {INSTALL}")
    require_models(page, name_data(data.dataset, page.models_dir))
    settings.data = data
    settings.run = replace(settings.run, models_dir=page.models_dir.absolute())
    torch.set_num_threads(1)  # a visitor's image is too little work to share, and visitors run side by side anyway
    gc.freeze()  # what was imported stays: no collection need look at it
    app = streamlit.App(
        MAIN,
        lifespan=partial(_announce, page),
        middleware=[Middleware(Gate, Names(page.host, page.allow_host), count_bytes)],
        on_script_error=tell_of_fault,
    )
    _hear_hangups()
    try:
        app.run(config=streamlit_settings(page))
    except KeyboardInterrupt:
        pass  # how it ends
    finally:
        process.end_all()


def streamlit_settings(page: PageConfig) -> dict[str, Any]:
    """What Streamlit is told, of what its version knows."""
    from streamlit import config, logger

    logger.set_log_level("ERROR")  # or it would say that its settings change
    settings = FIXED | {
        "server.address": page.host,
        "server.port": page.port,
        "server.headless": True,  # the page is opened once the server is up
        "server.corsAllowedOrigins": [f"https://{name}" for name in page.allow_host],
    }
    known = config.get_config_options()
    return {name: value for name, value in settings.items() if name in known}


@asynccontextmanager
async def _announce(page: PageConfig, app: object) -> AsyncIterator[None]:
    """Say where the page is, and open it, once it can be opened."""
    from streamlit import cli_util

    address, others = where_to_open(page.host, page.port)
    from_others = f" ({others} from other machines)" if others else ""
    print(f"kd: the page is at {address}{from_others}; Ctrl-C ends it", file=sys.stderr, flush=True)
    if page.browser:
        cli_util.open_browser(address)
    yield None


def tell_of_fault(error: Exception) -> bool:
    """What no page expected: the server's log says what it was, the visitor only that it happened."""
    import streamlit

    log.error("a page failed", exc_info=error)
    streamlit.error("Something is wrong with this page. Reload it; if that does not help, start kd app again.")
    return True


def _hear_hangups() -> None:
    """End as for Ctrl-C when the terminal is closed, unless that is to be ignored, as ``nohup`` has it."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
