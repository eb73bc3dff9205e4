"""Upload images, and see what teacher and student predict for each."""

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from kd_cli.app import loaded, markup, predictions
from kd_cli.app.limits import MAX_IMAGES, TOTAL_MEGABYTES, UPLOAD_MEGABYTES
from kd_cli.app.navigation import Page
from kd_cli.config import KdError, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.digits.decode import SUFFIXES
from kd_cli.networks.checkpoint import Checkpoint


def show() -> None:
    """The page Upload."""
    st.title("Upload images")
    with loaded.failures_shown():
        networks = loaded.pair_for_images()
    for file in _receive(networks[Role.teacher].metadata.data)[:MAX_IMAGES]:
        _show(file.name, file.getvalue(), networks)
    loaded.show_sources(networks.values())


def _receive(data: DataInfo) -> list[UploadedFile]:
    """The visitor's images; nothing, and a message, where they are too many megabytes."""
    state = st.session_state
    what = "one handwritten character each" if data.is_handwriting else f"the kind that {data.name} has"
    files = st.file_uploader(
        f"Images of {markup.as_markdown(what)}, of any size, up to {UPLOAD_MEGABYTES} MB each and {TOTAL_MEGABYTES} MB "
        f"together: {', '.join(sorted(SUFFIXES))}",
        accept_multiple_files=True,
        key=f"uploader {state.setdefault('uploader', 0)}",
    )
    _forget_others(files)
    megabytes = sum(file.size for file in files) / 2**20
    if megabytes > TOTAL_MEGABYTES:
        state["uploader"] += 1  # a widget with another key is another one, and empty
        state["refused"] = f"These images are {megabytes:.0f} MB together: upload up to {TOTAL_MEGABYTES} MB at a time."
        st.rerun()
    if files:
        state.pop("refused", None)
    if "refused" in state:
        st.error(state["refused"])
    if len(files) > MAX_IMAGES:
        st.warning(f"These are {len(files)} images; the first {MAX_IMAGES} are shown. kd predict takes any number.")
    return files


def _forget_others(files: list[UploadedFile]) -> None:
    """Free the memory of all that this visitor uploaded before; Streamlit keeps it until the visitor leaves."""
    context = get_script_run_ctx()
    assert context is not None
    manager, kept = context.uploaded_file_mgr, {file.file_id for file in files}
    assert isinstance(manager, MemoryUploadedFileManager)
    for file_id in st.session_state.get("uploaded", set()) - kept:
        manager.remove_file(context.session_id, file_id)
    st.session_state["uploaded"] = kept


def _show(name: str, content: bytes, networks: dict[Role, Checkpoint]) -> None:
    with st.container(border=True):
        st.html(markup.heading(name))
        try:
            found = predictions.predict_file(content, name, networks)
        except KdError as error:
            st.error(markup.as_markdown(str(error)))
        else:
            st.html(predictions.as_html(found, name))


PAGE = Page(show, "Upload", "upload")
