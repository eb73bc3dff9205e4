"""What a training run writes, what it never replaces, and that what it says of it is true."""

import json
import os
from pathlib import Path

import pytest
import torch

from kd_cli.config import KdError
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.training import resume
from kd_cli.training.loop import Training
from tests.conftest import CommandLine

TEACHER = ("train-teacher", "-d", "digits", "--arch", "mlp-16", "-e", "3")
STUDENT = ("distill", "-d", "digits", "--student", "mlp-8", "-e", "2")
SAVED = Path("runs/models/digits/teacher.safetensors")
STATE = SAVED.with_name("teacher.safetensors.resume")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes in the third epoch of every run."""
    run_epoch = Training.run_epoch

    def stopped(training: Training, *arguments: object) -> object:
        if training.epochs_done == 2:
            raise KeyboardInterrupt
        return run_epoch(training, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "run_epoch", stopped)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No state of a run fits on the disk."""

    def refuse(path: Path, content: bytes) -> None:
        raise KdError(f"cannot write {path}: No space left on device; choose another place or free some space")

    monkeypatch.setattr(resume, "write_atomically", refuse)


class TestOutput:
    @pytest.mark.parametrize("name", ["teacher.safetensors", "./sub/../teacher.safetensors", "link.safetensors"])
    def test_never_replaces_the_teacher_that_the_student_learns_from(self, kd: CommandLine, name: str) -> None:
        kd(*TEACHER, "-o", "teacher.safetensors")
        Path("sub").mkdir()
        Path("link.safetensors").symlink_to("teacher.safetensors")
        before = Path("teacher.safetensors").read_bytes()
        code, _, stderr = kd(*STUDENT, "--teacher", "teacher.safetensors", "-o", name, "--force")
        assert (code, stderr.count("\n")) == (1, 1)
        assert "the command reads it" in stderr
        assert Path("teacher.safetensors").read_bytes() == before

    def test_replaces_a_file_of_somebody_else_only_with_force(self, kd: CommandLine) -> None:
        Path("important.md").write_text("my thesis")
        code, _, stderr = kd(*TEACHER, "-o", "important.md")
        assert (code, stderr.count("\n")) == (1, 1)
        assert "--force" in stderr
        assert Path("important.md").read_text() == "my thesis"
        assert kd(*TEACHER, "-o", "important.md", "--force")[0] == 0

    def test_names_the_older_checkpoint_that_it_replaces(self, kd: CommandLine) -> None:
        assert kd(*TEACHER, "-o", "mine.safetensors")[2] == ""
        code, _, stderr = kd(*TEACHER, "-o", "mine.safetensors")
        assert code == 0
        assert "replacing mine.safetensors, the teacher mlp-16 on digits" in stderr

    def test_says_that_the_older_checkpoint_that_it_replaces_is_damaged(self, kd: CommandLine) -> None:
        kd(*TEACHER, "-o", "mine.safetensors")
        whole = Path("mine.safetensors").read_bytes()
        Path("mine.safetensors").write_bytes(whole[:-4] + b"\0\0\0\0")
        code, _, stderr = kd(*TEACHER, "-o", "mine.safetensors")
        assert (code, stderr) == (0, "kd: replacing mine.safetensors, a damaged checkpoint\n")
        assert Path("mine.safetensors").read_bytes() == whole

    def test_follows_a_link(self, kd: CommandLine) -> None:
        Path("elsewhere").mkdir()
        Path("link.safetensors").symlink_to("elsewhere/real.safetensors")
        assert kd(*TEACHER, "-o", "link.safetensors")[0] == 0
        assert Path("link.safetensors").is_symlink()
        assert (
            load_checkpoint(Path("elsewhere/real.safetensors"), torch.device("cpu")).metadata.architecture == "mlp-16"
        )

    @pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")
    def test_is_never_a_pipe_or_device(self, kd: CommandLine) -> None:
        os.mkfifo("pipe")
        for name in ("pipe", "/dev/null"):
            code, _, stderr = kd(*TEACHER, "-o", name, "--force")
            assert (code, stderr.count("\n")) == (1, 1)
            assert "not a regular file" in stderr
        assert not Path("/dev/null").is_file()

    def test_has_no_name_that_the_states_of_interrupted_runs_have(self, kd: CommandLine) -> None:
        code, _, stderr = kd(*TEACHER, "-o", "mine.resume")
        assert (code, stderr.count("\n")) == (2, 1)
        assert not Path("mine.resume").exists()

    @pytest.mark.parametrize(
        ("command", "plot"),
        [
            ((*TEACHER, "-o", "x.png"), "x.png"),
            ((*TEACHER, "-o", "x.png", "--ensemble", "2"), "x-2.png"),
            ((*STUDENT, "-o", "x.png"), "./x.png"),
            ((*STUDENT, "-o", "x.png"), "X.PNG"),  # the same file where the disk is blind to case
            (("compare", "-d", "digits", "--csv", "x.png"), "x.png"),
        ],
    )
    def test_is_never_the_file_of_another_result(self, kd: CommandLine, command: tuple[str, ...], plot: str) -> None:
        code, _, stderr = kd(*command, "--plot", plot)
        assert (code, stderr.count("\n")) == (2, 1)
        assert "give each its own file" in stderr
        assert list(Path().glob("*.png")) == []


