"""`kd predict`: what teacher and student predict for images as people have them."""

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from sklearn.datasets import load_digits as load_uci_digits

from kd_cli.commands.classify import classify, is_doubtful
from kd_cli.commands.image_files import Seen, see
from kd_cli.commands.predict import predict
from kd_cli.config import ConfigError, DataConfig, DeviceName, KdError, Role, RunConfig
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.data.prepared import load, name_of
from kd_cli.digits.mnist_format import read_source
from kd_cli.evaluation.typical import compute_likeness
from kd_cli.networks.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.metadata import Confidence, Metadata, Typical
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine, make_dataset
from tests.digits import drawings, pages, scenes, sheets
from tests.digits import images as digit_images
from tests.digits.images import (
    Images,
    Labels,
    accuracy,
    draw_seven,
    load_networks,
    load_semeion,
    semeion_file,
    uci_file,
)
from tests.digits.sheets import Sheet
from tests.other_device import NetworkOnDevice, OtherDevice

CPU = torch.device("cpu")

MIXED_PAGES = 240
PAGES_OF_A_KIND = 100

CLASSES = 5
"""Of a checkpoint that needs no data set."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Those that ship."""
    return load_networks(tmp_path_factory.mktemp("no-models"))


@pytest.fixture
def checkpoint(metadata: Metadata) -> Checkpoint:
    torch.manual_seed(0)
    classifier = build_classifier(parse_spec("mlp-8"), make_dataset(CLASSES).info).eval()
    metadata = Metadata(**vars(metadata) | {"data": make_dataset(CLASSES).info})
    return Checkpoint(classifier, metadata, Path("none"), "digest")


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
    return digit_images.see(pages.draw(image, kinds[i % len(kinds)], seed=i) for i, image in enumerate(mnist_digits[0]))


def see_digit(path: Path) -> NDArray[np.uint8]:
    return read_source(path, path.name)[np.newaxis]


def read_images(output: tuple[int, str, str], code: int = 0) -> list[dict[str, Any]]:
    assert output[0] == code, output[2]
    images: list[dict[str, Any]] = json.loads(output[1])["images"]
    return images


class TestAccuracy:
    """The networks that ship predict digits on pages as people have them."""

    @pytest.mark.slow
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
        seen = digit_images.see(pages.draw(image, kind, seed) for seed, image in enumerate(images))
        for network in networks.values():
            assert accuracy(network, seen, labels) >= accuracy(network, images, labels) - 0.04

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [kind for kind in scenes.KINDS if kind != "16x16 bitmap"])
    def test_what_is_around_the_paper_is_left_out(
        self, mnist_digits: tuple[Images, Labels], networks: dict[str, Checkpoint], kind: str
    ) -> None:
        images, labels = mnist_digits[0][:PAGES_OF_A_KIND], mnist_digits[1][:PAGES_OF_A_KIND]
        seen = digit_images.see(scenes.draw(image, kind, seed) for seed, image in enumerate(images))
        assert accuracy(networks["teacher"], seen, labels) >= 0.9
        assert accuracy(networks["student"], seen, labels) >= 0.88

    @pytest.mark.parametrize(
        ("side", "resampling"),
        [
            pytest.param(8, "NEAREST", marks=pytest.mark.slow),
            (64, "BICUBIC"),
            pytest.param(64, "NEAREST", marks=pytest.mark.slow),
            pytest.param(300, "NEAREST", marks=pytest.mark.slow),
        ],
    )
    def test_digits_of_another_data_set_that_fill_the_image_are_predicted(
        self, networks: dict[str, Checkpoint], side: int, resampling: str
    ) -> None:
        uci = load_uci_digits()
        images, labels = uci.images[::6], uci.target[::6]
        seen = digit_images.see(uci_file(image, side, Image.Resampling[resampling]) for image in images)
        for network in networks.values():
            assert accuracy(network, seen, labels) >= 0.9

    @pytest.mark.slow
    @pytest.mark.parametrize("side", [16, 64, 300])
    def test_digits_whose_ink_lies_on_all_borders_are_predicted(
        self, networks: dict[str, Checkpoint], side: int
    ) -> None:
        images, labels = load_semeion()
        if not len(images):
            pytest.skip("$KD_DATA_DIR has no Semeion")
        seen = digit_images.see(semeion_file(image, side) for image in images)
        assert seen.any(axis=(1, 2)).all()  # none is blank
        assert accuracy(networks["teacher"], seen, labels) >= 0.93
        assert accuracy(networks["student"], seen, labels) >= 0.9


