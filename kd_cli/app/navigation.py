"""A page as the navigation knows it."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
from streamlit.navigation.page import StreamlitPage


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        show: renders it.
        title: in the navigation; also makes its address.
        icon: the name of a Material symbol.
    """

    show: Callable[[], None]
    title: str
    icon: str

    def as_entry(self, is_first: bool = False) -> StreamlitPage:
        """The page as Streamlit's navigation takes it; the first one opens at the server's address."""
        path = self.title.lower().replace(" ", "-")
        return st.Page(self.show, title=self.title, icon=f":material/{self.icon}:", url_path=path, default=is_first)
