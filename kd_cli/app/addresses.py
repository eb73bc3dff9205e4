"""Where the server listens, and the names under which browsers may ask it. Free of Streamlit."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from kd_cli.config import KdError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

ANYWHERE = frozenset({"0.0.0.0", "::"})
"""Addresses that stand for all addresses of this machine."""


class Names:
    """The names under which the page may be asked for.

    Args:
        host: the address that the server listens on.
        allowed: further names.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(_normal(name) for name in allowed)
        self._names = LOOPBACK | self.allowed | {_normal(host)}
        self._any_address = host in ANYWHERE

    def __contains__(self, name: str | None) -> bool:
        if name is None:
            return False
        return name in self._names or (self._any_address and _is_address(name))  # nobody can rebind an address


def find_name(host: str) -> str | None:
    """The name in ``name:port``, ``[address]:port`` or one of them without a port; None for what is none of these."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises where it is no number
    except ValueError:
        return None
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return _normal(parts.hostname) if plain and parts.hostname else None


def where_to_open(host: str, port: int) -> tuple[str, str | None]:
    """Where the page can be opened: on this machine and, if the server listens everywhere, on others."""
    if host not in ANYWHERE:
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but chooses the address that others see
            own = probe.getsockname()[0]
        except OSError:
            own = socket.gethostname()
    return f"http://localhost:{port}", f"http://{own}:{port}"


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


def _normal(name: str) -> str:
    return name.lower().strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
