"""Who looks at the page: a visitor is a browser's tab, as long as it is connected."""

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx


def current_visitor() -> str:
    """The visitor for whom the script runs."""
    context = get_script_run_ctx()
    assert context is not None
    return context.session_id


def is_here(visitor: str) -> bool:
    """Whether a visitor's tab is still open."""
    return not runtime.exists() or runtime.get_instance().is_active_session(visitor)
