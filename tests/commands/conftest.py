"""A place to run commands in: the bundled digits, and models of the test's own."""

from pathlib import Path

import pytest

from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, DeviceName, RunConfig, TrainingConfig
from kd_cli.networks.spec import parse_spec


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """The bundled digits."""
    return DataConfig("digits", tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """The CPU, and no models yet."""
    return RunConfig(tmp_path / "models", DeviceName.cpu)


@pytest.fixture
def trained_teacher(data: DataConfig, run: RunConfig) -> TrainingResult:
    """A small network that lies where the data set's teacher is looked for."""
    result = train_teacher(parse_spec("mlp-16"), data, TrainingConfig(epochs=2), run)
    assert isinstance(result, TrainingResult)
    return result


@pytest.fixture
def student(data: DataConfig, run: RunConfig, trained_teacher: TrainingResult) -> StudentConfig:
    """An epoch of the default method for a small student."""
    return StudentConfig(parse_spec("mlp-8"), data=data, run=run, training=TrainingConfig(epochs=1))
