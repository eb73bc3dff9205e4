"""The loss of distillation on a real test picture, with temperature and alpha to turn."""

import streamlit as st
import torch
from torch import Tensor

from kd_cli.app import loaded, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.data import Batch, Dataset, Split
from kd_cli.evaluate import find_disagreements
from kd_cli.methods import METHODS, MethodName, choose
from kd_cli.objectives import Step, bind
from kd_cli.settings import Role
from kd_cli.teaching import Teaching

PAGE = {"title": "How it works", "icon": ":material/function:", "url_path": "how-it-works"}

DEFAULTS = METHODS[MethodName.kd].options


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
    step = compute_step(dataset, networks, row, temperature, alpha)
    with right:
        _soft_targets(dataset, networks, row, temperature)
        _loss(step, alpha, temperature)
        _gradient(step, dataset.classes)
    st.html(show.sources(networks.values()))


def _telling(dataset: Dataset, networks: dict[Role, Checkpoint]) -> int:
    """The picture to begin with: of those that only the teacher reads right, the one that they differ on the most."""
    labels = dataset.test.labels
    student, teacher = (loaded.test_logits(dataset, networks[role]) for role in (Role.student, Role.teacher))
    found = find_disagreements(student, teacher, labels, len(labels))
    return next((each.index for each in found if each.teacher.class_index == each.label), 0)


def compute_step(
    dataset: Dataset, networks: dict[Role, Checkpoint], row: int, temperature: float, alpha: float
) -> Step:
    """What ``kd distill`` would minimise if this picture were a batch of one."""
    only = Split(dataset.test.images[row : row + 1], dataset.test.labels[row : row + 1])
    teaching = Teaching([networks[Role.teacher].network], only, dataset.normalisation, augment=False)
    student = networks[Role.student].network
    choice = choose(MethodName.kd, {"temperature": temperature, "alpha": alpha})
    batch = Batch(dataset.normalisation(only.images), only.labels, torch.tensor([0]))
    return bind(choice, teaching, student, seed=0)(student, batch)


def _soft_targets(dataset: Dataset, networks: dict[Role, Checkpoint], row: int, temperature: float) -> None:
    st.html(show.heading(f"Probabilities at T = {temperature:g}"))
    charts = []
    for role, network in networks.items():
        logits = loaded.test_logits(dataset, network)[row].double()
        values = list(zip(dataset.classes, (logits / temperature).softmax(dim=0).tolist(), strict=True))
        title = "Soft targets: the teacher" if role is Role.teacher else "The student"
        charts.append(show.bars(title, values, role, f"at T = 1 its first choice has {logits.softmax(0).max():.1%}"))
    st.html(f'<div class="kd-reading">{"".join(charts)}</div>')


def _loss(step: Step, alpha: float, temperature: float) -> None:
    names = {
        "teacher": f"{alpha:g} · {temperature:g}² · KL(teacher ‖ student)",
        "labels": f"{1 - alpha:g} · cross-entropy with the label",
    }
    rows = [(names[name], f"{value.item():.4f}") for name, value in step.terms.items()]
    st.html(show.heading("The loss") + show.table(["Term", "Nats"], [*rows, ("Sum", f"{step.loss.item():.4f}")]))


def _gradient(step: Step, classes: tuple[str, ...]) -> None:
    st.html(
        show.heading("Its gradient with respect to the student's logits")
        + "<p>Learning moves each logit against its gradient: down where it is above 0, up where it is below.</p>"
        + show.signed_bars(
            classes, {name: gradients(step, term) for name, term in (*step.terms.items(), ("sum", step.loss))}
        )
    )


def gradients(step: Step, loss: Tensor) -> list[float]:
    """The derivatives of ``loss`` with respect to the logits of the only picture."""
    (gradient,) = torch.autograd.grad(loss, step.logits, retain_graph=True)
    return [float(value) for value in gradient[0]]
