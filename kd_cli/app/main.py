"""The script that Streamlit runs for every visitor and every click: navigation, and the page that was chosen."""

import streamlit as st

from kd_cli.app import pages, show

st.set_page_config(page_title="kd: knowledge distillation", page_icon=show.icon(), layout="wide")
show.style()
st.navigation([st.Page(run, **about) for run, about in pages.ALL], position="top").run()
