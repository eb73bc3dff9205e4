"""What comes to the server before Streamlit sees it: foreign names, foreign pages and endless uploads are refused.

Browsers get a cookie here, by which `visitor` knows them.

A page on another site can make a visitor's browser send requests here. Its name may even lead to this machine (DNS
rebinding): then its requests look like the page's own, but for the name in ``Host``.
"""

import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kd_cli.app.addresses import Names, find_name
from kd_cli.app.limits import ALL_UPLOADS_MEGABYTES, TOTAL_MEGABYTES

HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer: no other page may frame this one or embed what it serves."""

COOKIE = "kd_visitor"

Uploads = Callable[[str | None], int]
"""A session, or None for all of them -> the bytes of the uploads that the server keeps for it."""


class Gate:
    """ASGI middleware that refuses what no visitor's own browser sends.

    Args:
        app: what answers the rest.
        names: those of the page.
        uploads: what the server keeps already.
    """

    def __init__(self, app: ASGIApp, names: Names, uploads: Uploads) -> None:
        self._app, self._names, self._uploads = app, names, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, a websocket or an event of the server's life."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        refusal = self._find_refusal(scope)
        is_new = refusal is None and _is_new_visitor(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if is_new:
                    headers.append("Set-Cookie", f"{COOKIE}={secrets.token_urlsafe()}; Path=/; HttpOnly; SameSite=Lax")
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _find_refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        name = find_name(hosts[0]) if len(hosts) == 1 else None
        if name not in self._names:
            return PlainTextResponse("kd: this page has no such name; kd app --allow-host NAME gives it one", 403)
        if any(not self._is_own(origin, hosts[0]) for origin in origins):
            return PlainTextResponse("kd: requests of other pages are refused", 403)
        if scope["type"] == "http" and scope["method"] == "PUT":
            session = scope["path"].rstrip("/").split("/")[-2] if scope["path"].count("/") > 1 else None
            if self._uploads(session) > TOTAL_MEGABYTES * 2**20 or self._uploads(None) > ALL_UPLOADS_MEGABYTES * 2**20:
                return PlainTextResponse("kd: too much is uploaded already: take some images away", 413)
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        # A proxy that this server was told of may ask under another name than its visitors do.
        return parts.netloc.lower() == host.lower() or find_name(parts.netloc) in self._names.allowed


def _is_new_visitor(scope: Scope) -> bool:
    """Whether a browser opens the page, and does not say that it was here before."""
    request = HTTPConnection(scope)
    # Not with a style sheet, say: what is the same for all may be kept by a proxy, which hands it on.
    opens = scope["type"] == "http" and "text/html" in request.headers.get("accept", "")
    return opens and COOKIE not in request.cookies
