"""Results -> pieces of the page. Plain HTML: it appears at once, and is read out as the tables that it is made of."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape as escape
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kd_cli.config import Role
from kd_cli.digits.saved import encode
from kd_cli.html.files import read_text
from kd_cli.networks.metadata import Metadata

MOST_CLASSES = 20
"""That are shown one by one."""

LONG_NAME = 20
"""Letters of a class's name, from which it may be cut off."""

MOST_RANKED = 10
"""That are shown where there are more."""


@dataclass(frozen=True)
class Measure:
    """A row of `side_by_side`.

    Attributes:
        name: what was measured.
        texts: what to write of teacher and student.
        values: lengths of bars, which begin at 0; without any there are no bars.
        scale: a word for what the values are; all rows with the same word have one scale, so their bars compare.
    """

    name: str
    texts: Sequence[str]
    values: Sequence[float] = ()
    scale: str = ""


def add_style() -> None:
    """Bring the style sheet to the page."""
    st.html(f"<style>{_read_sheet()}</style>")


@cache
def _read_sheet() -> str:
    return read_text("predictions.css") + Path(__file__).with_name("style.css").read_text(encoding="utf-8")


@cache
def draw_icon() -> Image.Image:
    """The tab's icon, a large dot and a small one. One of Streamlit's own would be fetched from another server."""
    icon = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    draw.ellipse((2, 2, 46, 46), fill="#3b82c4")
    draw.ellipse((38, 38, 62, 62), fill="#c8682f")
    return icon


