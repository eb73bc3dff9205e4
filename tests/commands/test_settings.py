"""Files of tuned settings: what was chosen comes back, and nothing else is taken for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from kd_cli.commands.compare import compare
from kd_cli.commands.grid import Cell, ComparisonConfig, make_grid
from kd_cli.commands.settings import Setting, TunedSettings, read_settings, write_settings
from kd_cli.config import ConfigError, DataConfig, KdError, RunConfig
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.options import make_config

MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-4")
LABELS = Setting(FROM_LABELS, 0.002)
SETTINGS = (
    Setting(MethodConfig("kd", temperature=2.5, alpha=0.25), 0.00123),
    LABELS,
    Setting(MethodConfig("sp", student_layer="fc1"), 0.01),
)


def settings_of(folder: Path, student: Spec = MLP, **changes: Any) -> TunedSettings:
    fields: dict[str, Any] = {"dataset": "digits", "epochs": 3, "settings": SETTINGS} | changes
    return TunedSettings(folder / f"{str(student).replace('/', '_')}.json", student=student, **fields)


def test_come_back_as_they_were(tmp_path: Path) -> None:
    tuned = settings_of(tmp_path)
    write_settings(tuned)
    assert read_settings(str(tuned.path)) == tuned


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": None},
        {"rows": []},
        {"rows": [{"method": "kd", "options": {"lr": 0.1}}]},
        {"rows": [{"method": "labels", "options": {}}]},
        {"rows": [{"method": "labels", "options": {"lr": "fast"}}]},
        {"rows": [{"method": "labels", "options": {"lr": -1}}]},
        {"rows": [{"method": "labels", "options": {"lr": 0.1, "alpha": 1}}]},
        {"rows": [{"method": "nonsense", "options": {"lr": 0.1}}]},
        {"rows": [{"method": [], "options": {"lr": 0.1}}]},
        {"rows": ["labels"]},
        {"student": "nonsense"},
        {"student": 3},
        {"epochs": "many"},
    ],
    ids=str,
)
def test_that_cannot_be_used_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    tuned = settings_of(tmp_path)
    write_settings(tuned)
    tuned.path.write_text(json.dumps(json.loads(tuned.path.read_text()) | changes))
    with pytest.raises(KdError) as refusal:
        read_settings(str(tuned.path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"junk", b"\xff", b"[" * 100_000])
def test_are_not_read_from_anything_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(KdError, match="file holds no settings that kd tune wrote"):
        read_settings(str(tmp_path / "file"))


class TestComparisons:
    def test_take_students_methods_options_and_learning_rates(self, tmp_path: Path) -> None:
        first, second = settings_of(tmp_path), settings_of(tmp_path, CNN, settings=SETTINGS[:2])
        write_settings(first)
        write_settings(second)
        config = make_config(ComparisonConfig, {"from_study": f"{first.path},{second.path}"})
        assert isinstance(config, ComparisonConfig)
        kd, sp = SETTINGS[0], SETTINGS[2]
        assert make_grid(config).cells == (
            Cell(MLP, FROM_LABELS, 0.002),
            Cell(MLP, kd.method, kd.lr),
            Cell(MLP, sp.method, sp.lr),
            Cell(CNN, FROM_LABELS, 0.002),
            Cell(CNN, kd.method, kd.lr),
        )

    @pytest.mark.parametrize(
        "more", [{"methods": ("dkd",)}, {"students": (CNN,)}, {"temperatures": (2.0,)}, {"student_layer": "fc1"}]
    )
    def test_do_not_take_some_of_them_from_elsewhere(self, tmp_path: Path, more: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="--from-study says what to compare: leave --"):
            ComparisonConfig(from_study=(settings_of(tmp_path),), **more)

    def test_do_not_take_a_student_from_two_studies(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="several files have settings for mlp-8"):
            ComparisonConfig(from_study=(settings_of(tmp_path), settings_of(tmp_path)))

    def test_need_more_than_the_baseline(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="nothing to compare with the baseline"):
            ComparisonConfig(from_study=(settings_of(tmp_path, settings=(LABELS,)),))

    def test_run_no_code_that_a_file_names(self, tmp_path: Path, data: DataConfig, run: RunConfig) -> None:
        (tmp_path / "nets.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')")
        tuned = settings_of(tmp_path, parse_spec(f"{tmp_path}/nets.py:small"))
        with pytest.raises(KdError, match="if you trust it, add --trust"):
            compare(ComparisonConfig(from_study=(tuned,), results_dir=tmp_path), data=data, run=run)
        assert not (tmp_path / "proof").exists()
