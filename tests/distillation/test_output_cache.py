"""Outputs on disk: a matter of speed alone, whatever becomes of the files."""

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.config import KdError
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Split
from kd_cli.distillation import output_cache, teacher_outputs
from kd_cli.distillation.output_cache import OutputCache, clear, describe
from kd_cli.distillation.teacher_outputs import TeacherOutputs, describe_teachers
from kd_cli.files import default_cache
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.features import Layer
from tests.distillation.conftest import MakeClassifier

OUTPUTS = torch.arange(40.0).view(20, 2) - 7
LIKE = OUTPUTS[:3]


@pytest.fixture
def cache(tmp_path: Path) -> OutputCache:
    return OutputCache(tmp_path / "cache", {"teachers": ["a"]})


def only_file(cache: OutputCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


class TestCache:
    def test_gives_back_what_was_kept_to_the_bit(self, cache: OutputCache) -> None:
        cache.keep({"view": 1}, OUTPUTS)
        found = OutputCache(cache.folder, {"teachers": ["a"]}).find({"view": 1}, LIKE, 20)
        assert found is not None
        assert torch.equal(found, OUTPUTS)

    @pytest.mark.parametrize(("teacher", "view"), [("a", 2), ("b", 1)])
    def test_has_nothing_for_another_teacher_or_view(self, cache: OutputCache, teacher: str, view: int) -> None:
        cache.keep({"view": 1}, OUTPUTS)
        assert OutputCache(cache.folder, {"teachers": [teacher]}).find({"view": view}, LIKE, 20) is None

    @pytest.mark.parametrize("damage", ["cut", "empty", "junk", "flipped"])
    def test_says_that_a_damaged_file_is_not_used(
        self, cache: OutputCache, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache.keep({}, OUTPUTS)
        path = only_file(cache)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        whole = bytes(content)
        path.write_bytes({"cut": whole[:-8], "empty": b"", "junk": b"junk" * 100, "flipped": whole}[damage])
        assert cache.find({}, LIKE, 20) is None
        assert "computed anew" in caplog.text
        cache.keep({}, OUTPUTS)
        assert cache.find({}, LIKE, 20) is not None

    @pytest.mark.parametrize(
        ("like", "count"), [(LIKE, 19), (LIKE[:, :1], 20), (LIKE.double(), 20), (LIKE + 1, 20), (LIKE * torch.nan, 20)]
    )
    def test_does_not_give_outputs_of_another_shape_type_or_network(
        self, cache: OutputCache, like: Tensor, count: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache.keep({}, OUTPUTS)
        assert cache.find({}, like, count) is None
        assert "computed anew" in caplog.text

    def test_takes_a_folder_in_the_place_of_a_file_for_nothing(self, cache: OutputCache) -> None:
        cache.keep({}, OUTPUTS)
        path = only_file(cache)
        path.unlink()
        path.mkdir()
        assert cache.find({}, LIKE, 20) is None

    def test_removes_what_was_not_used_for_longest_once_it_is_full(
        self, cache: OutputCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            cache.keep({"number": number}, OUTPUTS)
            os.utime(max(cache.folder.iterdir(), key=lambda path: path.stat().st_mtime), (number, number))
        size = describe(cache.folder).size_bytes // 3
        monkeypatch.setattr(output_cache, "LIMIT_BYTES", 3 * size)
        assert cache.find({"number": 0}, LIKE, 20) is not None  # so that it was used last
        cache.keep({"number": 3}, OUTPUTS)
        found = [cache.find({"number": number}, LIKE, 20) is not None for number in range(4)]
        assert found == [True, False, True, True]

    def test_does_not_keep_what_is_larger_than_all_of_it(
        self, cache: OutputCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output_cache, "LIMIT_BYTES", OUTPUTS.nbytes - 1)
        cache.keep({}, OUTPUTS)
        assert not cache.folder.exists()

    def test_that_cannot_be_written_is_a_notice(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "file").write_text("in the way")
        cache = OutputCache(tmp_path / "file" / "cache", {})
        cache.keep({}, OUTPUTS)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "only a matter of speed" in record.message
        assert cache.find({}, LIKE, 20) is None

    def test_is_described_and_cleared_without_other_files(self, cache: OutputCache) -> None:
        for number in range(2):
            cache.keep({"number": number}, OUTPUTS)
        mine = cache.folder / "mine.txt"
        mine.write_text("a user's own")
        sizes = [path.stat().st_size for path in cache.folder.glob("*.safetensors")]
        assert clear(cache.folder) == output_cache.CacheSize(str(cache.folder), 2, sum(sizes))
        assert list(cache.folder.iterdir()) == [mine]
        assert describe(cache.folder).files == 0

    def test_that_does_not_exist_is_empty(self, tmp_path: Path) -> None:
        assert clear(tmp_path / "none") == output_cache.CacheSize(str(tmp_path / "none"), 0, 0)
        assert not (tmp_path / "none").exists()

    def test_file_that_cannot_be_removed_is_one_line(self, cache: OutputCache, monkeypatch: pytest.MonkeyPatch) -> None:
        cache.keep({}, OUTPUTS)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(KdError, match=r"cannot remove .*: Permission denied"):
            clear(cache.folder)

    @pytest.mark.skipif(os.name != "posix", reason="the folder of other systems")
    def test_lies_where_the_system_wants_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_cache() == tmp_path / "kd"


class TestTeacherOutputs:
    @pytest.fixture(autouse=True)
    def all_are_worth_keeping(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(teacher_outputs, "MACS_WORTH_KEEPING", 0)

    def prepare(self, teacher: Classifier, split: Split, folder: Path | None, augment: tuple[str, ...]) -> Tensor:
        """The logits and features of the first batches of two epochs."""
        cache = None if folder is None else OutputCache(folder, describe_teachers(["digest"], [teacher]))
        own = TeacherOutputs([teacher], split, augment, 2, cache)
        logits, features = own.logits(None), own.features(Layer("fc1"))
        source = BatchSource(split, 50, 0, augment, 2)
        batches = [batch for _ in range(2) for batch in source.epoch()]
        return torch.cat([torch.cat([logits(batch), features(batch)], dim=1) for batch in batches])

    @pytest.mark.parametrize("augment", [(), ("shift",), ("warp", "flip-crop")])
    def test_are_the_same_bits_with_and_without_the_cache(
        self, augment: tuple[str, ...], teacher: Classifier, split: Split, tmp_path: Path
    ) -> None:
        without, first, again = (self.prepare(teacher, split, folder, augment) for folder in (None, tmp_path, tmp_path))
        assert torch.equal(first, without)
        assert torch.equal(again, without)
        assert describe(tmp_path).files == (4 if augment else 2)

    def test_from_the_disk_are_not_computed(self, teacher: Classifier, split: Split, tmp_path: Path) -> None:
        self.prepare(teacher, split, tmp_path, ("shift",))
        asked = []
        handle = teacher.register_forward_hook(lambda *_: asked.append(len(_[1][0])))
        own = TeacherOutputs(
            [teacher], split, ("shift",), 2, OutputCache(tmp_path, describe_teachers(["digest"], [teacher]))
        )
        own.logits(None)
        handle.remove()
        assert sum(asked) == 1 + 2 * teacher_outputs.COMPARED

    def test_of_other_images_normalisation_or_layers_are_others(
        self, make_classifier: MakeClassifier, teacher: Classifier, split: Split, tmp_path: Path
    ) -> None:
        self.prepare(teacher, split, tmp_path, ())
        fewer = Split(split.images[:100], split.labels[:100])
        assert torch.equal(self.prepare(teacher, fewer, tmp_path, ()), self.prepare(teacher, fewer, None, ()))
        other = Classifier(teacher.network, (0.5,), (0.5,), (1, 28, 28)).eval()
        assert torch.equal(self.prepare(other, split, tmp_path, ()), self.prepare(other, split, None, ()))

    def test_of_a_program_that_changed_are_computed_anew(
        self, teacher: Classifier, make_classifier: MakeClassifier, split: Split, tmp_path: Path
    ) -> None:
        """A network whose code computes something else, although all that is written of it is the same."""
        self.prepare(teacher, split, tmp_path, ())
        changed = make_classifier("cnn-6", seed=2).eval()
        assert torch.equal(self.prepare(changed, split, tmp_path, ()), self.prepare(changed, split, None, ()))

    def test_that_are_quick_to_compute_are_not_kept(
        self, teacher: Classifier, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(teacher_outputs, "MACS_WORTH_KEEPING", len(split) * teacher.macs + 1)
        self.prepare(teacher, split, tmp_path, ())
        assert describe(tmp_path).files == 0
