"""The server of ``kd app``, as it meets the network."""

import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

from tests.app import browser
from tests.conftest import CommandLine

HOSTILE = """
[server]
enableXsrfProtection = false
enableCORS = false
address = "0.0.0.0"
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


@dataclass(frozen=True)
class Observed:
    """How a server met what came to it, and how it ended."""

    forged_upload: int
    open_to: str | None
    other_address: bool
    log: str
    exit_code: int | None


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A server that was started where Streamlit is configured to be open to everybody."""
    if os.name != "posix":
        pytest.skip("ends the server with a Unix signal")
    folder = tmp_path_factory.mktemp("server")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(HOSTILE)
    with browser.serve(folder, folder, folder) as (address, server):
        other_address = _answers("127.0.0.2", int(address.rsplit(":", 1)[1]))
        forged_upload = _upload_without_token(address)
        open_to = _ask_from_elsewhere(address)
    return Observed(forged_upload, open_to, other_address, (folder / "server.log").read_text(), server.returncode)


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


def _ask_from_elsewhere(address: str) -> str | None:
    request = urllib.request.Request(f"{address}/_stcore/health", headers={"Origin": "http://elsewhere.example"})
    with browser.open_url(request, timeout=10) as answer:
        header: str | None = answer.headers["Access-Control-Allow-Origin"]
    return header


def test_uploads_need_the_token_against_forgery_whatever_streamlit_is_configured_to(observed: Observed) -> None:
    assert observed.forged_upload == 403


def test_other_sites_may_not_read_answers_whatever_streamlit_is_configured_to(observed: Observed) -> None:
    assert observed.open_to is None


def test_the_server_listens_on_the_loopback_address_alone(observed: Observed) -> None:
    # All of 127.0.0.0/8 is this machine: a server that listens everywhere answers at 127.0.0.2, too.
    assert not observed.other_address


def test_usage_statistics_are_off(observed: Observed) -> None:
    assert "usage statistics" not in observed.log


def test_an_interrupted_server_ends_with_130_and_without_a_traceback(observed: Observed) -> None:
    assert observed.exit_code == 130
    assert "Traceback" not in observed.log
