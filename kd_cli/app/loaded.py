"""What the server loads once for all visitors: networks and test pictures."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
import torch
from torch import Tensor

from kd_cli import data
from kd_cli.app import show
from kd_cli.app.run import trainings
from kd_cli.checkpoint import Checkpoint, Metadata, find, load_checkpoint
from kd_cli.context import Place, require_fit
from kd_cli.data import Dataset
from kd_cli.networks import compute_logits
from kd_cli.settings import DatasetName, DeviceName, KdError, Role

CPU = torch.device("cpu")


def place() -> Place:
    """Where the server works, as `serve` was told."""
    return Place(
        DatasetName(os.environ.get("KD_DATASET", DatasetName.auto.value)),
        Path(os.environ.get("KD_DATA_DIR", "data")),
        Path(os.environ.get("KD_MODELS_DIR", "models")),
        DeviceName.cpu,
    )


def pair(name: DatasetName) -> dict[Role, Checkpoint]:
    """A data set's teacher and student; ``auto`` is MNIST's, as it is for ``kd predict``.

    Raises:
        KdError: one of them is not there, or damaged.
    """
    name = DatasetName.mnist if name is DatasetName.auto else name
    return {role: checkpoint(find(place().models_dir, name, role)) for role in Role}


def checkpoint(path: Path) -> Checkpoint:
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


def to_try() -> dict[Role, Checkpoint]:
    """The pair that reads a visitor's pictures: as `pair`, or with a student that was trained on the page.

    Raises:
        KdError: as `pair`.
    """
    networks = pair(place().dataset)
    classes = networks[Role.teacher].metadata.classes
    return _with_chosen_student(networks, lambda metadata: metadata.classes == classes)


def to_test(networks: dict[Role, Checkpoint], dataset: Dataset) -> dict[Role, Checkpoint]:
    """The pair that reads test pictures: those of `for_testing`, or with a student that was trained on the page."""
    return _with_chosen_student(networks, lambda metadata: metadata.dataset is dataset.name)


def _with_chosen_student(networks: dict[Role, Checkpoint], fits: Callable[[Metadata], bool]) -> dict[Role, Checkpoint]:
    own = networks[Role.student].path
    students = {own: "The one that is loaded"} | {
        path: name for path, name in trainings().results().items() if fits(checkpoint(path).metadata)
    }
    if len(students) == 1:
        return networks
    # What a widget holds is forgotten while another page is shown; this is not.
    kept = st.session_state.get("student", own)
    place_of = list(students).index(kept) if kept in students else 0
    chosen = st.selectbox("Student", students, place_of, format_func=lambda path: students[path])
    st.session_state["student"] = chosen
    return networks | {Role.student: checkpoint(chosen)}


def for_testing() -> tuple[Dataset, dict[Role, Checkpoint]]:
    """Test pictures, and the networks that learnt from their data set: MNIST's or, without it, the bundled digits'.

    Raises:
        KdError: the data set cannot be had, or one of the networks.
    """
    dataset = _dataset(place().dataset, place().data_dir)
    if place().dataset is DatasetName.auto and dataset.name is not DatasetName.mnist:
        st.warning(
            "MNIST is not here and cannot be downloaded. These are the bundled digits, read by the networks that "
            "learnt from them. Their numbers are not comparable with MNIST's."
        )
    networks = pair(dataset.name)
    for network in networks.values():
        require_fit(network, dataset)
    return dataset, networks


@st.cache_resource(show_spinner="Loading the test pictures", max_entries=2)
def _dataset(name: DatasetName, data_dir: Path) -> Dataset:
    return data.load(name, data_dir, train=False)


def test_logits(dataset: Dataset, network: Checkpoint) -> Tensor:
    """A network's logits, (N, classes), for all test pictures."""
    return _logits(dataset.name, network.path, network.path.stat().st_mtime_ns, dataset, network)


@st.cache_resource(show_spinner="Reading the test pictures", max_entries=8)
def _logits(name: DatasetName, path: Path, changed: int, _dataset: Dataset, _network: Checkpoint) -> Tensor:
    return compute_logits(_network.network, _dataset.test.images, _dataset.normalisation)


@contextmanager
def failures_shown() -> Iterator[None]:
    """Show what is expected to go wrong as a message on the page, and end the page there."""
    try:
        yield
    except KdError as error:
        st.error(show.as_markdown(str(error)))
        st.stop()
