"""Who is taken for whom."""

from unittest.mock import Mock

import pytest
import streamlit
from streamlit import runtime

from kd_cli.app import visitor
from kd_cli.app.gate import COOKIE

Tabs = dict[str, str]
"""Each open tab, and the cookie that its browser sends, if any."""


@pytest.fixture
def tabs(monkeypatch: pytest.MonkeyPatch) -> Tabs:
    opened: Tabs = {}
    monkeypatch.setattr(visitor, "visitors", {})
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: Mock(is_active_session=opened.__contains__))
    return opened


@pytest.fixture
def look(tabs: Tabs, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Let a tab's page ask who looks at it: ``look(tab)``."""

    def ask(tab: str) -> str:
        monkeypatch.setattr(visitor, "get_script_run_ctx", lambda: Mock(session_id=tab))
        cookies = {COOKIE: tabs[tab]} if tabs[tab] else {}
        monkeypatch.setattr(streamlit, "context", Mock(cookies=cookies))
        return visitor.current_visitor()

    return Mock(side_effect=ask)


def test_a_browser_that_reloads_the_page_is_the_same_visitor_and_another_is_not(tabs: Tabs, look: Mock) -> None:
    tabs |= {"first": "a"}
    before = look("first")
    del tabs["first"]
    tabs |= {"second": "a", "third": "b"}
    assert look("second") == before
    assert look("third") != before


def test_without_cookies_a_visitor_is_a_tab(tabs: Tabs, look: Mock) -> None:
    tabs |= {"first": "", "second": ""}
    assert look("first") == look("first") != look("second")


def test_a_visitor_is_here_as_long_as_one_of_their_tabs_is_open(tabs: Tabs, look: Mock) -> None:
    tabs |= {"first": "a", "second": "a", "third": "b"}
    me = look("first")
    look("second")
    look("third")
    del tabs["first"]
    assert visitor.is_here(me)
    del tabs["second"]
    assert not visitor.is_here(me)


def test_tabs_are_not_remembered_without_bound(tabs: Tabs, look: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "MAX_TABS", 3)
    for number in range(10):
        tabs[str(number)] = f"visitor {number}"
        look(str(number))
    assert [visitor.is_here(f"visitor {number}") for number in range(10)] == [False] * 7 + [True] * 3
