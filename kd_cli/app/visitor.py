"""Who looks at the page: a visitor is a browser, known by its cookie, so that who reloads the page stays the same."""

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from kd_cli.app.gate import COOKIE
from kd_cli.app.limits import MAX_TABS

visitors: dict[str, str] = {}
"""The visitor of each tab, the latest last."""


def current_visitor() -> str:
    """The visitor for whom the script runs. Nobody else knows this name: it is never shown."""
    context = get_script_run_ctx()
    assert context is not None
    tab = context.session_id
    visitors.pop(tab, None)
    visitors[tab] = st.context.cookies.get(COOKIE, tab)  # without cookies, a visitor is a tab
    for old in list(visitors)[:-MAX_TABS]:
        visitors.pop(old, None)
    return visitors[tab]


def is_here(visitor: str) -> bool:
    """Whether one of a visitor's tabs is still open."""
    if not runtime.exists():
        return True
    is_open = runtime.get_instance().is_active_session
    return any(owner == visitor and is_open(tab) for tab, owner in list(visitors.items()))
