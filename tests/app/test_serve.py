"""The server of ``kd app``, as it meets the network."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from streamlit.testing.v1 import AppTest

from kd_cli.app import serve
from kd_cli.app.addresses import where_to_open
from kd_cli.config import PageConfig
from tests.app import browser
from tests.app.test_process import is_alive, wait_until
from tests.conftest import ROOT, CommandLine

HOSTILE = """
[server]
enableXsrfProtection = false
enableCORS = false
corsAllowedOrigins = ["http://elsewhere.example"]
allowedHosts = ["*"]
address = "0.0.0.0"
baseUrlPath = "elsewhere"
[client]
showErrorDetails = "full"
allowedOrigins = ["http://elsewhere.example"]
[browser]
gatherUsageStats = true
"""
"""A configuration of Streamlit, in the folder where the server starts, that opens everything."""


def test_without_streamlit_a_line_says_what_to_install(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, stdout, stderr = kd("app", "--no-browser")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert "kd-cli[app]" in stderr


def test_a_port_in_use_is_one_line(kd: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code, _, stderr = kd("app", "--no-browser", "--port", server.getsockname()[1])
    assert (code, stderr.count("\n")) == (1, 1)
    assert "--port" in stderr


def test_an_unknown_host_is_one_line(kd: CommandLine) -> None:
    code, _, stderr = kd("app", "--no-browser", "--host", "nowhere.invalid")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "--host" in stderr


def test_an_unknown_data_set_is_a_usage_error(kd: CommandLine) -> None:
    code, _, stderr = kd("app", "--no-browser", "--dataset", "mnits")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "mnits" in stderr


def test_a_slip_in_models_dir_does_not_show_the_weights_that_ship(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlit.App.run", Mock())  # else a server that starts would never end
    code, stdout, stderr = kd("app", "--no-browser", "--dataset", "digits", "--models-dir", "modles")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert "no teacher or student for digits in modles" in stderr


class TestAFaultOfAPage:
    def test_tells_the_visitor_no_path_and_the_log_all(self, caplog: pytest.LogCaptureFixture) -> None:
        fail = "serve.tell_of_fault(ValueError('/home/somebody/data'))"
        page: Any = AppTest.from_string(f"from kd_cli.app import serve\nassert {fail}", default_timeout=120).run()
        (shown,) = [each.value for each in [*page.error, *page.exception]]
        assert "Something is wrong with this page" in shown
        assert "/home" not in shown
        assert "/home/somebody/data" in caplog.text

    def test_is_not_shown_by_streamlit_itself(self) -> None:
        assert serve.streamlit_settings(PageConfig())["client.showErrorDetails"] == "none"


@dataclass(frozen=True)
class Observed:
    """How a server met what came to it, and how it ended."""

    forged_upload: int
    other_sites: int
    rebound: int
    websockets: dict[str, int]
    headers: dict[str, str]
    other_address: bool
    log: str
    exit_code: int | None


@pytest.fixture(scope="module")
def observed(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A server that was started where Streamlit is configured to be open to everybody."""
    if os.name != "posix":
        pytest.skip("ends the server with a Unix signal")
    folder = tmp_path_factory.mktemp("server")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(HOSTILE)
    with browser.serve(folder, shipped, folder) as (address, server):
        other_address = _answers("127.0.0.2", int(address.rsplit(":", 1)[1]))
        forged_upload = _upload_without_token(address)
        other_sites = _ask(f"{address}/_stcore/health", Origin="http://elsewhere.example")
        rebound = _ask(f"{address}/_stcore/health", Host="elsewhere.example")
        own, other = address.removeprefix("http://"), "elsewhere.example"
        websockets = {
            "own": _open_websocket(address, own, own),
            "foreign": _open_websocket(address, own, other),
            "rebound": _open_websocket(address, other, other),
        }
        with browser.open_url(address, timeout=10) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
    log = (folder / "server.log").read_text()
    return Observed(forged_upload, other_sites, rebound, websockets, headers, other_address, log, server.returncode)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def _upload_without_token(address: str) -> int:
    request = urllib.request.Request(f"{address}/_stcore/upload_file/session/file", b"content", method="PUT")
    with pytest.raises(urllib.error.HTTPError) as caught:
        browser.open_url(request, timeout=10)
    return caught.value.code


