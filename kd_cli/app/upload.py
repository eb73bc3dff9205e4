"""Upload pictures, and see what teacher and student make of each."""

import streamlit as st

from kd_cli.app import loaded, readings, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.pictures import SUFFIXES
from kd_cli.settings import KdError, Role

MOST = 50
"""Pictures that are read at a time."""

PAGE = {"title": "Upload", "icon": ":material/upload:", "url_path": "upload"}


def page() -> None:
    """The page Upload."""
    st.title("Upload pictures")
    with loaded.failures_shown():
        networks = loaded.to_try()
    files = st.file_uploader(
        f"Pictures of one handwritten digit each, of any size, up to 20 MB: {', '.join(sorted(SUFFIXES))}",
        accept_multiple_files=True,
    )
    if len(files) > MOST:
        st.warning(f"These are {len(files)} pictures; the first {MOST} are read. kd predict reads any number.")
    for file in files[:MOST]:
        _show(file.name, file.getvalue(), networks)
    st.html(show.sources(networks.values()))


def _show(name: str, content: bytes, networks: dict[Role, Checkpoint]) -> None:
    with st.container(border=True):
        st.html(show.heading(name))
        try:
            answer = readings.read(content, name, networks)
        except KdError as error:
            st.error(show.as_markdown(str(error)))
        else:
            st.html(readings.as_html(answer, name))
