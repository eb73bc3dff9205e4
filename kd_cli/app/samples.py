"""Test images, and what teacher and student predict for them."""

import streamlit as st
from torch import Tensor

from kd_cli.app import loaded, markup, predictions
from kd_cli.app.navigation import Page
from kd_cli.config import Role
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import find_disagreements

SHEET = 40
"""Images that are shown at a time."""

ALL = "all"


def show() -> None:
    """The page Samples."""
    st.title("Test images")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
    teacher, student = (loaded.test_logits(dataset, networks[role]) for role in (Role.teacher, Role.student))
    classes = dataset.info.classes
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    wanted = left.selectbox("Class", [ALL, *classes])
    differ = middle.checkbox("Teacher and student disagree")
    rows = choose(dataset, teacher, student, None if wanted == ALL else classes.index(wanted), differ)
    sheets = max(1, -(-len(rows) // SHEET))
    sheet = right.number_input(f"Sheet, of {sheets}", 1, sheets, 1)
    order = ", the most telling first" if differ else ""
    st.html(f"<p>{len(rows):,} of {len(dataset.test):,} test images of {dataset.info.name}{order}.</p>")
    shown = rows[(sheet - 1) * SHEET : sheet * SHEET]
    st.html(_grid(dataset, shown, teacher, student))
    if shown:
        row = st.selectbox("Look closer at image", shown)
        found = predictions.predict_image(dataset.test.images[row].numpy(), networks)
        st.html(predictions.as_html(found, f"Test image {row}"))
    loaded.show_sources(networks.values())


def choose(dataset: Dataset, teacher: Tensor, student: Tensor, label: int | None, differ: bool) -> list[int]:
    """The rows of the test images to show.

    Args:
        dataset: has the test images.
        teacher: its logits for them, (N, classes).
        student: likewise.
        label: the class to show, or None for all.
        differ: whether to show only images on which the networks disagree, the most telling first.
    """
    labels = dataset.test.labels
    if differ:
        rows = [each.index for each in find_disagreements(student, teacher, labels, len(labels))]
    else:
        rows = list(range(len(labels)))
    return rows if label is None else [row for row in rows if labels[row] == label]


def _grid(dataset: Dataset, rows: list[int], teacher: Tensor, student: Tensor) -> str:
    classes = dataset.info.classes
    cells = []
    for row in rows:
        label = classes[int(dataset.test.labels[row])]
        predicted = {name: classes[int(logits[row].argmax())] for name, logits in (("T", teacher), ("S", student))}
        image = markup.image(dataset.test.images[row].numpy(), f"Test image {row}", 84)
        marked = "".join(
            f'<span class="{"kd-correct" if each == label else "kd-incorrect"}">{name} {markup.escape(each)}</span>'
            for name, each in predicted.items()
        )
        cells.append(f"<li>{image}<span>No. {row}: <strong>{markup.escape(label)}</strong></span>{marked}</li>")
    legend = "<p>Under each image: its number and label, and what teacher (T) and student (S) predict.</p>"
    return f'{legend}<ul class="kd-grid">{"".join(cells)}</ul>'


PAGE = Page(show, "Samples", "grid_view")
