"""Start the page's server. Free of Streamlit and torch until it is clear that the server can start."""

import errno
import gc
import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import Any

from kd_cli.settings import DatasetName, KdError

UPLOAD_LIMIT = 20
"""Megabytes of a picture that is uploaded."""

MAIN = Path(__file__).with_name("main.py")

NICE = {
    "server.showEmailPrompt": "false",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "error",
    # These can be read on their pages; Streamlit's own red cannot on either.
    "theme.light.primaryColor": "#0b5cad",
    "theme.dark.primaryColor": "#6cb4f5",
}


def serve(host: str, port: int, browser: bool, dataset: DatasetName, data_dir: Path, models_dir: Path) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        KdError: Streamlit is missing, or the address cannot be listened on.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise KdError("the page needs Streamlit: pip install 'kd-cli[app]', or pip install -e '.[app]' in a checkout")
    require_free(host, port)
    # The script runs anew for every visitor and every click; it finds its settings where the commands find theirs.
    os.environ |= {"KD_DATASET": dataset.value, "KD_DATA_DIR": str(data_dir), "KD_MODELS_DIR": str(models_dir)}

    import torch
    from streamlit.web import cli

    from kd_cli.app import pages  # noqa: F401  torch comes with it: better now than while the first visitor waits

    torch.set_num_threads(1)  # a visitor's picture is too little work to share, and visitors run side by side anyway
    gc.freeze()  # what was imported stays: no collection need look at it
    shown = f"[{host}]" if ":" in host else host
    print(f"kd: the page is at http://{shown}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    options = _needed(host, port, browser) | _known(NICE, cli.main_run)
    cli.main(["run", str(MAIN), *(f"--{name}={value}" for name, value in options.items())], standalone_mode=False)


def _needed(host: str, port: int, browser: bool) -> dict[str, str]:
    """The settings of Streamlit that the page relies on; the user's own configuration does not undo them."""
    return {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "false" if browser else "true",
        "server.maxUploadSize": str(UPLOAD_LIMIT),
        "server.fileWatcherType": "none",  # nothing here changes while it runs
        "runner.postScriptGC": "false",  # a full collection after every stroke takes ten times as long as reading it
        "browser.gatherUsageStats": "false",
    }


def _known(options: dict[str, str], command: Any) -> dict[str, str]:
    """Those of the settings that this version of Streamlit has."""
    names = {name.removeprefix("--") for parameter in command.params for name in parameter.opts}
    return {name: value for name, value in options.items() if name in names}


def require_free(host: str, port: int) -> None:
    """Find out before anything slow is imported whether the server could listen.

    Raises:
        KdError: the port is taken or not ours to take, or the host is no address of this machine.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise KdError(f"no host is called {host}: use --host localhost") from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # elsewhere this option lets two servers share a port
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise KdError(f"port {port} is in use: end what uses it, or choose another with --port") from None
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and len(addresses) > 1:
                continue  # localhost has an IPv6 address also where IPv6 is switched off
            raise KdError(f"cannot listen on {host}, port {port}: {error.strerror}; use another") from None
