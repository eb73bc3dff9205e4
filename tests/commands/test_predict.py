"""`kd predict`: what teacher and student predict for images as people have them."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits as load_uci_digits

from kd_cli.commands.predict import classify, label_from_name, predict
from kd_cli.config import ConfigError, KdError, Role, RunConfig
from kd_cli.data.dataset import Dataset
from kd_cli.digits.mnist_format import Image28, read_image
from kd_cli.networks.checkpoint import Checkpoint, Metadata, checkpoint_path, save_checkpoint
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine, make_dataset
from tests.digits import pages
from tests.digits.images import Images, Labels, accuracy, draw_seven, load_networks, see, uci_file

MIXED_PAGES = 240
PAGES_OF_A_KIND = 150


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Those that ship."""
    return load_networks(tmp_path_factory.mktemp("no-models"))


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """Black on white, in a folder of its own."""
    folder = tmp_path / "images"
    folder.mkdir()
    return write_seven(folder / "7-mine.png")


def write_seven(path: Path) -> Path:
    Image.fromarray(255 - draw_seven()).save(path)
    return path


@pytest.fixture(scope="module")
def mnist_digits(mnist: Dataset) -> tuple[Images, Labels]:
    return mnist.test.images[:MIXED_PAGES, 0].numpy(), mnist.test.labels[:MIXED_PAGES].numpy()


@pytest.fixture(scope="module")
def mixed_pages(mnist_digits: tuple[Images, Labels]) -> Images:
    kinds = list(pages.KINDS)
    return see(pages.draw(image, kinds[i % len(kinds)], seed=i) for i, image in enumerate(mnist_digits[0]))


def read_images(output: tuple[int, str, str], code: int = 0) -> list[dict[str, Any]]:
    assert output[0] == code, output[2]
    images: list[dict[str, Any]] = json.loads(output[1])["images"]
    return images


class TestAccuracy:
    """The networks that ship predict digits on pages as people have them."""

    @pytest.mark.parametrize("role", ["teacher", "student"])
    def test_pages_of_all_kinds_together_cost_at_most_a_point_and_a_half(
        self, mnist_digits: tuple[Images, Labels], mixed_pages: Images, networks: dict[str, Checkpoint], role: str
    ) -> None:
        images, labels = mnist_digits
        assert accuracy(networks[role], mixed_pages, labels) >= accuracy(networks[role], images, labels) - 0.015

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", pages.KINDS)
    def test_no_kind_of_page_costs_more_than_four_points(
        self, mnist_digits: tuple[Images, Labels], networks: dict[str, Checkpoint], kind: str
    ) -> None:
        images, labels = mnist_digits[0][:PAGES_OF_A_KIND], mnist_digits[1][:PAGES_OF_A_KIND]
        seen = see(pages.draw(image, kind, seed) for seed, image in enumerate(images))
        for network in networks.values():
            assert accuracy(network, seen, labels) >= accuracy(network, images, labels) - 0.04

    @pytest.mark.parametrize("side", [8, 64, 300])
    def test_digits_of_another_data_set_that_fill_the_image_are_predicted(
        self, networks: dict[str, Checkpoint], side: int
    ) -> None:
        uci = load_uci_digits()
        images, labels = uci.images[::6], uci.target[::6]
        seen = see(uci_file(image, side, Image.Resampling.NEAREST) for image in images)
        for network in networks.values():
            assert accuracy(network, seen, labels) >= 0.9