class TestSheets:
    """Sheets of 2 to 10 of MNIST's test digits, which do not touch."""

    @staticmethod
    def read(mnist: Dataset, seeds: range) -> list[tuple[Sheet, list[Seen]]]:
        drawn = [sheets.draw(mnist.test.images[:, 0].numpy(), seed) for seed in seeds]
        return [(sheet, see(io.BytesIO(sheet.file), "sheet", mnist.info, every_digit=True)) for sheet in drawn]

    def test_are_told_to_show_several_digits_and_each_is_found(self, mnist: Dataset) -> None:
        found = self.read(mnist, range(1000, 1016))
        assert sum(len(seen) > 1 for _, seen in found) >= 15
        assert sum(sheet.is_read([each.box for each in seen if each.box]) for sheet, seen in found) >= 14

    @pytest.mark.slow
    def test_are_read_nearly_as_well_as_the_digits_themselves(
        self, mnist: Dataset, networks: dict[str, Checkpoint]
    ) -> None:
        found = self.read(mnist, range(200))
        complete = [(sheet, seen) for sheet, seen in found if sheet.is_read([each.box for each in seen if each.box])]
        assert sum(len(seen) > 1 for _, seen in found) >= 0.95 * len(found)
        assert len(complete) >= 0.9 * len(found)
        images = np.concatenate([each.pixels for _, seen in complete for each in seen])
        digits = [digit for sheet, _ in complete for digit in sheet.digits]
        themselves, labels = mnist.test.images[digits, 0].numpy(), mnist.test.labels[digits].numpy()
        for network in networks.values():
            assert accuracy(network, images, labels) >= accuracy(network, themselves, labels) - 0.01

    @pytest.mark.slow
    def test_are_not_what_single_digits_are_taken_for(self, mnist: Dataset) -> None:
        kinds = list(pages.KINDS)
        files = (pages.draw(image, kinds[i % 16], i) for i, image in enumerate(mnist.test.images[-500:, 0].numpy()))
        assert sum(len(see(io.BytesIO(file), "page", mnist.info, every_digit=True)) > 1 for file in files) <= 1


class TestDoubt:
    """Images that show no digit are marked, those that show one seldom."""

    NO_DIGITS_OF_A_KIND = 60

    @pytest.mark.slow
    def test_four_in_five_images_that_show_no_digit_are_marked(
        self, tmp_path: Path, networks: dict[str, Checkpoint]
    ) -> None:
        for kind in drawings.KINDS:
            for seed in range(self.NO_DIGITS_OF_A_KIND):
                (tmp_path / f"{kind}-{seed}.png").write_bytes(drawings.draw(kind, seed=1000 + seed))
        teacher, student = (network.path for network in networks.values())
        result = predict("auto", RunConfig(device=DeviceName.cpu), [str(tmp_path)], teacher, student)
        assert len(result.images) == self.NO_DIGITS_OF_A_KIND * len(drawings.KINDS)
        assert np.mean([image.unsure or image.error is not None for image in result.images]) >= 0.8

    @pytest.mark.slow
    @pytest.mark.parametrize("on_pages", [True, False], ids=["on pages", "of MNIST"])
    def test_few_digits_are_marked(
        self, mnist: Dataset, mixed_pages: Images, networks: dict[str, Checkpoint], on_pages: bool
    ) -> None:
        files = (digit_images.encode(Image.fromarray(image)) for image in mnist.test.images[:1000, 0].numpy())
        images = mixed_pages if on_pages else digit_images.see(files)
        both = zip(*(classify(network, images[:, np.newaxis]) for network in networks.values()), strict=True)
        marked = [is_doubtful(each, seen[np.newaxis], mnist.info) for each, seen in zip(both, images, strict=True)]
        assert sum(map(bool, marked)) <= 0.02 * len(marked)

    def test_a_smiley_is_marked_and_a_seven_is_not(
        self, tmp_path: Path, seven: Path, networks: dict[str, Checkpoint]
    ) -> None:
        smiley = tmp_path / "smiley.png"
        smiley.write_bytes(drawings.draw("smiley", seed=0))
        teacher, student = (network.path for network in networks.values())
        result = predict("mnist", RunConfig(device=DeviceName.cpu), [str(seven), str(smiley)], teacher, student)
        assert [image.unsure for image in result.images] == [False, True]

    def test_the_first_network_that_can_tell_decides(self, checkpoint: Checkpoint, seven: Path) -> None:
        data, seen = checkpoint.metadata.data, see_digit(seven)
        cannot_tell = classify(checkpoint, np.zeros((1, 1, 28, 28), np.uint8))[0]
        like, unlike = replace(cannot_tell, unlike=False), replace(cannot_tell, unlike=True)
        told = [is_doubtful(each, seen, data) for each in ([like, unlike], [unlike, like], [cannot_tell, unlike])]
        assert told == [False, True, True]
        assert is_doubtful([cannot_tell], seen, data) is None


