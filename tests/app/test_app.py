"""The pages of ``kd app`` without a browser, and the command that serves them."""

import base64
import io
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from kd_cli import measure
from kd_cli.app import serve
from kd_cli.checkpoint import load_checkpoint
from kd_cli.context import Place
from kd_cli.data import Dataset
from kd_cli.settings import DatasetName, DeviceName, KdError, Role
from tests import browser
from tests.conftest import CommandLine

st = pytest.importorskip("streamlit", reason="the page needs Streamlit: pip install -e '.[app]'")
testing = pytest.importorskip("streamlit.testing.v1")

from kd_cli.app import canvas, explain, readings, samples, show  # noqa: E402
from kd_cli.app.run import Run, Trainings  # noqa: E402

CPU = torch.device("cpu")

Open = Callable[[str], Any]


@pytest.fixture
def visit(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a page by its module's name, on the bundled digits and the networks that ship: ``visit("samples")``."""
    monkeypatch.setenv("KD_DATASET", "digits")
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KD_MODELS_DIR", str(shipped))
    st.cache_resource.clear()

    def run(name: str) -> Any:
        script = f"from kd_cli.app import {name}\n{name}.page()"
        return testing.AppTest.from_string(script, default_timeout=120).run()

    yield run
    st.cache_resource.clear()


def html(page: Any) -> str:
    assert not page.exception
    return "\n".join(each.proto.body for each in page.get("html"))


def seven() -> bytes:
    """A 7, thick and black on white, as a PNG file."""
    pixels = np.full((280, 280), 255, np.uint8)
    pixels[60:80, 70:200] = 0
    for row in range(80, 230):
        right = 200 - (row - 60) * 4 // 10
        pixels[row, right - 24 : right] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_without_streamlit_a_line_says_what_to_install(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, stdout, stderr = kd("app", "--no-browser")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert "kd-cli[app]" in stderr


def test_a_port_in_use_is_one_line(kd: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code, _, stderr = kd("app", "--no-browser", "--port", server.getsockname()[1])
    assert (code, stderr.count("\n")) == (1, 1)
    assert "--port" in stderr


def test_an_unknown_host_is_one_line(kd: CommandLine) -> None:
    code, _, stderr = kd("app", "--no-browser", "--host", "nowhere.invalid")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "--host" in stderr


@pytest.mark.skipif(os.name != "posix", reason="sends a Unix signal")
def test_the_server_listens_on_loopback_only_and_ends_with_130(shipped: Path, tmp_path: Path) -> None:
    with browser.serve(tmp_path, shipped, tmp_path) as (address, server):
        port = int(address.rsplit(":", 1)[1])
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((own, port), timeout=5).close()
    assert server.returncode == 130
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    assert "usage statistics" not in log


def test_telemetry_is_off_and_uploads_have_a_limit() -> None:
    options = serve._needed("localhost", 8501, browser=False)
    assert options["browser.gatherUsageStats"] == "false"
    assert options["server.maxUploadSize"] == "20"


def test_a_drawing_is_read_by_both(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATASET", "mnist")
    monkeypatch.setattr(canvas, "draw", lambda key: seven())
    shown = html(visit("draw"))
    assert "Both read <strong>7</strong>" in shown
    assert shown.count("<table") == 2
    assert "mnist/teacher.safetensors" in shown
    assert "mnist/student.safetensors" in shown


def test_the_drawing_area_is_on_the_page_and_waits(visit: Open) -> None:
    assert "Draw one digit" in html(visit("draw"))


def test_a_blank_drawing_gets_a_message(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("L", (280, 280), 255).save(file, "PNG")
    monkeypatch.setattr(canvas, "draw", lambda key: file.getvalue())
    page = visit("draw")
    assert "blank" in page.error[0].value


@pytest.mark.parametrize(
    "value", ["http://elsewhere/picture.png", f"{canvas.PREFIX}%%%", canvas.PREFIX + "A" * canvas.LARGEST, 7, ["a"]]
)
def test_what_is_no_drawing_is_refused(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    monkeypatch.setattr(canvas, "_component", lambda: lambda **options: {"drawing": value})
    with pytest.raises(KdError, match="draw"):
        canvas.draw("canvas")


def test_a_drawing_arrives_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    value = canvas.PREFIX + base64.b64encode(b"content").decode()
    monkeypatch.setattr(canvas, "_component", lambda: lambda **options: {"drawing": value})
    assert canvas.draw("canvas") == b"content"


def test_each_uploaded_file_is_read_or_gets_a_message(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATASET", "mnist")
    page = visit("upload")
    page.file_uploader[0].set_value([("seven.png", seven(), "image/png"), ("<b>*no*.png", b"text", "image/png")]).run()
    assert html(page).count("Both read") == 1
    assert [each.value for each in page.error] == [
        show.as_markdown("cannot read <b>*no*.png: it is no PNG, JPEG, WebP, BMP, GIF or TIFF file")
    ]
    assert "&lt;b&gt;*no*.png" in html(page)


def test_the_same_picture_is_read_as_kd_predict_reads_it(
    kd: CommandLine, shipped: Path, tmp_path: Path, mnist: Dataset
) -> None:
    (tmp_path / "seven.png").write_bytes(seven())
    (row,) = json.loads(kd("predict", "seven.png", "--models-dir", shipped, "--json")[1])
    networks = {role: load_checkpoint(shipped / "mnist" / f"{role.value}.safetensors", CPU) for role in Role}
    answer = readings.read(seven(), "seven.png", networks)
    assert {role.value: reading.probabilities for role, reading in answer.readings.items()} == {
        role.value: pytest.approx(row[role.value]["probabilities"]) for role in Role
    }


def test_samples_can_be_narrowed_to_a_class_and_to_disagreements(digits: Dataset, shipped: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, len(digits.test), 10, generator=generator)
    rows = samples.choose(digits, teacher, student, label=3, differ=True)
    expected = (teacher.argmax(1) != student.argmax(1)) & (digits.test.labels == 3)
    assert sorted(rows) == expected.nonzero().flatten().tolist()
    assert samples.choose(digits, teacher, student, None, differ=False) == list(range(len(digits.test)))


def test_samples_show_pictures_of_the_class_that_was_chosen(visit: Open) -> None:
    page = visit("samples")
    page.selectbox[0].select("4").run()
    shown = html(page)
    assert ": <strong>4</strong>" in shown
    assert ": <strong>5</strong>" not in shown


def test_compare_shows_what_the_commands_measure(visit: Open, shipped: Path, tmp_path: Path) -> None:
    shown = html(visit("compare"))
    place = Place(DatasetName.digits, tmp_path, shipped, DeviceName.cpu)
    for model in measure.evaluate(place, [])["models"]:
        assert f"{model['accuracy']:.2%}" in shown
        assert f"{model['nll']:.4f}" in shown
        assert f"{model['parameters']:,}" in shown
    assert "Latency p95" in shown


@pytest.mark.parametrize("name", ["compare", "samples"])
def test_a_student_that_was_trained_on_the_page_can_be_measured(
    visit: Open, kd: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "student-1.safetensors"
    assert kd("distill", "--dataset", "digits", "--student", "mlp-8", "--epochs", "1", "--output", str(path))[0] == 0
    monkeypatch.setattr("kd_cli.app.loaded.trainings", lambda: Mock(results=lambda: {path: "1: mlp-8"}))
    page = visit(name)
    assert "mlp-8" not in html(page)
    page.selectbox[0].select(path).run()
    assert "mlp-8" in html(page)


@pytest.mark.slow
def test_compare_measures_once_and_again_when_asked(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Mock(side_effect=subprocess.run)
    monkeypatch.setattr("kd_cli.app.compare.subprocess", Mock(run=run))
    page = visit("compare")
    page.run()
    assert run.call_count == 1
    page.button[0].click().run()
    assert run.call_count == 2


def test_loss_and_gradient_are_those_of_the_formula(digits: Dataset, shipped: Path) -> None:
    networks = {role: load_checkpoint(shipped / "digits" / f"{role.value}.safetensors", CPU) for role in Role}
    images, label = digits.normalisation(digits.test.images[5:6]), digits.test.labels[5:6]
    teacher, student = (networks[role].network(images).detach() for role in (Role.teacher, Role.student))
    total = explain.compute_terms(student, teacher, label, temperature=3.0, alpha=0.7)["sum"]
    student.requires_grad_()
    soft = F.kl_div(F.log_softmax(student / 3, 1), F.softmax(teacher / 3, 1), reduction="batchmean")
    loss = 0.7 * 9 * soft + 0.3 * F.cross_entropy(student, label)
    (gradient,) = torch.autograd.grad(loss, student)
    assert total.value.item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    assert total.gradient[:, 0].tolist() == pytest.approx(gradient[0].tolist(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_how_it_works_shows_only_the_terms_that_weigh_something(visit: Open, alpha: float) -> None:
    page = visit("explain")
    page.slider[1].set_value(alpha).run()
    shown = html(page)
    assert ("KL(teacher ‖ student)</th>" in shown) == (alpha > 0)
    assert ("cross-entropy with the label</th>" in shown) == (alpha < 1)


def test_without_mnist_the_pages_use_the_bundled_digits_and_say_so(
    visit: Open, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("KD_DATASET", "auto")
    page = visit("samples")
    assert "bundled digits" in page.warning[0].value
    assert "digits/teacher.safetensors" in html(page)
    assert "mnist/teacher.safetensors" in html(visit("draw"))


def test_a_missing_network_is_a_message(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATASET", "kmnist")
    assert "kd train" in visit("draw").error[0].value.replace("\\", "")


def test_train_refuses_what_cannot_work(visit: Open) -> None:
    page = visit("distil")
    page.text_input[0].set_value("resnet-50").run()
    page.button[0].click().run()
    assert "unknown architecture" in page.error[0].value


def job(shipped: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    settings = {"epochs": 2, "lr": 1e-3, "seed": 0, "augment": False, "batch_size": 8, "schedule": "one-cycle"}
    places = {"data_dir": str(folder), "models_dir": str(shipped), "output": str(folder / "student.safetensors")}
    plan = {"dataset": "digits", "student": "mlp-16", "method": "kd", "options": {"temperature": 4, "alpha": 0.9}}
    return plan | places | {"settings": settings | changes.pop("settings", {})} | changes


@pytest.mark.slow
def test_a_run_tells_loss_and_accuracy_and_leaves_a_checkpoint(shipped: Path, tmp_path: Path) -> None:
    run = Run("test", job(shipped, tmp_path))
    run.wait(120)
    assert run.error is None
    assert run.result
    assert run.step == run.total_steps
    assert len(run.test) == 2
    assert len(run.training) > 2
    assert run.test[-1]["accuracy"] == run.result["accuracy"]
    metadata = load_checkpoint(Path(run.result["checkpoint"]), CPU).metadata
    assert (metadata.method, metadata.accuracy) == ("kd", run.result["accuracy"])


def test_a_stopped_run_keeps_what_was_learnt_in_whole_epochs(shipped: Path, tmp_path: Path) -> None:
    run = Run("test", job(shipped, tmp_path, settings={"epochs": 100_000}))
    wait_until(lambda: bool(run.test))
    run.stop()
    run.wait(60)
    assert run.result
    assert 1 <= run.result["epochs"] < 100_000
    metadata = load_checkpoint(Path(run.result["checkpoint"]), CPU).metadata
    assert metadata.options["stopped_after"] == run.result["epochs"]


@pytest.mark.slow
def test_a_run_that_is_ended_leaves_nothing(shipped: Path, tmp_path: Path) -> None:
    run = Run("test", job(shipped, tmp_path, settings={"epochs": 100_000}))
    wait_until(lambda: bool(run.training))
    run.end()
    run.wait(60)
    assert run.result is None
    assert run.error
    assert not (tmp_path / "student.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_cannot_work_says_why(shipped: Path, tmp_path: Path) -> None:
    run = Run("test", job(shipped, tmp_path, method="at", options={}))
    run.wait(60)
    assert run.error
    assert "spatial maps" in run.error


@pytest.mark.slow
def test_a_run_ends_with_its_server(shipped: Path, tmp_path: Path) -> None:
    run = Run("test", job(shipped, tmp_path, settings={"epochs": 100_000}))
    wait_until(lambda: bool(run.training))
    assert run._process.stdin is not None
    run._process.stdin.close()
    run.wait(60)
    assert not run.running


@pytest.mark.slow
def test_only_one_run_at_a_time(shipped: Path, tmp_path: Path) -> None:
    trainings = Trainings()
    run = trainings.start("first", job(shipped, tmp_path, settings={"epochs": 100_000}))
    try:
        with pytest.raises(KdError, match="another training"):
            trainings.start("second", job(shipped, tmp_path))
    finally:
        run.end()
        run.wait(60)
    assert trainings.results() == {}


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
