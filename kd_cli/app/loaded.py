"""What the server loads once for all visitors: networks, test images, and the logits for them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import streamlit as st
import torch
from torch import Tensor

from kd_cli.app import markup, settings
from kd_cli.app.run import runs
from kd_cli.commands.checkpoints import read_checkpoint
from kd_cli.commands.choose_networks import name_data
from kd_cli.commands.network_files import require_fit
from kd_cli.config import DataConfig, KdError, Role
from kd_cli.data import prepared
from kd_cli.data.dataset import HANDWRITING, DataInfo, Dataset
from kd_cli.networks.checkpoint import (
    Checkpoint,
    checkpoint_path,
    find_checkpoint,
    shipped_models_dir,
)
from kd_cli.networks.classifier import compute_logits

WORDS = {"lr": "learning rate", "output": "file"}
"""What the page calls options, where that is not their own name."""

COMMAND_OR_OPTION = re.compile(r"\bkd [a-z-]+(?: --[a-z-]+ \S+)*|--([a-z][a-z-]*)")

CPU = torch.device("cpu")


def find_pair(dataset: str, fits: Callable[[DataInfo, DataInfo], bool]) -> dict[Role, Checkpoint]:
    """A data set's teacher, and the student that the visitor chooses: its own, or one that was trained on the page.

    Where the file of the chosen one has vanished or is damaged, a line says so and the data set's own is used.

    Args:
        dataset: its name.
        fits: (the teacher's data, other data) -> whether a student that was trained on the page with these may be
            chosen.

    Raises:
        KdError: there is no teacher, or no student at all; or one is damaged.
    """
    teacher = load_or_shipped(dataset, Role.teacher)
    trained = {run.output: run.name for run in runs().students() if fits(teacher.metadata.data, run.data)}
    try:
        own: Checkpoint | None = load_or_shipped(dataset, Role.student)
    except KdError:
        if not trained:
            raise
        own = None
    students = ({own.path: "The one that is loaded"} if own else {}) | trained
    chosen = next(iter(students))
    if trained:
        # What a widget holds is forgotten while another page is shown; this is not.
        kept = st.session_state.get("student", chosen)
        index = list(students).index(kept) if kept in students else 0
        chosen = st.selectbox("Student", students, index, format_func=lambda path: students[path])
        st.session_state["student"] = chosen
    try:
        student = own if own and chosen == own.path else load(chosen)
    except KdError as error:
        gone = f"The student of run {students[chosen]} is gone or damaged"
        if own is None:
            raise KdError(f"{gone}: train another one on the page Train") from error
        st.warning(markup.as_markdown(f"{gone}. The one that is loaded is used instead."))
        student = own
    return {Role.teacher: teacher, Role.student: student}


def load_or_shipped(dataset: str, role: Role) -> Checkpoint:
    """A data set's network. Where the file of one's own is damaged, a line says so and the one that ships is used.

    Raises:
        KdError: it is not there, or damaged.
    """
    path = find_checkpoint(settings.run.models_dir, dataset, role)
    try:
        return load(path)
    except KdError as error:
        shipped = checkpoint_path(shipped_models_dir(), dataset, role)
        if path == shipped or not shipped.exists():
            raise
        words = f"{in_page_words(str(error))}. The {role.value} that ships with kd is used instead."
        st.warning(markup.as_markdown(words))
        return load(shipped)


def load(path: Path) -> Checkpoint:
    """A network, read again only if its file has changed.

    Raises:
        KdError: it is not there, or damaged.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0  # loading it says what is wrong
    return _load(path, changed)


@st.cache_resource(show_spinner=False, max_entries=16)
def _load(path: Path, changed: int) -> Checkpoint:
    return read_checkpoint(path, CPU, settings.run)


def pair_for_images() -> dict[Role, Checkpoint]:
    """The pair that predicts a visitor's images; ``auto`` is MNIST's, as it is for ``kd predict``.

    Raises:
        KdError: one of the networks is not there, or damaged.
    """
    return find_pair(_name_images(), lambda own, other: (own.classes, own.shape) == (other.classes, other.shape))


def is_handwriting() -> bool:
    """Whether visitors' images are handwriting, so that they may draw some."""
    try:
        path = find_checkpoint(settings.run.models_dir, _name_images(), Role.teacher)
        return load(path).metadata.data.is_handwriting
    except KdError:  # each page says so
        return _name_images() in HANDWRITING


def _name_images() -> str:
    return name_data(settings.data.dataset, settings.run.models_dir)


def test_images() -> Dataset:
    """The test images: MNIST's or, without it, the bundled digits'.

    Raises:
        KdError: the data set cannot be had.
    """
    dataset = _load_test_images(prepared.as_trained(settings.data, _trained_on()))
    if settings.data.dataset == "auto" and dataset.info.name != "mnist":
        st.warning(
            "MNIST is not here and cannot be downloaded. This page uses the bundled digits, and networks trained on "
            "them. Their numbers are not comparable with MNIST's."
        )
    return dataset


def _trained_on() -> Iterator[DataInfo]:
    """What the networks that are loaded were trained on, as far as there are any."""
    for role in Role:
        with suppress(KdError):  # each page says so
            yield load(find_checkpoint(settings.run.models_dir, _name_images(), role)).metadata.data


def for_testing() -> tuple[Dataset, dict[Role, Checkpoint]]:
    """Test images, and the pair trained on their data set.

    Raises:
        KdError: the data set cannot be had, or one of the networks.
    """
    dataset = test_images()
    networks = find_pair(dataset.info.name, lambda own, other: own.name == other.name)
    return dataset, {role: require_fit(network, dataset.info) for role, network in networks.items()}


def same_data(dataset: Dataset) -> DataConfig:
    """How to load a data set again elsewhere: it is the same one, whatever ``auto`` would be there."""
    return replace(settings.data, dataset=dataset.info.name) if settings.data.dataset == "auto" else settings.data


@st.cache_resource(show_spinner="Loading the test images", max_entries=2)
def _load_test_images(config: DataConfig) -> Dataset:
    return prepared.load(config, train=False)


def test_logits(dataset: Dataset, network: Checkpoint) -> Tensor:
    """A network's logits, (N, classes), for all test images."""
    return _compute_logits(dataset.info.name, network.digest, dataset, network)


@st.cache_resource(show_spinner="Predicting the test images", max_entries=8)
def _compute_logits(name: str, digest: str, _dataset: Dataset, _network: Checkpoint) -> Tensor:
    return compute_logits(_network.classifier, _dataset.test.images)


@contextmanager
def failures_shown() -> Iterator[None]:
    """Show what is expected to go wrong as a message on the page, and end the page there."""
    try:
        yield
    except KdError as error:
        st.error(markup.as_markdown(in_page_words(str(error))))
        st.stop()


def in_page_words(message: str) -> str:
    """A message with the page's words for options; what a command line is, stays one. Files are without folders."""
    return COMMAND_OR_OPTION.sub(
        lambda found: found[0] if found[1] is None else WORDS.get(found[1], found[1].replace("-", " ")),
        _without_folders(message),
    )


def show_sources(networks: Iterable[Checkpoint]) -> None:
    """The networks that a page speaks of, and their files."""
    st.html(
        markup.sources((network.metadata, _without_folders(str(network.path)), network.shipped) for network in networks)
    )


def _without_folders(text: str) -> str:
    """Where the networks lie is the server's business, not its visitors'."""
    for folder in (settings.run.models_dir, shipped_models_dir(), runs().folder):
        text = text.replace(f"{folder}{os.sep}", "")
    return text