class TestStates:
    @pytest.mark.usefixtures("interrupted")
    def test_that_are_thrown_away_are_named(self, kd: CommandLine) -> None:
        assert kd(*TEACHER)[0] == 130
        assert f"{STATE} of an interrupted run is replaced" in kd(*TEACHER)[2]

    def test_that_are_missing_are_said_to_be(self, kd: CommandLine) -> None:
        code, _, stderr = kd(*TEACHER, "--resume")
        assert (code, stderr.count("\n")) == (0, 1)
        assert f"no interrupted run in {STATE}: starting anew" in stderr

    @pytest.mark.usefixtures("full_disk")
    def test_that_do_not_fit_on_the_disk_cost_no_result(self, kd: CommandLine) -> None:
        code, _, stderr = kd(*TEACHER)
        assert code == 0
        assert "the run goes on" in stderr
        assert load_checkpoint(SAVED, torch.device("cpu")).metadata.architecture == "mlp-16"

    @pytest.mark.usefixtures("full_disk", "interrupted")
    def test_that_were_not_kept_are_not_promised(self, kd: CommandLine) -> None:
        code, _, stderr = kd(*TEACHER)
        assert code == 130
        assert "no epoch was kept" in stderr
        assert "--resume to go on" not in stderr.splitlines()[-1]

    def test_keep_what_the_message_says_when_the_result_does_not_fit(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object) -> None:
            raise KdError("cannot write: No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("kd_cli.commands.training_run.save_checkpoint", refuse)
            code, _, stderr = kd(*TEACHER)
        assert code == 1
        assert f"{STATE} keeps 2 of 3 epochs" in stderr
        assert kd(*TEACHER, "--resume")[0] == 0


class TestNetworksThatLearntNothing:
    @pytest.fixture
    def diverged(self, kd: CommandLine) -> tuple[int, str, str]:
        kd(*TEACHER)
        self.before = SAVED.read_bytes()
        return kd(*TEACHER, "--lr", "1e6")

    def test_do_not_replace_a_good_one(self, diverged: tuple[int, str, str]) -> None:
        code, stdout, stderr = diverged
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert SAVED.read_bytes() == self.before

    def test_are_kept_beside_it_and_named(self, diverged: tuple[int, str, str]) -> None:
        rejected = SAVED.with_name("teacher.rejected.safetensors")
        assert str(rejected) in diverged[2]
        assert load_checkpoint(rejected, torch.device("cpu")).metadata.architecture == "mlp-16"

    @pytest.mark.usefixtures("diverged")
    def test_leave_no_state_to_resume(self) -> None:
        assert not STATE.exists()

    @pytest.mark.usefixtures("diverged")
    def test_are_saved_with_force_and_the_result_says_why_they_are_none(self, kd: CommandLine) -> None:
        code, stdout, _ = kd(*TEACHER, "--lr", "1e6", "--force", "--json")
        assert code == 0
        assert SAVED.read_bytes() != self.before
        assert "the training loss rose" in json.loads(stdout)["fault"]

    def test_at_chance_are_refused_even_if_their_loss_fell(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kd_cli.commands.training_run.measure_accuracy", lambda logits, labels: (0.098, 451))
        code, _, stderr = kd(*TEACHER)
        assert code == 1
        assert "no better than chance" in stderr


class TestCheckpointsOfOthers:
    @pytest.fixture
    def plain(self, kd: CommandLine) -> str:
        kd(*TEACHER)
        torch.save(load_checkpoint(SAVED, torch.device("cpu")).classifier.network.state_dict(), "plain.pth")
        return "plain.pth"

    def test_say_what_was_assumed_of_them(self, kd: CommandLine, plain: str) -> None:
        data = load_checkpoint(SAVED, torch.device("cpu")).metadata.data
        code, _, stderr = kd("evaluate", "-d", "digits", plain)
        assert code == 0
        assert f"assumed digits, pixels with mean {data.mean[0]:.4g} and standard deviation {data.std[0]:.4g}" in stderr

    def test_can_be_given_another_normalisation(self, kd: CommandLine, plain: str) -> None:
        assumed = kd("evaluate", "-d", "digits", plain, "--json")[1]
        code, given, stderr = kd("evaluate", "-d", "digits", plain, "--json", "--mean", "0.5", "--std", "0.5")
        assert code == 0
        assert "mean 0.5 and standard deviation 0.5" in stderr
        assert given != assumed

    def test_with_weights_that_are_no_numbers_are_refused(self, kd: CommandLine, plain: str) -> None:
        weights = torch.load(plain, weights_only=True)
        weights["fc1.bias"][0] = torch.nan
        torch.save(weights, plain)
        code, stdout, stderr = kd("evaluate", plain)
        assert (code, stdout) == (1, "")
        assert "not finite numbers" in stderr

    @pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")
    def test_that_are_pipes_do_not_hang(self, kd: CommandLine) -> None:
        os.mkfifo("pipe")
        code, _, stderr = kd("evaluate", "pipe")
        assert (code, stderr.count("\n")) == (1, 1)

    @pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")
    def test_states_that_are_pipes_do_not_hang(self, kd: CommandLine) -> None:
        STATE.parent.mkdir(parents=True)
        os.mkfifo(STATE)
        assert kd(*TEACHER, "--resume")[0] == 1


@pytest.mark.parametrize("command", ["evaluate", "benchmark", "predict", "compare"])
def test_a_slip_in_models_dir_does_not_measure_the_weights_that_ship(kd: CommandLine, command: str) -> None:
    files = ["x.png"] if command == "predict" else []
    code, stdout, stderr = kd(command, *files, "-d", "digits", "--models-dir", "modles")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert "no teacher or student for digits in modles" in stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--method", "kdd"], "did you mean kd?"),
        (["--student", "mlp128"], "did you mean mlp-128?"),
        (["--device", "cudaa"], "did you mean cuda?"),
        (["--schedule", "cosin"], "did you mean cosine?"),
        (["-d", "mnits"], "did you mean mnist?"),
        (["-e", "five"], "--epochs five: use a whole number"),
        (["--lr", "1,3"], "--lr 1,3: use a number"),
        (["--batch-size", str(10**21)], "use a number from 1 to 1,000,000"),
        (["--ensemble", str(10**9)], "use a number from 1 to 1,000"),
    ],
)
def test_wrong_values_are_answered_in_our_own_words(kd: CommandLine, arguments: list[str], hint: str) -> None:
    code, _, stderr = kd("distill", *arguments)
    assert (code, stderr.count("\n")) == (2, 1)
    assert hint in stderr
