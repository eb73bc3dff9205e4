"""The loss of distillation on a real test picture, with temperature and alpha to turn."""

import streamlit as st
from torch import Tensor

from kd_cli import graded
from kd_cli.app import loaded, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.data import Dataset
from kd_cli.evaluate import find_disagreements
from kd_cli.graded import Graded
from kd_cli.methods import METHODS, MethodName
from kd_cli.settings import Role

PAGE = {"title": "How it works", "icon": ":material/function:", "url_path": "how-it-works"}

DEFAULTS = METHODS[MethodName.kd].options

Terms = dict[str, Graded]
"""Parts of a loss by name, each with its gradient."""


def page() -> None:
    """The page How it works."""
    st.title("How distillation works")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
    st.html(
        "<p>The student is shown a picture and gives a logit for each class. It is told two things: the label, and "
        "how probable the teacher finds each class. Divided by the temperature T, logits give softer probabilities, "
        "which tell more of what the teacher sees in a picture. Alpha is the teacher's share of the loss:</p>"
        '<p class="kd-formula">loss = alpha · T² · KL(teacher ‖ student, both at T) + (1 - alpha) · cross-entropy '
        "with the label</p>"
    )
    left, right = st.columns([1, 3], gap="large")
    with left:
        row = st.number_input("Test picture", 0, len(dataset.test) - 1, _telling(dataset, networks))
        label = dataset.classes[int(dataset.test.labels[row])]
        st.html(
            show.image(dataset.test.images[row].numpy(), f"Test picture {row}, labelled {label}", 140)
            + f"<p>Its label: <strong>{show.escape(label)}</strong></p>"
        )
        temperature = st.slider("Temperature T", 0.5, 20.0, float(DEFAULTS["temperature"]), 0.5)
        alpha = st.slider("Alpha", 0.0, 1.0, float(DEFAULTS["alpha"]), 0.05)
    logits = {role: loaded.test_logits(dataset, network)[row : row + 1] for role, network in networks.items()}
    only = dataset.test.labels[row : row + 1]
    terms = compute_terms(logits[Role.student], logits[Role.teacher], only, temperature, alpha)
    with right:
        _soft_targets(logits, dataset.classes, temperature)
        _loss(terms, alpha, temperature)
        _gradient(terms, dataset.classes)
    st.html(show.sources(networks.values()))


def _telling(dataset: Dataset, networks: dict[Role, Checkpoint]) -> int:
    """The picture to begin with: of those that only the teacher reads right, the one that they differ on the most."""
    labels = dataset.test.labels
    student, teacher = (loaded.test_logits(dataset, networks[role]) for role in (Role.student, Role.teacher))
    found = find_disagreements(student, teacher, labels, len(labels))
    return next((each.index for each in found if each.teacher.class_index == each.label), 0)


def compute_terms(student: Tensor, teacher: Tensor, label: Tensor, temperature: float, alpha: float) -> Terms:
    """What ``kd distill`` would minimise if a picture were a batch of one: the terms that weigh something, and "sum".

    Logits are (1, classes), the label is (1,).
    """
    both = graded.pair(student, teacher)
    terms = {}
    if alpha > 0:
        terms["teacher"] = graded.soft_targets(both, temperature, alpha)
    if alpha < 1:
        terms["labels"] = graded.cross_entropy(both[0], label, 1 - alpha)
    return terms | {"sum": graded.add(*terms.values())}


def _soft_targets(logits: dict[Role, Tensor], classes: tuple[str, ...], temperature: float) -> None:
    st.html(show.heading(f"Probabilities at T = {temperature:g}"))
    charts = []
    for role, own in logits.items():
        soft, plain = ((own[0].double() / t).softmax(dim=0) for t in (temperature, 1))
        values = list(zip(classes, soft.tolist(), strict=True))
        title = "Soft targets: the teacher" if role is Role.teacher else "The student"
        charts.append(show.bars(title, values, role, f"at T = 1 its first choice has {plain.max():.1%}"))
    st.html(f'<div class="kd-reading">{"".join(charts)}</div>')


def _loss(terms: Terms, alpha: float, temperature: float) -> None:
    names = {
        "teacher": f"{alpha:g} · {temperature:g}² · KL(teacher ‖ student)",
        "labels": f"{1 - alpha:.3g} · cross-entropy with the label",
        "sum": "Sum",
    }
    rows = [(names[name], f"{term.value.item():.4f}") for name, term in terms.items()]
    st.html(show.heading("The loss") + show.table(["Term", "Nats"], rows))


def _gradient(terms: Terms, classes: tuple[str, ...]) -> None:
    columns = {name: term.gradient[:, 0].tolist() for name, term in terms.items()}
    st.html(
        show.heading("Its gradient with respect to the student's logits")
        + "<p>Learning moves each logit against its gradient: down where it is above 0, up where it is below.</p>"
        + show.signed_bars(classes, columns)
    )
