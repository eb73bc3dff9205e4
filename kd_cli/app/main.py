"""The script that Streamlit runs for every visitor and every click: navigation, and the page that was chosen."""

import streamlit as st

from kd_cli.app import markup, pages

st.set_page_config(page_title="kd: knowledge distillation", page_icon=markup.draw_icon(), layout="wide")
markup.add_style()
st.navigation([page.as_entry(is_first=i == 0) for i, page in enumerate(pages.for_this_data())], position="top").run()
