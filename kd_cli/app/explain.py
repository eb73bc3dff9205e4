"""The loss of distillation on a test image, with temperature and alpha to turn."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.app import loaded, markup
from kd_cli.app.navigation import Page
from kd_cli.config import Role
from kd_cli.data.dataset import Dataset
from kd_cli.distillation.losses import soft_target_loss
from kd_cli.distillation.methods import METHODS
from kd_cli.evaluation.quality import find_disagreements
from kd_cli.networks.checkpoint import Checkpoint

DEFAULTS = METHODS["kd"].options


@dataclass(frozen=True)
class Term:
    """A part of a loss in nats, and its gradient with respect to the student's logits, one value for each class."""

    value: float
    gradient: tuple[float, ...]


def show() -> None:
    """The page How it works."""
    st.title("How distillation works")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
    st.html(
        "<p>The student is shown an image and gives a logit for each class. Its loss compares them with two things: "
        "the label, and the probabilities that the teacher gives to the classes. Logits that are divided by the "
        "temperature T give softer probabilities, which show more of how the teacher weighs the classes. Alpha is the "
        "teacher's share of the loss:</p>"
        '<p class="kd-formula">loss = alpha · T² · KL(teacher ‖ student, both at T) + (1 - alpha) · cross-entropy '
        "with the label</p>"
    )
    left, right = st.columns([1, 3], gap="large")
    with left:
        row = st.number_input("Test image", 0, len(dataset.test) - 1, _most_telling(dataset, networks))
        label = dataset.info.classes[int(dataset.test.labels[row])]
        st.html(
            markup.image(dataset.test.images[row].numpy(), f"Test image {row}, labelled {label}", 140)
            + f"<p>Its label: <strong>{markup.escape(label)}</strong></p>"
        )
        temperature = st.slider("Temperature T", 0.5, 20.0, float(DEFAULTS["temperature"]), 0.5)
        alpha = st.slider("Alpha", 0.0, 1.0, float(DEFAULTS["alpha"]), 0.05)
    logits = {role: loaded.test_logits(dataset, network)[row : row + 1] for role, network in networks.items()}
    only_label = dataset.test.labels[row : row + 1]
    terms = compute_terms(logits[Role.student], logits[Role.teacher], only_label, temperature, alpha)
    with right:
        _show_probabilities(logits, dataset.info.classes, temperature)
        _show_loss(terms, alpha, temperature)
        _show_gradient(terms, dataset.info.classes)
    loaded.show_sources(networks.values())


def _most_telling(dataset: Dataset, networks: dict[Role, Checkpoint]) -> int:
    """The image to begin with: where only the teacher is correct, and the networks differ the most."""
    labels = dataset.test.labels
    student, teacher = (loaded.test_logits(dataset, networks[role]) for role in (Role.student, Role.teacher))
    found = find_disagreements(student, teacher, labels, len(labels))
    return next((each.index for each in found if each.teacher.class_index == each.label), 0)


def compute_terms(student: Tensor, teacher: Tensor, label: Tensor, temperature: float, alpha: float) -> dict[str, Term]:
    """What ``kd distill`` would minimise if an image were a batch of one: the terms with a weight above 0, and "sum".

    Args:
        student: its logits, (1, classes).
        teacher: likewise.
        label: (1,).
        temperature: softness of the targets.
        alpha: the teacher's share.
    """
    student = student.clone().requires_grad_()
    losses = {}
    if alpha > 0:
        losses["teacher"] = alpha * soft_target_loss(student, teacher, temperature)
    if alpha < 1:
        losses["labels"] = (1 - alpha) * F.cross_entropy(student, label)
    losses["sum"] = torch.stack(list(losses.values())).sum()
    terms = {}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
        terms[name] = Term(loss.item(), tuple(gradient[0].tolist()))
    return terms


def _show_probabilities(logits: dict[Role, Tensor], classes: tuple[str, ...], temperature: float) -> None:
    st.html(markup.heading(f"Probabilities at T = {temperature:g}"))
    charts = []
    for role, own in logits.items():
        soft, plain = ((own[0].double() / t).softmax(dim=0) for t in (temperature, 1))
        values = list(zip(classes, soft.tolist(), strict=True))
        title = "Soft targets: the teacher" if role is Role.teacher else "The student"
        charts.append(markup.probabilities(title, values, role, f"at T = 1 its first choice has {plain.max():.1%}"))
    st.html(f'<div class="kd-predictions">{"".join(charts)}</div>')


def _show_loss(terms: Mapping[str, Term], alpha: float, temperature: float) -> None:
    names = {
        "teacher": f"{alpha:g} · {temperature:g}² · KL(teacher ‖ student)",
        "labels": f"{1 - alpha:.3g} · cross-entropy with the label",
        "sum": "Sum",
    }
    rows = [(names[name], f"{term.value:.4f}") for name, term in terms.items()]
    st.html(markup.heading("The loss") + markup.table(["Term", "Nats"], rows, has_sum=True))


def _show_gradient(terms: Mapping[str, Term], classes: tuple[str, ...]) -> None:
    st.html(
        markup.heading("Its gradient with respect to the student's logits")
        + "<p>Training moves each logit against its gradient: down where it is above 0, up where it is below.</p>"
        + markup.signed_bars(classes, {name: term.gradient for name, term in terms.items()})
    )


PAGE = Page(show, "How it works", "function")
