"""The files that visitors uploaded and that the server keeps in memory."""

from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager


def count_bytes(session: str | None) -> int:
    """Bytes that are kept for a session, or for all of them."""
    if not runtime.exists():
        return 0
    manager = runtime.get_instance().uploaded_file_mgr
    assert isinstance(manager, MemoryUploadedFileManager)
    stored = manager.file_storage
    sessions = list(stored.values()) if session is None else [stored.get(session, {})]
    return sum(len(file.data) for files in sessions for file in list(files.values()))
