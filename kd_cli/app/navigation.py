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
        first: whether it opens at the server's address.
    """

    show: Callable[[], None]
    title: str
    icon: str
    first: bool = False

    def as_entry(self) -> StreamlitPage:
        """The page as Streamlit's navigation takes it."""
        path = self.title.lower().replace(" ", "-")
        return st.Page(self.show, title=self.title, icon=f":material/{self.icon}:", url_path=path, default=self.first)