def _ask(url: str, **headers: str) -> int:
    try:
        with browser.open_url(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        return error.code
    return status


def _open_websocket(address: str, host: str, origin: str) -> int:
    """The status with which the server answers; 101 opens it."""
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        f"Origin: http://{origin}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    name, port = address.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(100).split()[1])


def test_uploads_need_the_token_against_forgery_whatever_streamlit_is_configured_to(observed: Observed) -> None:
    assert observed.forged_upload == 403


def test_other_sites_may_not_read_answers_whatever_streamlit_is_configured_to(observed: Observed) -> None:
    assert observed.other_sites == 403


def test_a_name_that_leads_here_without_being_the_pages_is_refused(observed: Observed) -> None:
    assert observed.rebound == 403


def test_websockets_are_for_the_page_itself_alone(observed: Observed) -> None:
    assert observed.websockets == {"own": 101, "foreign": 403, "rebound": 403}


def test_no_other_page_may_frame_this_one(observed: Observed) -> None:
    assert observed.headers["x-frame-options"] == "DENY"
    assert observed.headers["content-security-policy"] == "frame-ancestors 'none'"


def test_the_server_listens_on_the_loopback_address_alone(observed: Observed) -> None:
    # All of 127.0.0.0/8 is this machine: a server that listens everywhere answers at 127.0.0.2, too.
    assert not observed.other_address


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_usage_statistics_are_off(observed: Observed) -> None:
    assert "usage statistics" not in observed.log


def test_an_interrupted_server_ends_with_130_and_without_a_traceback(observed: Observed) -> None:
    assert observed.exit_code == 130
    assert "Traceback" not in observed.log


@pytest.mark.parametrize(
    ("host", "shown"),
    [("localhost", "http://localhost:80"), ("::1", "http://[::1]:80"), ("0.0.0.0", "http://localhost:80")],
)
def test_the_address_that_is_printed_can_be_opened(host: str, shown: str) -> None:
    address, others = where_to_open(host, 80)
    assert address == shown
    assert others is None or "0.0.0.0" not in others
    assert (others is None) == (host != "0.0.0.0")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP"])
def test_a_server_that_is_ended_leaves_neither_processes_nor_files(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_name: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = f"""
import sys, threading, time
from kd_cli.app import process, run, serve
from kd_cli.cli import main
from tests.app import work

def begin():
    time.sleep(1)
    run.runs()
    worker = process.Process(work.wait_for_stop, print)
    print(worker._process.pid, flush=True)
    worker.wait(60)  # as a page does that waits for a measurement

threading.Thread(target=begin).start()
with open({str(tmp_path / "log")!r}, "w") as sys.stderr:
    sys.exit(main(["app", "--no-browser", "--port", "{free_port()}", "--data-dir", {str(tmp_path)!r}]))
"""
    number = signal.Signals[signal_name]
    # Under nohup these tests ignore SIGHUP, and so would the server, as it should there.
    heard = partial(signal.signal, number, signal.SIG_DFL)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, preexec_fn=heard) as server:
        try:
            assert server.stdout is not None
            worker = int(server.stdout.readline())
            wait_until(lambda: "the page is at" in (tmp_path / "log").read_text())
            assert list(scratch.glob("kd-app-*"))
            server.send_signal(number)
            assert server.wait(20) == 130
        finally:
            server.kill()  # else a failure would wait for it for ever
    wait_until(lambda: not is_alive(worker))
    assert list(scratch.glob("kd-app-*")) == []