class TestClassify:
    """Predictions of one network, here one of five classes."""

    CLASSES = 5

    @pytest.fixture
    def checkpoint(self, metadata: Metadata) -> Checkpoint:
        torch.manual_seed(0)
        classifier = build_classifier(parse_spec("mlp-8"), make_dataset(self.CLASSES).info).eval()
        metadata = Metadata(**vars(metadata) | {"data": make_dataset(self.CLASSES).info})
        return Checkpoint(classifier, metadata, Path("none"), "digest")

    @pytest.fixture
    def images(self) -> Image28:
        return make_dataset(self.CLASSES).test.images[:20, 0].numpy()

    def test_probabilities_are_the_softmax_of_the_logits(self, checkpoint: Checkpoint, images: Image28) -> None:
        logits = compute_logits(checkpoint.classifier, torch.from_numpy(images[:, None]))
        predictions = classify(checkpoint, images)
        expected = logits.double().softmax(dim=1).numpy()
        np.testing.assert_allclose([each.probabilities for each in predictions], expected)
        np.testing.assert_array_equal([each.class_index for each in predictions], expected.argmax(axis=1))
        np.testing.assert_allclose([each.confidence for each in predictions], expected.max(axis=1))

    @pytest.mark.parametrize(("top", "listed"), [(1, 1), (3, 3), (9, 5)])
    def test_the_most_probable_classes_are_listed_by_name(
        self, checkpoint: Checkpoint, images: Image28, top: int, listed: int
    ) -> None:
        for prediction in classify(checkpoint, images, top):
            assert [each.probability for each in prediction.top] == sorted(prediction.probabilities)[::-1][:listed]
            assert [each.label for each in prediction.top] == [f"class {each.class_index}" for each in prediction.top]
            assert prediction.top[0].label == prediction.label

    def test_a_prediction_is_correct_or_not_where_the_label_is_one_of_the_classes(
        self, checkpoint: Checkpoint, images: Image28
    ) -> None:
        [best] = (each.class_index for each in classify(checkpoint, images[:1]))
        labels = [best, (best + 1) % 5, 7, None]
        predictions = classify(checkpoint, np.repeat(images[:1], 4, axis=0), labels=labels)
        assert [each.correct for each in predictions] == [True, False, None, None]


class TestPredict:
    """Files in, typed results out."""

    def test_each_image_has_both_predictions_and_what_the_networks_saw(self, run: RunConfig, seven: Path) -> None:
        result = predict("auto", run, [str(seven)])
        [image] = result.images
        assert (result.dataset, result.device) == ("mnist", "cpu")
        assert [model.role for model in result.models] == ["teacher", "student"]
        assert image.teacher is not None
        assert image.student is not None
        assert (image.teacher.label, image.student.label, image.agree) == ("7", "7", True)
        assert (image.label, image.teacher.correct, result.accuracy) == (None, None, None)
        np.testing.assert_array_equal(image.seen, read_image(str(seven)))

    def test_networks_may_be_given(self, run: RunConfig, seven: Path, networks: dict[str, Checkpoint]) -> None:
        swapped = predict("auto", run, [str(seven)], networks["student"].path, networks["teacher"].path)
        usual = predict("auto", run, [str(seven)])
        assert swapped.images[0].teacher == usual.images[0].student
        assert swapped.images[0].student == usual.images[0].teacher

    def test_networks_of_another_data_set_name_its_classes(
        self, run: RunConfig, seven: Path, metadata: Metadata
    ) -> None:
        classifier = build_classifier(parse_spec(metadata.architecture), metadata.data)
        for role in Role:
            save_checkpoint(checkpoint_path(run.models_dir, "kmnist", role), classifier.network, metadata)
        result = predict("kmnist", run, [str(seven)], labels_from_name=True)
        assert result.dataset == "kmnist"
        assert result.images[0].label == "class 7"
        assert result.images[0].student is not None
        assert result.images[0].student.label.startswith("class ")

    def test_nothing_to_read_gives_no_images(self, run: RunConfig) -> None:
        assert predict("auto", run, []).images == ()

    def test_networks_that_disagree_do_not_agree(
        self, run: RunConfig, seven: Path, networks: dict[str, Checkpoint], tmp_path: Path
    ) -> None:
        weights = {name: -tensor for name, tensor in networks["student"].classifier.network.state_dict().items()}
        torch.save(weights, tmp_path / "contrary.pth")
        [image] = predict("auto", run, [str(seven)], student=tmp_path / "contrary.pth").images
        assert image.agree is False

    def test_an_unknown_data_set_is_a_usage_error(self, run: RunConfig, seven: Path) -> None:
        with pytest.raises(ConfigError, match="nonsense"):
            predict("nonsense", run, [str(seven)])

    def test_a_data_set_without_networks_says_how_to_train_them(self, run: RunConfig, seven: Path) -> None:
        with pytest.raises(KdError, match="kd train-teacher --dataset kmnist"):
            predict("kmnist", run, [str(seven)])

    def test_what_the_networks_saw_is_saved_and_read_back_unchanged(
        self, run: RunConfig, seven: Path, tmp_path: Path
    ) -> None:
        twin = tmp_path / "twin" / seven.name.upper()
        twin.parent.mkdir()
        write_seven(twin)
        seen = tmp_path / "seen"
        result = predict("auto", run, [str(seven), "none.png", str(twin)], save_to=seen)
        assert [image.preprocessed for image in result.images] == [
            str(seen / "7-mine.png"),
            None,
            str(seen / "7-MINE-2.png"),
        ]
        for image in (result.images[0], result.images[2]):
            np.testing.assert_array_equal(read_image(str(image.preprocessed)), image.seen)


