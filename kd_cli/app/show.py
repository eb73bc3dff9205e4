"""Results -> pieces of the page. Plain HTML: it appears at once, and is read out as the tables that it is made of."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

import streamlit as st
from PIL import Image, ImageDraw

from kd_cli.checkpoint import Checkpoint
from kd_cli.predict import Picture
from kd_cli.settings import Role


def style() -> None:
    """Bring the style sheet to the page."""
    st.html(f"<style>{_sheet()}</style>")


@cache
def _sheet() -> str:
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


@cache
def icon() -> Image.Image:
    """The tab's icon, a large dot and a small one. One of Streamlit's own would be fetched from another server."""
    picture = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, 46, 46), fill="#3b82c4")
    draw.ellipse((38, 38, 62, 62), fill="#c8682f")
    return picture


def as_markdown(text: str) -> str:
    """Text that says in Streamlit's Markdown what it says here: a file's name may be full of its signs."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~:$&-])", r"\\\1", text)


def image(picture: Picture, alt: str, side: int) -> str:
    """A 28x28 picture, its pixels visible, ``side`` wide on the page."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    return f'<img class="kd-pixels" src="data:image/png;base64,{content}" alt="{escape(alt)}" width="{side}">'


def bars(title: str, values: Sequence[tuple[str, float]], role: Role, note: str = "") -> str:
    """Shares, from 0 to 1, as a table whose cells are bars; the largest stands out."""
    most = max(range(len(values)), key=lambda i: values[i][1])
    rows = "".join(
        f'<tr{" class=kd-most" if i == most else ""}><th scope="row">{escape(name)}</th>'
        f'<td class="kd-track"><div style="width:{100 * value:.2f}%"></div></td>'
        f"<td>{100 * value:.1f} %</td></tr>"
        for i, (name, value) in enumerate(values)
    )
    return (
        f'<table class="kd-bars kd-{role.value}"><caption>{escape(title)} <small>{escape(note)}</small></caption>'
        f'<thead class="kd-unseen"><tr><th scope="col">Class</th><th scope="col">Bar</th>'
        f'<th scope="col">Probability</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def verdict(teacher: str, student: str) -> str:
    """Whether teacher and student agree, in a line."""
    if teacher == student:
        return f'<p class="kd-verdict">Both read <strong>{escape(teacher)}</strong>.</p>'
    return (
        f'<p class="kd-verdict kd-differ">They disagree: the teacher reads <strong>{escape(teacher)}</strong>, '
        f"the student <strong>{escape(student)}</strong>.</p>"
    )


def sources(checkpoints: Iterable[Checkpoint]) -> str:
    """The files that a page speaks of."""
    return f'<ul class="kd-sources">{"".join(map(_source, checkpoints))}</ul>'


def _source(checkpoint: Checkpoint) -> str:
    about = checkpoint.metadata
    origin = " (ships with kd)" if checkpoint.shipped else ""
    return (
        f"<li>{about.role.value.capitalize()} <strong>{escape(about.architecture)}</strong>, trained on "
        f"{about.dataset.value} by {escape(about.method)}: <code>{escape(str(checkpoint.path))}</code>{origin}</li>"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading that takes its text as it is, which Streamlit's own would read as Markdown."""
    return f"<h{level}>{escape(text)}</h{level}>"