def as_markdown(text: str) -> str:
    """Text that says in Streamlit's Markdown what it says here: a file's name may be full of its signs."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~:$&-])", r"\\\1", text)


def image(pixels: NDArray[np.uint8], alt: str, side: int) -> str:
    """An image, (channels, height, width), ``side`` wide on the page; the pixels of a small one are visible."""
    step = max(1, pixels.shape[2] // (2 * side))  # no more than screens can show
    content = base64.b64encode(encode(pixels[:, ::step, ::step])).decode()
    smooth = " kd-smooth" if pixels.shape[2] > side else ""
    return f'<img class="kd-pixels{smooth}" src="data:image/png;base64,{content}" alt="{escape(alt)}" width="{side}">'


def probabilities(title: str, values: Sequence[tuple[str, float]], role: Role, note: str = "") -> str:
    """Probabilities of classes as a table whose cells are bars; the largest stands out.

    Of many classes, the most probable ones are shown, and the others as one.
    """
    most = max(range(len(values)), key=lambda i: values[i][1])
    if len(values) > MOST_CLASSES:
        ranked = sorted(values, key=lambda each: -each[1])
        others = ranked[MOST_RANKED:]
        values, most = [*ranked[:MOST_RANKED], (f"{len(others):,} others", sum(value for _, value in others))], 0
    rows = "".join(
        f"<tr{' class=kd-most' if i == most else ''}>{_head(name)}"
        f'<td class="kd-track"><div style="width:{100 * value:.2f}%"></div></td>'
        f"<td>{100 * value:.1f} %</td></tr>"
        for i, (name, value) in enumerate(values)
    )
    return (
        f'<table class="kd-bars kd-{role.value}"><caption>{escape(title)} <small>{escape(note)}</small></caption>'
        f'<thead class="kd-unseen"><tr><th scope="col">Class</th><th scope="col">Bar</th>'
        f'<th scope="col">Probability</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def verdict(teacher: str, student: str, unsure: bool = False) -> str:
    """Whether teacher and student agree, in a line, and whether the image may show none of the classes."""
    doubt = " Not sure: the image may show none of the classes." if unsure else ""
    if teacher == student:
        return f'<p class="kd-verdict">Both predict <strong>{escape(teacher)}</strong>.{doubt}</p>'
    return (
        f'<p class="kd-verdict kd-differ">They disagree: the teacher predicts <strong>{escape(teacher)}</strong>, '
        f"the student <strong>{escape(student)}</strong>.{doubt}</p>"
    )


def note(text: str) -> str:
    """A remark, if there is one."""
    return f"<p>{escape(text)}</p>" if text else ""


def sources(networks: Iterable[tuple[Metadata, str, bool]]) -> str:
    """What networks are, the names of their files, and whether these ship with the package."""
    return f'<ul class="kd-sources">{"".join(_source(*network) for network in networks)}</ul>'


def _source(about: Metadata, file: str, shipped: bool) -> str:
    trained = escape(f"trained on {about.data.name} with {about.method}")
    return (
        f"<li>{about.role.value.capitalize()} <strong>{escape(about.architecture)}</strong>, {trained}: "
        f"<code>{escape(file)}</code>{' (ships with kd)' if shipped else ''}</li>"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading that takes its text as it is, which Streamlit's own would read as Markdown."""
    return f"<h{level}>{escape(text)}</h{level}>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], has_sum: bool = False) -> str:
    """A table; its first column names the rows, and the last row stands out if it is a sum."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    kind = "kd-table kd-sum" if has_sum else "kd-table"
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def side_by_side(columns: Sequence[str], rows: Sequence[Measure], caption: str) -> str:
    """Teacher and student in columns: each measure as text and, where it has values, as a bar."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    longest: dict[str, float] = {}
    for row in rows:
        longest[row.scale] = max(longest.get(row.scale, 0), *row.values, 0)
    body = []
    for row in rows:
        bars = [
            f'<div class="kd-bar" style="width:{100 * value / (longest[row.scale] or 1):.1f}%"></div>'
            for value in row.values
        ]
        cells = "".join(
            f'<td class="kd-{role.value}">{escape(text)}{bar}</td>'
            for role, text, bar in zip(Role, row.texts, bars or ["", ""], strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>')
    return (
        f'<table class="kd-table"><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def signed_bars(rows: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Values above and below 0, in bars that go right and left from the middle; all columns have one scale.

    Of many rows, those with the largest values are shown.
    """
    most = max(abs(value) for values in columns.values() for value in values) or 1
    head = "".join(f'<th scope="col">{escape(name.capitalize())}</th>' for name in columns)
    body = []
    chosen: Iterable[int] = range(len(rows))
    if len(rows) > MOST_CLASSES:
        chosen = sorted(chosen, key=lambda i: -max(abs(values[i]) for values in columns.values()))[:MOST_RANKED]
    for i in chosen:
        cells = []
        for values in columns.values():
            side = "left" if values[i] >= 0 else "right"
            style = f"margin-{side}:50%;width:{50 * abs(values[i]) / most:.1f}%"
            push = ";margin-left:auto" if side == "right" else ""
            cells.append(f'<td>{values[i]:+.4f}<div class="kd-bar" style="{style}{push}"></div></td>')
        body.append(f'<tr><th scope="row">{escape(rows[i])}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="kd-table kd-signed"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _head(name: str, scope: str = "row") -> str:
    """The head of a row or column. A long name is cut off by the style sheet, and whole in the title."""
    title = f' title="{escape(name)}"' if len(name) > LONG_NAME else ""
    return f'<th scope="{scope}"{title}>{escape(name)}</th>'


def count_confused(counts: Sequence[Sequence[int]]) -> int:
    """The largest count of a confusion matrix beside its diagonal."""
    return max(count for i, row in enumerate(counts) for j, count in enumerate(row) if i != j)


def confusion(title: str, counts: Sequence[Sequence[int]], classes: Sequence[str], darkest: int) -> str:
    """A confusion matrix. Rows are the labels, columns the predictions; the more images in a cell, the darker it is.

    Args:
        title: whose it is.
        counts: of images.
        classes: their names.
        darkest: the count that is shown the darkest, the same for matrices side by side.
    """
    head = "".join(_head(name, "col") for name in classes)
    body = []
    for i, (name, row) in enumerate(zip(classes, counts, strict=True)):
        cells = "".join(
            f'<td class="kd-most">{count}</td>'
            if i == j
            else f'<td style="background:rgb(200 104 47 / {0.5 * count / (darkest or 1):.2f})">{count or ""}</td>'
            for j, count in enumerate(row)
        )
        body.append(f"<tr>{_head(name)}{cells}</tr>")
    return (
        f'<div class="kd-scroll" tabindex="0" role="region" aria-label="Confusion matrix: {escape(title)}">'
        f'<table class="kd-confusion"><caption>{escape(title)}: rows are labels, columns predictions</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
