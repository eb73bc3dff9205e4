"""What the server refuses before Streamlit sees it."""

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from kd_cli.app.addresses import Names
from kd_cli.app.gate import COOKIE, Gate
from kd_cli.app.limits import ALL_UPLOADS_MEGABYTES, TOTAL_MEGABYTES

LOCAL = Names("localhost")

UPLOAD = "/_stcore/upload_file/session/file"


def ask(
    headers: list[tuple[str, str]],
    names: Names = LOCAL,
    kind: str = "http",
    method: str = "GET",
    path: str = "/",
    uploaded: dict[str | None, int] | None = None,
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer; what is let in is answered with 200."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.disconnect"}

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "extensions": {"websocket.http.response": {}},
    }
    gate = Gate(PlainTextResponse("let in"), names, lambda session: (uploaded or {}).get(session, 0))
    asyncio.run(gate(scope, receive, send))
    start = sent[0]
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}


OPEN = [("host", "localhost"), ("accept", "text/html,*/*;q=0.8")]
"""What a browser sends that opens the page."""


def test_a_browser_gets_a_name_that_nobody_guesses_and_scripts_cannot_read() -> None:
    first, second = (ask(OPEN)[1]["set-cookie"] for _ in range(2))
    name = re.fullmatch(f"{COOKIE}=([\\w-]+); Path=/; HttpOnly; SameSite=Lax", first)
    assert name is not None
    assert len(name[1]) > 40
    assert first != second


@pytest.mark.parametrize(
    "headers",
    [
        [*OPEN, ("cookie", f"other=1; {COOKIE}=known")],
        [("host", "localhost"), ("accept", "text/css,*/*;q=0.1")],
        [("host", "localhost")],
        [("host", "evil.example"), *OPEN[1:]],
    ],
    ids=["was here before", "asks for a style sheet", "says nothing", "is refused"],
)
def test_nobody_else_gets_one(headers: list[tuple[str, str]]) -> None:
    assert "set-cookie" not in ask(headers)[1]


KINDS = pytest.mark.parametrize("kind", ["http", "websocket"])


@KINDS
@pytest.mark.parametrize("host", ["localhost:8501", "LOCALHOST", "localhost.:8501", "127.0.0.1:8501", "[::1]:8501"])
def test_names_of_this_machine_are_let_in(kind: str, host: str) -> None:
    assert ask([("host", host)], kind=kind)[0] == 200


@KINDS
@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:8501",
        "localhost.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "10.0.0.1",
        "localhost:8501x",
        "[::1",
        "evil.example/localhost",
    ],
)
def test_a_rebound_name_is_refused(kind: str, host: str) -> None:
    assert ask([("host", host)], kind=kind)[0] == 403


@pytest.mark.parametrize("headers", [[], [("host", "localhost"), ("host", "evil.example")]])
def test_a_request_names_its_host_once(headers: list[tuple[str, str]]) -> None:
    assert ask(headers)[0] == 403


def test_names_that_were_allowed_are_let_in() -> None:
    names = Names("192.168.1.5", ["Digits.example"])
    assert [ask([("host", host)], names)[0] for host in ("192.168.1.5:80", "digits.example", "192.168.1.6")] == [
        200,
        200,
        403,
    ]


@pytest.mark.parametrize(("host", "status"), [("192.168.1.5:8501", 200), ("[fe80::1]", 200), ("evil.example", 403)])
def test_a_server_that_listens_everywhere_is_asked_by_its_addresses(host: str, status: int) -> None:
    assert ask([("host", host)], Names("0.0.0.0"))[0] == status


@KINDS
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8501", 200),
        ("https://localhost:8501", 200),
        ("http://localhost:3000", 403),  # another program's page
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
def test_only_the_page_itself_may_ask(kind: str, origin: str, status: int) -> None:
    assert ask([("host", "localhost:8501"), ("origin", origin)], kind=kind)[0] == status


def test_a_proxy_may_ask_for_visitors_of_an_allowed_name() -> None:
    headers = [("host", "localhost:8501"), ("origin", "https://digits.example")]
    assert ask(headers, Names("localhost", ["digits.example"]))[0] == 200


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_no_answer_may_be_framed_or_embedded(host: str) -> None:
    _, headers = ask([("host", host)])
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("uploaded", "status"),
    [
        ({}, 200),
        ({"session": TOTAL_MEGABYTES * 2**20}, 200),
        ({"session": TOTAL_MEGABYTES * 2**20 + 1}, 413),
        ({"other": TOTAL_MEGABYTES * 2**20 + 1}, 200),
        ({None: ALL_UPLOADS_MEGABYTES * 2**20 + 1}, 413),
    ],
)
def test_uploads_do_not_add_up_without_bound(uploaded: dict[str | None, int], status: int) -> None:
    assert ask([("host", "localhost")], method="PUT", path=UPLOAD, uploaded=uploaded)[0] == status