class TestClassify:
    """Predictions of one network, here one of five classes."""

    @pytest.fixture
    def images(self) -> NDArray[np.uint8]:
        return make_dataset(CLASSES).test.images[:20].numpy()

    def test_probabilities_are_the_softmax_of_the_logits(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        logits = compute_logits(checkpoint.classifier, torch.from_numpy(images))
        predictions = classify(checkpoint, images)
        expected = logits.double().softmax(dim=1).numpy()
        np.testing.assert_allclose([each.probabilities for each in predictions], expected)
        np.testing.assert_array_equal([each.class_index for each in predictions], expected.argmax(axis=1))
        np.testing.assert_allclose([each.confidence for each in predictions], expected.max(axis=1))

    def test_confidences_are_those_at_the_checkpoints_temperature(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        logits = compute_logits(checkpoint.classifier, torch.from_numpy(images)).double()
        metadata = replace(checkpoint.metadata, confidence=Confidence(temperature=3.0))
        predictions = classify(replace(checkpoint, metadata=metadata), images)
        expected = (logits / 3).softmax(dim=1)
        np.testing.assert_allclose([each.probabilities for each in predictions], expected)

    def test_predictions_need_no_device_with_64_bits(self, checkpoint: Checkpoint, images: NDArray[np.uint8]) -> None:
        expected = classify(checkpoint, images)
        with OtherDevice():
            elsewhere: Any = NetworkOnDevice(checkpoint.classifier)
            assert classify(replace(checkpoint, classifier=elsewhere), images) == expected

    def test_images_whose_outputs_are_far_from_all_typical_ones_are_unlike(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        logits = checkpoint.compute_logits(images).astype(np.float64)
        typical = Typical(tuple(map(tuple, np.eye(CLASSES).tolist())), least=0)
        likeness = compute_likeness(logits, typical)
        typical = replace(typical, least=float(np.sort(likeness)[3]))
        metadata = replace(checkpoint.metadata, confidence=Confidence(temperature=1.0, typical=typical))
        predictions = classify(replace(checkpoint, metadata=metadata), images)
        assert [each.unlike for each in predictions] == (likeness < typical.least).tolist()
        assert sum(bool(each.unlike) for each in predictions) == 3

    def test_classes_in_another_order_change_nothing_of_it(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        logits = checkpoint.compute_logits(images).astype(np.float64)
        typical = Typical(tuple(map(tuple, np.eye(CLASSES)[:2].tolist())), least=0)
        typical = replace(typical, least=float(np.median(compute_likeness(logits, typical))))
        confidence = Confidence(1.0, typical)
        known = replace(checkpoint, metadata=replace(checkpoint.metadata, confidence=confidence))
        other = known.with_classes(known.metadata.data.classes[::-1])
        assert [each.unlike for each in classify(other, images)] == [each.unlike for each in classify(known, images)]
        assert {each.unlike for each in classify(other, images)} == {False, True}

    def test_a_checkpoint_that_does_not_say_which_are_unlike_leaves_it_open(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        assert {each.unlike for each in classify(checkpoint, images)} == {None}

    @pytest.mark.parametrize(("top", "listed"), [(1, 1), (3, 3), (9, 5)])
    def test_the_most_probable_classes_are_listed_by_name(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8], top: int, listed: int
    ) -> None:
        for prediction in classify(checkpoint, images, top):
            assert [each.probability for each in prediction.top] == sorted(prediction.probabilities)[::-1][:listed]
            assert [each.label for each in prediction.top] == [f"class {each.class_index}" for each in prediction.top]
            assert prediction.top[0].label == prediction.label

    def test_a_prediction_is_correct_or_not_where_there_is_a_label(
        self, checkpoint: Checkpoint, images: NDArray[np.uint8]
    ) -> None:
        [best] = (each.class_index for each in classify(checkpoint, images[:1]))
        labels = [f"class {best}", f"class {(best + 1) % 5}", None]
        predictions = classify(checkpoint, np.repeat(images[:1], 3, axis=0), labels=labels)
        assert [each.correct for each in predictions] == [True, False, None]


class TestPredict:
    """Files in, typed results out."""

    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
        """The weights that ship, on the CPU."""
        monkeypatch.chdir(tmp_path)
        return RunConfig(device=DeviceName.cpu)

    def test_each_image_has_both_predictions_and_what_the_networks_saw(self, run: RunConfig, seven: Path) -> None:
        result = predict("auto", run, [str(seven)])
        [image] = result.images
        assert (result.dataset, result.device) == ("mnist", "cpu")
        assert [model.role for model in result.models] == ["teacher", "student"]
        assert image.teacher is not None
        assert image.student is not None
        assert (image.teacher.label, image.student.label, image.agree) == ("7", "7", True)
        assert (image.label, image.teacher.correct, result.accuracy) == (None, None, None)
        np.testing.assert_array_equal(image.seen, see_digit(seven))

    def test_networks_may_be_given(self, run: RunConfig, seven: Path, networks: dict[str, Checkpoint]) -> None:
        swapped = predict("auto", run, [str(seven)], networks["student"].path, networks["teacher"].path)
        usual = predict("auto", run, [str(seven)])
        assert swapped.images[0].teacher == usual.images[0].student
        assert swapped.images[0].student == usual.images[0].teacher

    def test_networks_of_another_data_set_name_its_classes(
        self, run: RunConfig, seven: Path, metadata: Metadata
    ) -> None:
        classifier = build_classifier(parse_spec(metadata.architecture), metadata.data)
        metadata = replace(metadata, data=replace(metadata.data, name="kmnist"))
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
            np.testing.assert_array_equal(see_digit(Path(str(image.preprocessed))), image.seen)

    @pytest.mark.parametrize("force", [False, True])
    def test_no_output_replaces_an_image_that_is_read(self, run: RunConfig, seven: Path, force: bool) -> None:
        before = seven.read_bytes()
        other = write_seven(seven.with_name("0.png"))
        for source in (str(seven), str(seven.parent), str(seven.parent / "*.png")):
            with pytest.raises(KdError, match="the command reads it"):
                predict("auto", run, [source], save_to=seven.parent, force=force)
        assert seven.read_bytes() == before
        assert sorted(seven.parent.iterdir()) == [other, seven]

    @pytest.mark.parametrize("link", ["folder", "file", "hard link"])
    def test_no_output_replaces_an_image_by_another_path(
        self, run: RunConfig, seven: Path, tmp_path: Path, link: str
    ) -> None:
        before = seven.read_bytes()
        seen = tmp_path / "seen"
        if link == "folder":
            seen.symlink_to(seven.parent)
        else:
            seen.mkdir()
            place = seen / seven.name
            place.symlink_to(seven) if link == "file" else place.hardlink_to(seven)
        with pytest.raises(KdError, match="the command reads it"):
            predict("auto", run, [str(seven)], save_to=seen, force=True)
        assert seven.read_bytes() == before

    def test_no_output_replaces_a_network(self, run: RunConfig, seven: Path, networks: dict[str, Checkpoint]) -> None:
        weights = seven.with_name("seen") / "7-mine.png"
        weights.parent.mkdir()
        weights.write_bytes(networks["student"].path.read_bytes())
        with pytest.raises(KdError, match="the command reads it"):
            predict("auto", run, [str(seven)], student=weights, save_to=weights.parent, force=True)

    def test_a_file_of_another_program_is_replaced_by_force_alone(
        self, run: RunConfig, seven: Path, tmp_path: Path
    ) -> None:
        other, foreign = write_seven(tmp_path / "1.png"), tmp_path / "seen" / "7-mine.png"
        foreign.parent.mkdir()
        foreign.write_bytes(seven.read_bytes())
        with pytest.raises(KdError, match=r"7-mine\.png: it is a file that kd did not write"):
            predict("auto", run, [str(other), str(seven)], save_to=foreign.parent)
        assert foreign.read_bytes() == seven.read_bytes()
        assert list(foreign.parent.iterdir()) == [foreign]  # nothing was written
        predict("auto", run, [str(other), str(seven)], save_to=foreign.parent, force=True)
        assert foreign.read_bytes() != seven.read_bytes()

    def test_what_was_saved_before_is_replaced(self, run: RunConfig, seven: Path, tmp_path: Path) -> None:
        for _ in range(2):
            [image] = predict("auto", run, [str(seven)], save_to=tmp_path / "seen").images
        assert [str(path) for path in (tmp_path / "seen").iterdir()] == [image.preprocessed]


class TestOtherImages:
    """Networks of colour images, 24x40 pixels, of four classes."""

    CLASSES = ("a very long name of a class", "cat", "dog", "owl")

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The data set, as a folder."""
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "data" / "pets"
        for number, name in enumerate(self.CLASSES):
            (folder / name).mkdir(parents=True)
            for shade in (50, 100):
                Image.new("RGB", (40, 24), (50 * number, shade, 0)).save(folder / name / f"{shade}.png")
        return folder

    @pytest.fixture
    def info(self, folder: Path) -> DataInfo:
        return DataInfo(name_of(DataConfig(str(folder))), self.CLASSES, (3, 24, 40), (0.5,) * 3, (0.2,) * 3, "")

    @pytest.fixture
    def models(self, tmp_path: Path, metadata: Metadata, info: DataInfo) -> RunConfig:
        """A folder with a teacher and a student."""
        run = RunConfig(models_dir=tmp_path / "models", device=DeviceName.cpu)
        for role in Role:
            self.save(checkpoint_path(run.models_dir, info.name, role), metadata, info)
        return run

    @staticmethod
    def save(path: Path, metadata: Metadata, data: DataInfo) -> None:
        torch.manual_seed(0)
        network = build_classifier(parse_spec("mlp-8"), data).network
        save_checkpoint(path, network, replace(metadata, data=data))

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        (tmp_path / "owl").mkdir()
        path = tmp_path / "owl" / "photo.png"
        Image.effect_noise((120, 90), 80).convert("RGB").save(path)
        return path

    @pytest.mark.parametrize("by", ["name", "path", "plain name"])
    def test_are_seen_in_colour_and_in_their_size_by_any_name_of_the_data_set(
        self, models: RunConfig, photo: Path, folder: Path, info: DataInfo, by: str
    ) -> None:
        name = {"name": info.name, "path": f"{folder}/", "plain name": "pets"}[by]
        result = predict(name, models, [str(photo)], labels_from_name=True)
        (image,) = result.images
        assert (result.dataset, image.label) == (info.name, "owl")
        assert image.seen is not None
        np.testing.assert_array_equal(image.seen, see(photo, "photo", info)[0].pixels)
        for each in (image.teacher, image.student):
            assert each is not None
            assert each.label == self.CLASSES[each.class_index]
            assert each.correct is (each.label == "owl")

    def test_of_a_folder_are_seen_as_the_data_set_has_them(
        self, models: RunConfig, folder: Path, tmp_path: Path
    ) -> None:
        dataset = load(DataConfig(str(folder), tmp_path / "prepared", test_fraction=0.5, validation_fraction=0))
        result = predict(str(folder), models, [str(folder)])
        seen = {image.seen.tobytes() for image in result.images if image.seen is not None}
        assert {image.numpy().tobytes() for image in [*dataset.train.images, *dataset.test.images]} == seen

    def test_are_saved_in_colour(self, models: RunConfig, photo: Path, info: DataInfo, tmp_path: Path) -> None:
        (image,) = predict(info.name, models, [str(photo)], save_to=tmp_path / "seen").images
        with Image.open(str(image.preprocessed)) as written:
            np.testing.assert_array_equal(np.moveaxis(np.asarray(written), -1, 0), image.seen)

    def test_networks_that_are_given_need_no_data_set(self, models: RunConfig, photo: Path, info: DataInfo) -> None:
        student = checkpoint_path(models.models_dir, info.name, Role.student)
        result = predict("auto", models, [str(photo)], student=student)
        assert result.dataset == info.name
        assert [model.role for model in result.models] == ["teacher", "student"]

    def test_a_plain_state_dict_is_of_the_data_of_the_other_network(
        self, models: RunConfig, photo: Path, info: DataInfo
    ) -> None:
        weights = load_checkpoint(checkpoint_path(models.models_dir, info.name, Role.student), CPU).classifier.network
        torch.save(weights.state_dict(), "plain.pth")
        (image,) = predict(info.name, models, [str(photo)], teacher=Path("plain.pth")).images
        assert image.teacher is not None
        assert image.student is not None
        assert image.teacher.label == image.student.label
        assert image.teacher.probabilities == pytest.approx(image.student.probabilities)

    @pytest.mark.parametrize("role", list(Role))
    def test_one_network_predicts_alone(
        self, models: RunConfig, photo: Path, info: DataInfo, caplog: pytest.LogCaptureFixture, role: Role
    ) -> None:
        path = checkpoint_path(models.models_dir, info.name, role).rename("alone.safetensors")
        given: dict[str, Any] = {role.value: path}
        result = predict("auto", replace(models, models_dir=Path("none")), [str(photo)], **given)
        (image,) = result.images
        assert [model.role for model in result.models] == [role.value]
        assert [image.teacher is None, image.student is None] == [each is not role for each in Role]
        assert image.agree is None
        assert f"the {role.value} predicts alone" in caplog.text

    @pytest.mark.parametrize("change", [{"shape": (3, 40, 24)}, {"classes": ("cat", "dog", "owl", "fish")}])
    def test_networks_of_different_data_are_refused(
        self, models: RunConfig, photo: Path, info: DataInfo, metadata: Metadata, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        other = tmp_path / "other.safetensors"
        self.save(other, metadata, replace(info, name="beasts", **change))
        teacher = checkpoint_path(models.models_dir, info.name, Role.teacher)
        with pytest.raises(
            KdError, match=r"\(beasts\) than .* \(pets-\w+\): give a teacher and a student of the same data"
        ):
            predict("auto", models, [str(photo)], teacher, other)

    def test_many_images_are_predicted_a_few_at_a_time(
        self, models: RunConfig, photo: Path, info: DataInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sources = [str(photo), "none.png", str(photo), str(photo)]
        at_once = predict(info.name, models, sources)
        monkeypatch.setattr("kd_cli.commands.predict.READ_AHEAD", 1)
        few = predict(info.name, models, sources, keep_seen=False)
        for one, other in zip(few.images, at_once.images, strict=True):
            expected = other.teacher and pytest.approx(other.teacher.probabilities)
            assert (one.teacher and one.teacher.probabilities) == expected
        assert [image.seen for image in few.images] == [None] * 4

    def test_have_no_digits(self, kd: CommandLine, models: RunConfig, photo: Path, info: DataInfo) -> None:
        options = ["--models-dir", models.models_dir, "--dataset", info.name]
        (image,) = read_images(kd("predict", photo, "--json", *options))
        assert (image["digits"], image["digit"], image["box"]) == (None, None, None)
        assert "digits" not in kd("predict", photo, "--csv", "-", *options)[1].splitlines()[0]
        code, _, stderr = kd("predict", photo, "--all", *options)
        assert (code, stderr.count("\n")) == (2, 1)
        assert f"--all: {info.name} is no data set of digits, and its images are read as a whole" in stderr

    def test_json_names_the_classes(self, kd: CommandLine, models: RunConfig, photo: Path, info: DataInfo) -> None:
        options = ["--models-dir", models.models_dir, "--dataset", info.name, "--labels-from-name"]
        (image,) = read_images(kd("predict", photo, "--json", "--top", 9, *options))
        assert sorted(each["label"] for each in image["student"]["top"]) == sorted(self.CLASSES)
        assert image["student"]["label"] == self.CLASSES[image["student"]["class"]]
        for shown in ([], ["--show"]):
            assert kd("predict", photo, *options, *shown)[0] == 0


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
        code, stdout, _ = kd(
            "predict", seven, incorrect, unlabelled, missing, "--labels-from-name", "--json", "--device", "cpu"
        )
        result = json.loads(stdout)
        assert code == 1
        assert result["accuracy"] == {role.value: {"correct": 1, "images": 2, "accuracy": 0.5} for role in Role}
        assert [model["role"] for model in result["models"]] == [role.value for role in Role]
        assert result["device"] == "cpu"
        assert [image["label"] for image in result["images"]] == ["7", "1", None, "7"]
        assert [image["student"] and image["student"]["correct"] for image in result["images"]] == [
            True,
            False,
            None,
            None,
        ]

    @pytest.mark.parametrize("format_option", [["--csv", "-"], ["--show"], ["--labels-from-name"]])
    def test_the_other_ways_to_show_predictions_name_the_file(
        self, kd: CommandLine, seven: Path, format_option: list[str]
    ) -> None:
        code, stdout, _ = kd("predict", seven, *format_option)
        assert code == 0
        assert str(seven) in stdout

    @pytest.mark.parametrize("shown", [["--json"], ["--show"], []])
    def test_a_csv_file_is_written_beside_what_is_shown(self, kd: CommandLine, seven: Path, shown: list[str]) -> None:
        usual = kd("predict", seven, *shown)
        for _ in range(2):  # its own file may be replaced
            assert kd("predict", seven, *shown, "--csv", "some.csv") == usual
        assert Path("some.csv").read_text() == kd("predict", seven, "--csv", "-")[1]

    @pytest.mark.parametrize("force", [[], ["--force"]])
    def test_a_csv_file_replaces_no_image_that_is_read(self, kd: CommandLine, seven: Path, force: list[str]) -> None:
        before = seven.read_bytes()
        Path("link").symlink_to(seven)
        for source, place in ((seven, seven), (seven.parent, seven), (seven, "link")):
            code, _, stderr = kd("predict", source, "--csv", place, *force)
            assert (code, stderr.count("\n")) == (1, 1)
        assert seven.read_bytes() == before

    def test_a_csv_file_replaces_no_file_of_the_users_but_by_force(self, kd: CommandLine, seven: Path) -> None:
        Path("mine.csv").write_text("file,error\n")
        code, stdout, stderr = kd("predict", seven, "--csv", "mine.csv")
        assert (code, stdout) == (1, "")
        assert "mine.csv: it is a file that kd did not write" in stderr
        assert Path("mine.csv").read_text() == "file,error\n"
        assert kd("predict", seven, "--csv", "mine.csv", "--force")[0] == 0
        assert Path("mine.csv").read_text() != "file,error\n"

    @pytest.mark.parametrize(
        "options", [["--json", "--csv", "-"], ["--json", "--show"], ["--csv", "-", "--show"], ["--csv"], ["--top", "0"]]
    )
    def test_options_that_cannot_be_are_usage_errors(self, kd: CommandLine, seven: Path, options: list[str]) -> None:
        code, stdout, stderr = kd("predict", seven, *options)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1)

    def test_networks_are_not_looked_for_elsewhere_than_in_the_folder_that_was_named(
        self, kd: CommandLine, seven: Path
    ) -> None:
        code, stdout, stderr = kd("predict", seven, "--models-dir", "modles")
        assert (code, stdout) == (1, "")
        assert "modles: check --models-dir" in stderr

    def test_a_foreign_state_dict_is_normalised_as_told(
        self, kd: CommandLine, seven: Path, networks: dict[str, Checkpoint]
    ) -> None:
        torch.save(networks["student"].classifier.network.state_dict(), "plain.pth")
        usual, other = (
            json.loads(kd("predict", seven, "--student", "plain.pth", "--json", *options)[1])["images"][0]["student"]
            for options in ([], ["--mean", "0.9", "--std", "0.1"])
        )
        assert usual["probabilities"] != other["probabilities"]


class TestSeveralDigits:
    """Two lines of sevens: two above, one below them that has most ink."""

    SEVENS = ((100, 20, 112), (20, 30, 112), (80, 200, 168))
    """Left, top and side of each, the second before the first in the order of reading."""

    @pytest.fixture
    def sevens(self, tmp_path: Path) -> Path:
        path = tmp_path / "7.png"
        self.draw().save(path)
        return path

    def draw(self) -> Image.Image:
        page = Image.new("L", (300, 400), "white")
        for left, top, side in self.SEVENS:
            page.paste(Image.fromarray(255 - draw_seven()).resize((side, side)), (left, top))
        return page

    def find_boxes(self, width: int) -> NDArray[np.float64]:
        """Those of the ink, in the order of reading, on a page of this width."""
        rows, columns = np.nonzero(draw_seven())
        corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        boxes = np.array([corners * side / 112 + [left, top, left, top] for left, top, side in self.SEVENS])
        return boxes[[1, 0, 2]] * width / 300

    def test_the_one_with_most_ink_is_read_and_the_others_are_counted(self, kd: CommandLine, sevens: Path) -> None:
        (image,) = read_images(kd("predict", sevens, "--json"))
        assert (image["digits"], image["digit"], image["teacher"]["class"]) == (3, 3, 7)
        np.testing.assert_allclose(image["box"], self.find_boxes(300)[2], atol=4)
        shown = kd("predict", sevens)[1]
        assert "read no. 3 of 3" in shown
        assert "Several digits in 1 image: the one with most ink was read; --all reads each." in shown

    def test_one_digit_is_said_to_be_one(self, kd: CommandLine, seven: Path) -> None:
        (image,) = read_images(kd("predict", seven, "--json"))
        assert (image["digits"], image["digit"]) == (1, 1)
        assert "everal digits" not in kd("predict", seven)[1]

    @pytest.mark.parametrize("width", [75, 300, 2400])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_all_are_read_line_by_line_with_their_boxes_in_the_image(
        self, kd: CommandLine, tmp_path: Path, width: int, orientation: int
    ) -> None:
        page = self.draw().resize((width, width * 4 // 3))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        lying = page.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else page
        lying.save(tmp_path / "page.jpg", exif=exif, quality=95)
        images = read_images(kd("predict", tmp_path / "page.jpg", "--all", "--json"))
        assert [(each["digit"], each["digits"], each["teacher"]["class"]) for each in images] == [
            (number, 3, 7) for number in (1, 2, 3)
        ]
        np.testing.assert_allclose([each["box"] for each in images], self.find_boxes(width), atol=max(2, 0.015 * width))

    def test_all_are_rows_of_the_table_and_lines_of_the_csv_file(self, kd: CommandLine, sevens: Path) -> None:
        shown = kd("predict", sevens, "--all", "--csv", "some.csv", "--show")[1]
        lines = Path("some.csv").read_text().splitlines()
        assert [line.split(",")[2:4] for line in lines] == [["digits", "digit"], ["3", "1"], ["3", "2"], ["3", "3"]]
        for number in (1, 2, 3):
            assert shown.count(f"{number} of 3") == 2
            assert f"7.png, digit {number} of 3" in shown

    def test_each_has_a_file_of_what_the_networks_saw(
        self, kd: CommandLine, sevens: Path, seven: Path, tmp_path: Path
    ) -> None:
        options = ["--all", "--json", "--save-preprocessed", tmp_path / "seen"]
        images = read_images(kd("predict", sevens, seven, *options))
        names = ["7-1.png", "7-2.png", "7-3.png", "7-mine.png"]
        assert [image["preprocessed"] for image in images] == [str(tmp_path / "seen" / name) for name in names]
        assert all(np.asarray(Image.open(image["preprocessed"])).shape == (28, 28) for image in images)

    def test_no_file_is_written_if_one_of_them_would_replace_a_users(
        self, kd: CommandLine, sevens: Path, tmp_path: Path
    ) -> None:
        mine = tmp_path / "seen" / "7-2.png"
        mine.parent.mkdir()
        write_seven(mine)
        code, _, stderr = kd("predict", sevens, "--all", "--save-preprocessed", mine.parent)
        assert (code, stderr.count("\n")) == (1, 1)
        assert list(mine.parent.iterdir()) == [mine]

    def test_a_label_is_for_an_image_of_one_digit(self, kd: CommandLine, sevens: Path, seven: Path) -> None:
        result = json.loads(kd("predict", sevens, seven, "--all", "--labels-from-name", "--json")[1])
        assert [image["label"] for image in result["images"]] == [None, None, None, "7"]
        assert result["accuracy"]["teacher"] == {"correct": 1, "images": 1, "accuracy": 1.0}
        shown = kd("predict", sevens, seven, "--all", "--labels-from-name")[1]
        assert "A label is for one digit: images of several digits, here 1, have none." in shown


class TestUnreadable:
    """What cannot be read is named, with exit code 1, and holds nothing up."""

    @staticmethod
    def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
        """Make a folder unreadable, for root as well."""
        scan, access = os.scandir, os.access

        def scandir(path: str) -> Any:
            if Path(path) == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != forbidden and access(path, mode))

    @pytest.mark.parametrize("pattern", ["", "*.png"])
    def test_a_folder_is_named(
        self, kd: CommandLine, seven: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
    ) -> None:
        self.forbid(monkeypatch, seven.parent)
        code, stdout, stderr = kd("predict", seven.parent / pattern, "--json")
        [image] = read_images((code, stdout, stderr), code=1)
        assert image["file"] == str(seven.parent)
        assert image["error"] == (
            f"cannot read folder {seven.parent}: Permission denied; check its permissions, or leave it out"
        )
        assert stderr == f"kd: {image['error']}\n"

    @pytest.mark.parametrize("pattern", ["", "**/*.png"])
    def test_a_folder_in_a_folder_is_named_and_the_rest_predicted(
        self, kd: CommandLine, seven: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
    ) -> None:
        inner = seven.with_name("inner")
        inner.mkdir()
        self.forbid(monkeypatch, inner)
        first, second = read_images(kd("predict", seven.parent / pattern, "--json"), code=1)
        assert (first["file"], first["teacher"]["class"]) == (str(seven), 7)
        assert second["file"] == str(inner)
        assert "Permission denied" in second["error"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
    def test_a_pipe_is_named_at_once(self, kd: CommandLine, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        code, _, stderr = kd("predict", tmp_path / "pipe")
        assert (code, stderr) == (1, f"kd: cannot read {tmp_path / 'pipe'}: it is not a regular file; check the path\n")

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device")
    def test_a_device_is_named_at_once(self, kd: CommandLine) -> None:
        code, _, stderr = kd("predict", "/dev/zero")
        assert (code, stderr) == (1, "kd: cannot read /dev/zero: it is not a regular file; check the path\n")

    def test_a_closed_standard_input_is_named(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        code, _, stderr = kd("predict", "-")
        assert (code, stderr) == (1, "kd: cannot read standard input: it is closed; give a file\n")

    def test_a_standard_input_that_fails_is_named(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        read = Mock(side_effect=OSError(9, "Bad file descriptor"))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
        code, _, stderr = kd("predict", "-")
        assert (code, stderr) == (1, "kd: cannot read standard input: Bad file descriptor; give a file\n")

    def test_a_name_that_would_steer_the_terminal_is_shown(self, kd: CommandLine, tmp_path: Path) -> None:
        code, stdout, stderr = kd("predict", f"{tmp_path}/\x1b[31mred\n.png")
        assert code == 1
        assert (stdout + stderr).count("\x1b") == 0
        assert (stdout + stderr).count(r"\x1b[31mred\n.png") == 2
        assert stderr.count("\n") == 1
