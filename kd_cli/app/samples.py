"""Real test pictures, and what teacher and student make of them."""

import streamlit as st
from torch import Tensor

from kd_cli.app import loaded, readings, show
from kd_cli.data import Dataset
from kd_cli.evaluate import find_disagreements
from kd_cli.settings import Role

PAGE = {"title": "Samples", "icon": ":material/grid_view:", "url_path": "samples"}

ON_A_PAGE = 40
ALL = "all"


def page() -> None:
    """The page Samples."""
    st.title("Test pictures")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
        networks = loaded.to_test(networks, dataset)
    teacher, student = (loaded.test_logits(dataset, networks[role]) for role in (Role.teacher, Role.student))
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    digit = left.selectbox("Class", [ALL, *dataset.classes])
    differ = middle.checkbox("Teacher and student disagree")
    rows = choose(dataset, teacher, student, None if digit == ALL else dataset.classes.index(digit), differ)
    sheets = max(1, -(-len(rows) // ON_A_PAGE))
    sheet = right.number_input(f"Sheet, of {sheets}", 1, sheets, 1)
    order = ", the most telling first" if differ else ""
    st.html(f"<p>{len(rows):,} of {len(dataset.test):,} test pictures of {dataset.name.value}{order}.</p>")
    shown = rows[(sheet - 1) * ON_A_PAGE : sheet * ON_A_PAGE]
    st.html(_grid(dataset, shown, teacher, student))
    if shown:
        row = st.selectbox("Look closer at picture", shown)
        answer = readings.classify(dataset.test.images[row].numpy(), networks)
        st.html(readings.as_html(answer, f"Test picture {row}"))
    st.html(show.sources(networks.values()))


def choose(dataset: Dataset, teacher: Tensor, student: Tensor, label: int | None, differ: bool) -> list[int]:
    """The rows of the test pictures to show: of one class or all, those read differently or all."""
    labels = dataset.test.labels
    if differ:
        rows = [each.index for each in find_disagreements(student, teacher, labels, len(labels))]
    else:
        rows = list(range(len(labels)))
    return rows if label is None else [row for row in rows if labels[row] == label]


def _grid(dataset: Dataset, rows: list[int], teacher: Tensor, student: Tensor) -> str:
    cells = []
    for row in rows:
        label = dataset.classes[int(dataset.test.labels[row])]
        said = {name: dataset.classes[int(logits[row].argmax())] for name, logits in (("T", teacher), ("S", student))}
        picture = show.image(dataset.test.images[row].numpy(), f"Test picture {row}", 84)
        verdicts = ", ".join(
            f'<span class="{"kd-right" if each == label else "kd-wrong"}">{name} {show.escape(each)}</span>'
            for name, each in said.items()
        )
        cells.append(
            f"<li>{picture}<span>No. {row}: <strong>{show.escape(label)}</strong></span><span>{verdicts}</span></li>"
        )
    legend = "<p>Under each picture: its number and label, and what teacher (T) and student (S) read.</p>"
    return f'{legend}<ul class="kd-grid">{"".join(cells)}</ul>'
