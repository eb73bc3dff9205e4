"""Start the page's server. Free of Streamlit and torch until it is clear that the server can start."""

import errno
import gc
import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import Any

from kd_cli.app.limits import UPLOAD_MEGABYTES
from kd_cli.config import DataConfig, KdError
from kd_cli.options import PageConfig

MAIN = Path(__file__).with_name("main.py")

FIXED = {
    "server.maxUploadSize": str(UPLOAD_MEGABYTES),
    "server.fileWatcherType": "none",  # nothing here changes while it runs
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "runner.postScriptGC": "false",  # a full collection after every stroke takes ten times as long as the predictions
    "browser.gatherUsageStats": "false",
}
"""What the page relies on. On Streamlit's command line, the user's own configuration of Streamlit cannot undo it."""

NICE = {
    "server.showEmailPrompt": "false",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "error",
    # These can be read on their pages; Streamlit's own red cannot on either.
    "theme.light.primaryColor": "#0b5cad",
    "theme.dark.primaryColor": "#6cb4f5",
}
"""What the page does without where this version of Streamlit has no such setting."""


def serve(page: PageConfig, data: DataConfig) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        ConfigError: there is no such data set.
        KdError: Streamlit is missing, or the address cannot be listened on.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise KdError("the page needs Streamlit: pip install 'kd-cli[app]', or pip install -e '.[app]' in a checkout")
    require_free(page.host, page.port)

    import torch
    from streamlit.web import cli

    from kd_cli.app import pages  # noqa: F401  better now than while the first visitor waits
    from kd_cli.data.prepared import require_known

    require_known(data.dataset)
    # The script runs anew for every visitor and every click. It finds there what it was told.
    os.environ |= {
        "KD_DATASET": data.dataset,
        "KD_DATA_DIR": str(data.data_dir),
        "KD_MODELS_DIR": str(page.models_dir),
    }
    torch.set_num_threads(1)  # a visitor's image is too little work to share, and visitors run side by side anyway
    gc.freeze()  # what was imported stays: no collection need look at it
    shown = f"[{page.host}]" if ":" in page.host else page.host
    print(f"kd: the page is at http://{shown}:{page.port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    address = {
        "server.address": page.host,
        "server.port": str(page.port),
        "server.headless": "false" if page.browser else "true",
    }
    settings = address | FIXED | _known(NICE, cli.main_run)
    cli.main(["run", str(MAIN), *(f"--{name}={value}" for name, value in settings.items())], standalone_mode=False)


def _known(settings: dict[str, str], command: Any) -> dict[str, str]:
    """Those of the settings that this version of Streamlit has."""
    names = {name.removeprefix("--") for parameter in command.params for name in parameter.opts}
    return {name: value for name, value in settings.items() if name in names}


def require_free(host: str, port: int) -> None:
    """Find out before anything slow is imported whether the server could listen.

    Raises:
        KdError: the port is taken or not ours to take, or the host is no address of this machine.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise KdError(f"no host is called {host}: use --host localhost") from error
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # elsewhere this option lets two servers share a port
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise KdError(f"port {port} is in use: end what uses it, or choose another with --port") from error
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and len(addresses) > 1:
                continue  # localhost has an IPv6 address also where IPv6 is switched off
            raise KdError(f"cannot listen on {host}, port {port}: {error.strerror}; use another") from error