class TestCommand:
    """The command as a user runs it."""

    def test_json_has_a_prediction_by_each_network(self, kd: CommandLine, seven: Path) -> None:
        [image] = read_images(kd("predict", seven, "--json", "--top", "3"))
        assert image["file"] == str(seven)
        assert image["error"] is None
        assert image["agree"] is True
        for role in ("teacher", "student"):
            assert image[role]["class"] == 7
            assert sum(image[role]["probabilities"]) == pytest.approx(1)
            assert image[role]["confidence"] == max(image[role]["probabilities"])
            ranked = [each["probability"] for each in image[role]["top"]]
            assert ranked == sorted(image[role]["probabilities"])[:-4:-1]

    def test_a_file_that_cannot_be_read_does_not_stop_the_others(self, kd: CommandLine, seven: Path) -> None:
        broken = seven.with_name("0-broken.png")
        broken.write_bytes(b"not an image")
        code, stdout, stderr = kd("predict", broken, seven, "--json")
        first, second = read_images((code, stdout, stderr), code=1)
        assert "not a PNG" in first["error"]
        assert (first["teacher"], first["agree"]) == (None, None)
        assert second["teacher"]["class"] == 7
        assert stderr.count("\n") == 1

    @pytest.mark.parametrize("source", [".", "*.png", "**/*.png"])
    def test_a_folder_or_a_pattern_stands_for_its_images_in_order(
        self, kd: CommandLine, seven: Path, source: str
    ) -> None:
        write_seven(seven.with_name("1.png"))
        seven.with_name("notes.txt").write_text("no image, and not taken for one")
        images = read_images(kd("predict", seven.parent / source, "--json"))
        assert [Path(image["file"]).name for image in images] == ["1.png", "7-mine.png"]

    def test_a_folder_or_a_pattern_without_images_is_an_error(self, kd: CommandLine, tmp_path: Path) -> None:
        code, _, stderr = kd("predict", tmp_path, tmp_path / "*.png")
        assert code == 1
        assert len(stderr.splitlines()) == 2

    def test_a_dash_stands_for_standard_input(
        self, kd: CommandLine, seven: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(seven.read_bytes())))
        [image] = read_images(kd("predict", "-", "--json"))
        assert (image["file"], image["teacher"]["class"]) == ("-", 7)

    def test_labels_from_names_give_an_accuracy_over_the_images_that_have_one(
        self, kd: CommandLine, seven: Path
    ) -> None:
        incorrect, unlabelled, missing = (seven.with_name(name) for name in ("1.png", "x.png", "7-missing.png"))
        write_seven(incorrect)
        write_seven(unlabelled)
        code, stdout, _ = kd("predict", seven, incorrect, unlabelled, missing, "--labels-from-name", "--json")
        result = json.loads(stdout)
        assert code == 1
        assert result["accuracy"] == {role.value: {"correct": 1, "images": 2} for role in Role}
        assert [image["label"] for image in result["images"]] == ["7", "1", None, "7"]
        assert [image["student"] and image["student"]["correct"] for image in result["images"]] == [
            True,
            False,
            None,
            None,
        ]

    @pytest.mark.parametrize("format_option", ["--csv", "--show", "--labels-from-name"])
    def test_the_other_ways_to_show_predictions_name_the_file(
        self, kd: CommandLine, seven: Path, format_option: str
    ) -> None:
        code, stdout, _ = kd("predict", seven, format_option)
        assert code == 0
        assert str(seven) in stdout

    @pytest.mark.parametrize("options", [["--json", "--csv"], ["--json", "--show"], ["--top", "0"]])
    def test_options_that_cannot_be_are_usage_errors(self, kd: CommandLine, seven: Path, options: list[str]) -> None:
        assert kd("predict", seven, *options)[0] == 2


@pytest.mark.parametrize(
    ("file", "digit"), [("7-a.png", 7), ("3/IMG_20.png", 3), ("3/7.png", 3), ("cats/7.png", 7), ("a.png", None)]
)
def test_a_label_is_the_folder_named_by_a_digit_or_the_digit_that_a_name_begins_with(
    file: str, digit: int | None
) -> None:
    assert label_from_name(file) == digit
