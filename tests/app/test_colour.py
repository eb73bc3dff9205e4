"""The pages for a folder of colour images, of many classes."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import streamlit

from kd_cli.app import compare, pages, settings, train
from kd_cli.app.events import Measured
from kd_cli.config import DataConfig
from tests.app.conftest import Visit
from tests.app.images import as_png, html, plain
from tests.conftest import CommandLine
from tests.report.results import benchmark_result

CLASSES = [f"species {i:02d}" for i in range(24)]


def colour_image(label: int) -> bytes:
    pixels = np.random.default_rng(label).integers(0, 40, (24, 40, 3), np.uint8)
    pixels[:, :, label % 3] += np.uint8(100 + 5 * label)
    return as_png(pixels)


@pytest.fixture
def folder(kd: CommandLine, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server shows these images, and a teacher and a student that were trained on them."""
    images = tmp_path / "flora"
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(CLASSES):
            (images / part / name).mkdir(parents=True)
            for number in range(count):
                (images / part / name / f"{number}.png").write_bytes(colour_image(label))
    options = ("--dataset", images, "--epochs", 1, "--data-dir", tmp_path / "data", "--models-dir", tmp_path, "--force")
    assert kd("train-teacher", "--arch", "mlp-16", *options)[0] == 0
    assert kd("distill", "--student", "mlp-8", *options)[0] == 0
    monkeypatch.setattr(settings, "data", DataConfig(str(images), tmp_path / "data"))
    monkeypatch.setattr(settings, "run", replace(settings.run, models_dir=tmp_path))
    streamlit.cache_resource.clear()
    return images


def test_every_page_but_the_one_for_handwriting_shows_them(
    folder: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "carry_out", lambda *arguments: Measured(benchmark_result()))
    assert [page.title for page in pages.for_this_data()] == ["Upload", "Samples", "Compare", "How it works", "Train"]
    page = visit("upload")
    page.file_uploader[0].set_value([("rose.png", colour_image(5), "image/png")]).run()
    assert "40 by 24 pixels" in html(page)
    assert html(page).count("14 others") == 2
    assert "48 of 48 test images" in html(visit("samples"))
    assert "classes confused most often" in html(visit("compare"))
    assert "Its gradient" in html(visit("explain"))
    started = Mock()
    monkeypatch.setattr(train, "runs", lambda: Mock(add=started, unfinished=list, latest_of=lambda owner: None))
    page = visit("train")
    page.multiselect[0].select("resized-crop").select("shift").run()
    page.button[0].click().run()
    assert not page.error
    config = started.call_args.args[1]
    assert str(config.architecture) == "resnet-8"
    assert config.training.augment == ("shift", "resized-crop")
    assert config.data.dataset == str(folder)


def test_a_teacher_alone_is_enough_to_train_a_student(folder: Path, visit: Visit) -> None:
    (student,) = folder.parent.glob("*/student.safetensors")
    student.unlink()
    assert "run kd distill" in plain(visit("upload").error[0])
    assert not visit("train").error


def test_test_images_are_those_that_the_networks_were_not_trained_with(
    folder: Path, kd: CommandLine, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(str(folder / "train"), settings.data.data_dir)  # not divided by itself
    options = ("--dataset", data.dataset, "--data-dir", data.data_dir, "--models-dir", settings.run.models_dir)
    training = ("--epochs", 1, "--force", "--test-fraction", 0.5, "--validation-fraction", 0)
    assert kd("train-teacher", "--arch", "mlp-16", *options, *training)[0] == 0
    assert kd("distill", "--student", "mlp-8", *options, *training)[0] == 0
    monkeypatch.setattr(settings, "data", data)
    assert "48 of 48 test images" in html(visit("samples"))
