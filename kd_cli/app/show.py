"""Results -> pieces of the page. Plain HTML: it appears at once, and is read out as the tables that it is made of."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape as escape
from pathlib import Path

import streamlit as st
from PIL import Image, ImageDraw

from kd_cli.checkpoint import Checkpoint
from kd_cli.predict import Picture
from kd_cli.settings import Role

Measure = tuple[str, Sequence[str], Sequence[float] | None]
"""A row of `side_by_side`: its name, what to write of teacher and student, and what to draw."""


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


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its first column names the rows, the last row stands out."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    return f'<table class="kd-table kd-sum"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def side_by_side(columns: Sequence[str], rows: Sequence[Measure], caption: str) -> str:
    """Teacher and student in columns: each thing measured as text and, where one can be drawn, as a bar."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = []
    for name, texts, values in rows:
        most = max(values or [0]) or 1
        bars = [f'<div class="kd-bar" style="width:{100 * value / most:.1f}%"></div>' for value in values or []]
        cells = "".join(
            f'<td class="kd-{role.value}">{escape(text)}{bar}</td>'
            for role, text, bar in zip(Role, texts, bars or ["", ""], strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        f'<table class="kd-table"><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def signed_bars(rows: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Values above and below 0, in bars that go right and left from the middle; all columns have one scale."""
    most = max(abs(value) for values in columns.values() for value in values) or 1
    head = "".join(f'<th scope="col">{escape(name.capitalize())}</th>' for name in columns)
    body = []
    for i, name in enumerate(rows):
        cells = []
        for values in columns.values():
            side = "left" if values[i] >= 0 else "right"
            style = f"margin-{side}:50%;width:{50 * abs(values[i]) / most:.1f}%"
            push = ";margin-left:auto" if side == "right" else ""
            cells.append(f'<td>{values[i]:+.4f}<div class="kd-bar" style="{style}{push}"></div></td>')
        body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="kd-table kd-signed"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def confusion(title: str, counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are what a picture is, columns what it was taken for; the more often it was mistaken, the darker."""
    most = max(count for i, row in enumerate(counts) for j, count in enumerate(row) if i != j) or 1
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    body = []
    for i, (name, row) in enumerate(zip(classes, counts, strict=True)):
        cells = "".join(
            f'<td class="kd-most">{count}</td>'
            if i == j
            else f'<td style="background:rgb(200 104 47 / {0.5 * count / most:.2f})">{count or ""}</td>'
            for j, count in enumerate(row)
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        f'<div class="kd-scroll" tabindex="0" role="region" aria-label="Confusion matrix: {escape(title)}">'
        f'<table class="kd-confusion"><caption>{escape(title)}: row is the label, column what it was read as</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
