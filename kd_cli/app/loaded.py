"""What the server loads once for all visitors: networks, test images, and the logits for them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
import torch
from torch import Tensor

from kd_cli.app import markup
from kd_cli.app.run import runs
from kd_cli.commands.job import require_fit
from kd_cli.config import DataConfig, DeviceName, KdError, Role, RunConfig
from kd_cli.data import prepared
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.networks.checkpoint import (
    Checkpoint,
    checkpoint_path,
    find_checkpoint,
    load_checkpoint,
    shipped_models_dir,
)
from kd_cli.networks.classifier import compute_logits

WORDS = {"lr": "learning rate", "output": "file"}
"""What the page calls options, where that is not their own name."""

COMMAND_OR_OPTION = re.compile(r"\bkd [a-z-]+(?: --[a-z-]+ \S+)*|--([a-z][a-z-]*)")

CPU = torch.device("cpu")


def data_config() -> DataConfig:
    """The data set, as `serve` was told."""
    return DataConfig(dataset=os.environ["KD_DATASET"], data_dir=Path(os.environ["KD_DATA_DIR"]))


def run_config() -> RunConfig:
    """Where the networks are, as `serve` was told. What visitors wait for is computed on the CPU."""
    return RunConfig(models_dir=Path(os.environ["KD_MODELS_DIR"]), device=DeviceName.cpu)


def find_pair(dataset: str) -> dict[Role, Checkpoint]:
    """A data set's teacher and student; ``auto`` is MNIST's, as it is for ``kd predict``.

    Raises:
        KdError: one of them is not there, or damaged.
    """
    name = "mnist" if dataset == "auto" else dataset
    return {role: _load_or_shipped(name, role) for role in Role}


def _load_or_shipped(dataset: str, role: Role) -> Checkpoint:
    """The network trained here. Where its file is damaged, a line says so and the one that ships takes its place."""
    path = find_checkpoint(run_config().models_dir, dataset, role)
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
    return load_checkpoint(path, CPU)


def pair_for_images() -> dict[Role, Checkpoint]:
    """The pair that predicts a visitor's images; its student may be one that was trained on the page.

    Raises:
        KdError: one of the networks is not there, or damaged.
    """
    networks = find_pair(data_config().dataset)
    classes = networks[Role.teacher].metadata.data.classes
    return choose_student(networks, lambda data: data.classes == classes)


def choose_student(networks: dict[Role, Checkpoint], fits: Callable[[DataInfo], bool]) -> dict[Role, Checkpoint]:
    """Let the visitor choose among the pair's student and those that were trained on the page with data that fits.

    Where the file of the chosen one has vanished or is damaged, a line says so and the pair's student is used.
    """
    own = networks[Role.student].path
    students = {own: "The one that is loaded"} | {run.output: run.name for run in runs().students() if fits(run.data)}
    # What a widget holds is forgotten while another page is shown; this is not.
    kept = st.session_state.get("student", own)
    if len(students) == 1:
        return networks
    index = list(students).index(kept) if kept in students else 0
    chosen = st.selectbox("Student", students, index, format_func=lambda path: students[path])
    st.session_state["student"] = chosen
    try:
        return networks | {Role.student: load(chosen)}
    except KdError:
        st.warning(
            markup.as_markdown(
                f"The student of run {students[chosen]} is gone or damaged. The one that is loaded is used instead."
            )
        )
        return networks


def for_testing() -> tuple[Dataset, dict[Role, Checkpoint]]:
    """Test images, and the pair trained on their data set: MNIST's or, without it, the bundled digits'.

    Raises:
        KdError: the data set cannot be had, or one of the networks.
    """
    config = data_config()
    dataset = _load_test_images(config)
    name = dataset.info.name
    if config.dataset == "auto" and name != "mnist":
        st.warning(
            "MNIST is not here and cannot be downloaded. This page uses the bundled digits, and networks trained on "
            "them. Their numbers are not comparable with MNIST's."
        )
    networks = find_pair(name)
    return dataset, {role: require_fit(network, dataset.info) for role, network in networks.items()}


def for_testing_with_choice() -> tuple[Dataset, dict[Role, Checkpoint]]:
    """As `for_testing`; the student may be one that was trained on the page.

    Raises:
        KdError: as `for_testing`.
    """
    dataset, networks = for_testing()
    return dataset, choose_student(networks, lambda data: data.name == dataset.info.name)


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
    for folder in (run_config().models_dir, shipped_models_dir(), runs().folder):
        text = text.replace(f"{folder}{os.sep}", "")
    return text
