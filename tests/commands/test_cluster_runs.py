"""Runs of a cluster: what machines need, and what a run is on a machine whose files lie elsewhere."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd_cli.cluster.shipping import SharedFile, receive
from kd_cli.cluster.worker import pack, unpack
from kd_cli.commands import job as job_room
from kd_cli.commands.cluster_runs import Check, Relocation, prepare_cluster
from kd_cli.commands.grid import Cell, ComparisonConfig
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.many_runs import fix_choices
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.runs import Run, carry_out_run, forget_worker
from kd_cli.config import ConfigError, DataConfig, KdError
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.networks.spec import Spec, parse_spec
from tests.conftest import CommandLine
from tests.data.images import make_folder

MLP = parse_spec("mlp-8")


class Machine:
    """In place of a cluster: a machine that can find none of this one's files."""

    def __init__(self) -> None:
        self.files: tuple[SharedFile, ...] = ()
        self.asked: tuple[Callable[[Any], str | None], Relocation, Check] | None = None

    def bring(self, files: tuple[SharedFile, ...]) -> None:
        self.files = files

    def require_ready(self, work: Callable[[Any], str | None], adapt: Relocation, task: Check) -> None:
        self.asked = unpack(pack(work, adapt, task))  # as they travel

    def find_out(self, **changes: Any) -> str | None:
        """What the machine says that it lacks."""
        assert self.asked is not None
        work, adapt, task = self.asked
        return work(adapt(replace(task, **changes)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other machine's cache."""
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "there"))
    forget_worker()
    return tmp_path / "there"


def send_away(files: tuple[SharedFile, ...]) -> None:
    """Bring files to the other machine, and take them from this one."""
    for file in dict.fromkeys(files):
        receive(file, "1", 0, file.path.read_bytes())
        file.path.unlink()


@pytest.fixture
def common(student: StudentConfig, tmp_path: Path) -> StudentConfig:
    """The options of runs with images that have been prepared in a folder of the test's own."""
    return replace(student, method=FROM_LABELS, data=replace(student.data, data_dir=tmp_path / "data"))


def prepare(common: StudentConfig, *students: Spec) -> tuple[Machine, Job]:
    machine, job = Machine(), resolve_student(common)
    cells = [Cell(each, method) for each in students or (MLP,) for method in (FROM_LABELS, MethodConfig())]
    prepare_cluster(machine, fix_choices(common, job), job, cells, [])  # type: ignore[arg-type]
    return machine, job


def measure(common: StudentConfig) -> Any:
    outcome = carry_out_run(Run(Cell(MLP, MethodConfig()), 3, common))
    forget_worker()
    assert outcome.measures is not None, outcome.error
    return replace(outcome.measures, train_seconds=0)


@pytest.mark.parametrize("fraction", [None, 0.2])
def test_a_run_comes_to_the_same_on_a_machine_with_nothing_of_this_one(
    common: StudentConfig, fraction: float | None
) -> None:
    common = replace(common, data=replace(common.data, validation_fraction=fraction))
    here = measure(common)
    machine, _ = prepare(common)
    assert machine.asked is not None
    send_away(machine.files)
    assert machine.find_out() is None
    assert measure(machine.asked[1](machine.asked[2]).common) == here


def test_so_does_a_run_with_a_folder_of_images(kd: CommandLine, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images")
    kd("train-teacher", "-d", folder, "--data-dir", "data", "--arch", "mlp-4", "-e", "1", "--force")
    common = StudentConfig(MLP, FROM_LABELS, data=DataConfig(str(folder), Path("data")))
    here = measure(common)
    machine, job = prepare(common)
    assert machine.asked is not None
    send_away(machine.files)
    folder.rename(tmp_path / "elsewhere")
    there = machine.asked[1](machine.asked[2]).common
    assert resolve_student(there).dataset.info == replace(job.dataset.info, test_fraction=None)
    assert measure(there) == here


def test_a_machine_with_other_code_is_refused(common: StudentConfig) -> None:
    machine, _ = prepare(common)
    assert machine.find_out(program="another") == "its kd is another one, by its code: install the same one"


def test_a_machine_with_other_libraries_is_refused(common: StudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, _ = prepare(common)
    monkeypatch.setitem(job_room.VERSIONS, "torch", "99")
    assert machine.find_out() == "its versions would be others than here: install the same versions"


NETS = "from torch import nn\n\ndef small():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"


def test_a_machine_with_another_file_of_a_users_network_is_refused(common: StudentConfig, tmp_path: Path) -> None:
    source = tmp_path / "nets.py"
    source.write_text(NETS)
    machine, _ = prepare(common, parse_spec(f"{source}:small"))
    source.write_text(NETS + "# edited\n")
    forget_worker()
    assert machine.find_out() == f"{source} is another file there: bring the same one"


def test_a_machine_without_a_users_network_is_refused(common: StudentConfig, tmp_path: Path) -> None:
    source = tmp_path / "nets.py"
    source.write_text(NETS)
    machine, _ = prepare(common, parse_spec(f"{source}:small"))
    source.unlink()
    forget_worker()
    assert machine.find_out() == f"no file {source}: check the path of the network"


def test_a_file_that_vanished_is_named(common: StudentConfig) -> None:
    machine, job = prepare(common)
    assert job.dataset.file is not None
    job.dataset.file.unlink()
    with pytest.raises(KdError, match=r"prepared.safetensors is not there any more: repeat the command"):
        machine.find_out()


def test_what_the_environment_trusts_is_trusted_there(common: StudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_TRUST", "nets.py")
    machine, _ = prepare(common)
    assert machine.asked is not None
    monkeypatch.delenv("KD_TRUST")
    assert machine.asked[1](machine.asked[2]).common.run.trust == ("nets.py",)


def test_objects_of_this_process_stay_here(common: StudentConfig) -> None:
    job = resolve_student(common)
    memory = replace(job, dataset=replace(job.dataset, file=None))
    with pytest.raises(ConfigError, match="objects of this process"):
        prepare_cluster(Machine(), common, memory, [Cell(MLP, FROM_LABELS)], [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address", ["10.0.0.1:8786", "http://10.0.0.1:8786", "tcp://10.0.0.1", "tcp://a b:1", "tcp://"]
)
def test_what_is_no_address_is_refused(kd: CommandLine, address: str) -> None:
    code, _, stderr = kd("compare", "--scheduler", address)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"--scheduler {address}: use what dask scheduler prints" in stderr


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tls://cluster.example:8786", "tcp://[::1]:8786"])
def test_addresses_of_schedulers_are_taken(address: str) -> None:
    assert ComparisonConfig(scheduler=address).scheduler == address


def test_without_dask_it_is_one_line(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "kd_cli.cluster.connection", raising=False)
    code, _, stderr = kd("compare", "-d", "digits", "--scheduler", "tcp://127.0.0.1:9")
    assert (code, stderr) == (1, "kd: --scheduler needs Dask: pip install 'kd-cli[cluster]'\n")
