"""Searches: what is tried, what is kept, and that neither depends on when trials end."""

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from kd_cli.commands.grid import Cell
from kd_cli.commands.scores import estimate_scores
from kd_cli.commands.search import ROUND, Search
from kd_cli.commands.trials import DIVERGED, NUMBER, REPEAT, SECONDS, key_of
from kd_cli.commands.tune_config import FINALISTS, REPEATS
from kd_cli.config import KdError
from kd_cli.distillation.methods import FROM_LABELS, LEARNING_RATES, METHODS, MethodConfig
from kd_cli.networks.spec import parse_spec

KD = Cell(parse_spec("mlp-8"), MethodConfig("kd"), 0.001)
TRIALS = 14


def open_search(folder: Path, cell: Cell = KD, trials: int = TRIALS, seed: int = 0) -> Search:
    return Search(cell, folder / "kd.journal", trials, seed, images=1000)


def keep(search: Search, proposal: FrozenTrial, accuracy: float, state: TrialState = TrialState.COMPLETE) -> None:
    """Bring a trial to an end."""
    search.keep(
        create_trial(
            state=state,
            params=proposal.params,
            distributions=proposal.distributions,
            intermediate_values={1: accuracy},
            value=accuracy if state is TrialState.COMPLETE else None,
            user_attrs={**proposal.user_attrs, SECONDS: 1.0},
        )
    )


def finish(search: Search, proposal: FrozenTrial) -> None:
    """Bring a trial to an end, with an accuracy that follows from its setting."""
    accuracy = 0.9 - abs(proposal.params["lr"] - 0.002) - 0.01 * proposal.params.get("temperature", 0)
    keep(search, proposal, accuracy)


def finish_trials(search: Search, accuracies: dict[int, float], otherwise: float = 0.5) -> list[FrozenTrial]:
    """Bring all trials to an end, with these accuracies by number; the repeats that are proposed then."""
    while proposals := search.next_round():
        if proposals[0].user_attrs[REPEAT]:
            break
        for proposal in proposals:
            keep(search, proposal, accuracies.get(proposal.user_attrs[NUMBER], otherwise))
    return proposals


def carry_out(search: Search, shuffle: int | None = None, most: int = 1000) -> None:
    """Bring trials to an end, those of a round in any order."""
    waiting: list[FrozenTrial] = []
    for _ in range(most):
        waiting = waiting or search.next_round()
        if not waiting:
            return
        if shuffle is not None:
            random.Random(shuffle).shuffle(waiting)
        finish(search, waiting.pop(0))


def settings(search: Search) -> list[dict[str, float]]:
    return [trial.params for trial in search.counted]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The settings of a search that was not disturbed."""
    search = open_search(tmp_path_factory.mktemp("whole"))
    carry_out(search)
    return settings(search)


def test_what_is_tried_first_is_the_setting_without_tuning(whole: list[dict[str, float]]) -> None:
    assert whole[0] == {"lr": 0.001, "temperature": 4, "alpha": 0.9}


def test_then_the_teacher_counts_least(whole: list[dict[str, float]]) -> None:
    assert whole[1] == {"lr": 0.001, "temperature": 4, "alpha": 0.01}


def test_a_learning_rate_out_of_range_starts_at_its_end(tmp_path: Path) -> None:
    search = open_search(tmp_path, Cell(KD.student, FROM_LABELS, 1.0))
    assert search.next_round()[0].params == {"lr": LEARNING_RATES.high}


def test_no_setting_is_tried_twice_and_all_are_in_range(whole: list[dict[str, float]]) -> None:
    ranges = {"lr": LEARNING_RATES, **METHODS["kd"].ranges}
    assert len({tuple(setting.values()) for setting in whole}) == TRIALS
    for setting in whole:
        assert all(ranges[name].low <= value <= ranges[name].high for name, value in setting.items())


def test_a_round_is_proposed_when_the_one_before_is_over(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    first = search.next_round()
    assert [trial.user_attrs[NUMBER] for trial in first] == list(range(ROUND))
    for proposal in first:
        assert search.next_round() == []
        finish(search, proposal)
    assert [trial.user_attrs[NUMBER] for trial in search.next_round()] == list(range(ROUND, 2 * ROUND))


def test_a_trial_that_failed_does_not_hold_up_the_next_round(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    failed, *others = search.next_round()
    for proposal in others:
        finish(search, proposal)
    search.failed.add(key_of(failed))
    assert len(search.next_round()) == ROUND
    assert [trial.user_attrs[NUMBER] for trial in open_search(tmp_path).next_round()] == [0]


@pytest.mark.parametrize("shuffle", [1, 2])
def test_the_order_in_which_trials_end_changes_nothing(
    tmp_path: Path, whole: list[dict[str, float]], shuffle: int
) -> None:
    search = open_search(tmp_path)
    carry_out(search, shuffle)
    assert settings(search) == whole


@pytest.mark.parametrize("most", [0, 1, 5, 11, 12, 13, 14, 15, 21])
def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path, whole: list[dict[str, float]], most: int) -> None:
    carry_out(open_search(tmp_path), shuffle=3, most=most)
    again = open_search(tmp_path)
    assert len(again.done) == most
    carry_out(again)
    assert settings(again) == whole
    assert len(open_search(tmp_path).done) == TRIALS + FINALISTS * REPEATS


def test_a_longer_search_begins_with_the_shorter_one(tmp_path: Path, whole: list[dict[str, float]]) -> None:
    carry_out(open_search(tmp_path, trials=6))
    longer = open_search(tmp_path)
    assert settings(longer) == whole[:6]
    carry_out(longer)
    assert settings(longer) == whole


def test_a_shorter_search_does_not_see_the_longer_one(tmp_path: Path, whole: list[dict[str, float]]) -> None:
    carry_out(open_search(tmp_path))
    shorter = open_search(tmp_path, trials=3)
    assert {proposal.user_attrs[NUMBER] for proposal in shorter.next_round()} <= {0, 1, 2}
    assert settings(shorter) == whole[:3]
    assert shorter.best is not None
    assert shorter.best.params in whole[:3]


def test_another_seed_tries_other_settings(tmp_path: Path, whole: list[dict[str, float]]) -> None:
    search = open_search(tmp_path, seed=1)
    carry_out(search)
    assert settings(search)[2:4] != whole[2:4]


def test_every_method_begins_with_the_same_learning_rates(tmp_path: Path, whole: list[dict[str, float]]) -> None:
    search = open_search(tmp_path, Cell(KD.student, FROM_LABELS, 0.001), trials=8)
    carry_out(search)
    assert [setting["lr"] for setting in settings(search)][2:] == [setting["lr"] for setting in whole[2:8]]


def test_the_best_is_the_first_of_equals_and_none_that_was_stopped(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    for proposal, (state, accuracy) in zip(
        search.next_round(),
        [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.9), (TrialState.COMPLETE, 0.7), (TrialState.COMPLETE, 0.7)],
        strict=True,
    ):
        keep(search, proposal, accuracy, state)
    assert search.best is not None
    assert search.best.user_attrs[NUMBER] == 2


class TestFinalists:
    def test_are_the_best_trials_and_the_one_in_which_the_teacher_counts_least(self, tmp_path: Path) -> None:
        repeats = finish_trials(open_search(tmp_path), {1: 0.1, 5: 0.7, 6: 0.6, 9: 0.8, 12: 0.9})
        assert sorted(map(key_of, repeats)) == [(number, repeat) for number in (1, 5, 9, 12) for repeat in (1, 2)]

    def test_of_the_baseline_are_the_best_trials_and_as_many(self, tmp_path: Path) -> None:
        search = open_search(tmp_path, Cell(KD.student, FROM_LABELS, 0.001))
        repeats = finish_trials(search, {1: 0.1, 5: 0.7, 6: 0.6, 9: 0.8, 12: 0.9})
        assert {proposal.user_attrs[NUMBER] for proposal in repeats} == {5, 6, 9, 12}

    def test_have_the_settings_of_their_trials_and_are_not_pruned(self, tmp_path: Path) -> None:
        search = open_search(tmp_path)
        for repeat in finish_trials(search, {}):
            assert repeat.params == search.done[repeat.user_attrs[NUMBER], 0].params
            assert search.rivals_of(repeat) == []

    def test_are_no_more_than_there_are_trials(self, tmp_path: Path) -> None:
        search = open_search(tmp_path, trials=2)
        assert search.missing == 2 + 2 * REPEATS
        assert len(finish_trials(search, {})) == search.missing == 2 * REPEATS

    def test_are_judged_by_their_mean_so_that_one_lucky_seed_does_not_choose(self, tmp_path: Path) -> None:
        search = open_search(tmp_path)
        later = {5: (0.7, 0.72), 9: (0.6, 0.5), 12: (0.5, 0.5)}
        for repeat in finish_trials(search, {5: 0.71, 9: 0.8, 12: 0.9}):
            number, again = key_of(repeat)
            keep(search, repeat, later.get(number, (0.4, 0.4))[again - 1])
        assert search.best is not None
        assert search.best.user_attrs[NUMBER] == 5
        assert search.accuracies_of(search.best) == [0.71, 0.7, 0.72]

    def test_that_diverge_with_a_further_seed_come_after_those_that_do_not(self, tmp_path: Path) -> None:
        search = open_search(tmp_path)
        for repeat in finish_trials(search, {5: 0.7, 9: 0.8}):
            number, again = key_of(repeat)
            diverged = (number, again) == (9, 2)
            keep(search, repeat, 0.7 if number == 5 else 0.9, TrialState.PRUNED if diverged else TrialState.COMPLETE)
        assert search.best is not None
        assert search.best.user_attrs[NUMBER] != 9

    def test_whose_repeats_are_known_are_not_repeated_by_a_longer_search(self, tmp_path: Path) -> None:
        shorter = open_search(tmp_path, trials=6)
        for repeat in finish_trials(shorter, {4: 0.8, 5: 0.7}):
            keep(shorter, repeat, 0.7)
        repeats = finish_trials(open_search(tmp_path), {13: 0.9})
        assert {proposal.user_attrs[NUMBER] for proposal in repeats} == {13}


class TestTheJournal:
    def test_is_optunas(self, tmp_path: Path) -> None:
        carry_out(open_search(tmp_path), most=3)
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "kd.journal"))
        study = optuna.load_study(study_name="kd", storage=optuna.storages.JournalStorage(backend))
        assert [trial.user_attrs[NUMBER] for trial in study.trials] == [0, 1, 2]

    @pytest.mark.parametrize("cut", [1, 20])
    def test_whose_last_line_was_cut_off_has_lost_that_trial_alone(
        self, tmp_path: Path, whole: list[dict[str, float]], cut: int
    ) -> None:
        carry_out(open_search(tmp_path), most=7)
        path = tmp_path / "kd.journal"
        path.write_bytes(path.read_bytes()[:-cut])
        search = open_search(tmp_path)
        assert sorted(search.done) == [(number, 0) for number in range(6)]
        carry_out(search)
        assert settings(open_search(tmp_path)) == whole

    @pytest.mark.parametrize("content", ["junk\n", "{}\n", "[]\n", '{"op_code": 99}\n', "\x00\n", '"a"\n', "1\n"])
    def test_that_is_damaged_is_refused_in_one_line(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "kd.journal").write_text(content)
        with pytest.raises(KdError, match=r"kd\.journal is damaged: remove it, or use --fresh"):
            open_search(tmp_path)

    def test_that_is_a_folder_is_refused_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "kd.journal").mkdir()
        with pytest.raises(KdError, match=r"kd\.journal"):
            open_search(tmp_path)


class TestScores:
    @staticmethod
    def trial(*accuracies: float, complete: bool = True, **attributes: str) -> FrozenTrial:
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            value=accuracies[-1] if complete else None,
            intermediate_values=dict(enumerate(accuracies, start=1)),
            user_attrs=attributes,
        )

    def test_half_the_errors_are_equally_much_better_everywhere(self) -> None:
        scores = estimate_scores([self.trial(accuracy) for accuracy in (0.6, 0.8, 0.98, 0.99)], images=1000)
        assert scores[1] - scores[0] == pytest.approx(scores[3] - scores[2])

    def test_a_perfect_accuracy_has_one(self) -> None:
        best, other = estimate_scores([self.trial(1.0), self.trial(0.999)], images=1000)
        assert best > other

    def test_a_trial_that_was_stopped_gets_what_others_gained(self) -> None:
        # Those that went on have a quarter, and the half, of the errors in the end.
        went_on = [self.trial(0.6, 0.9), self.trial(0.8, 0.9)]
        (*_, score) = estimate_scores([*went_on, self.trial(0.6, complete=False)], images=1000)
        (alike,) = estimate_scores([self.trial(1 - 0.4 / 8**0.5)], images=1000)
        assert score == pytest.approx(alike)

    def test_a_trial_that_diverged_is_as_bad_as_can_be(self) -> None:
        diverged = self.trial(0.9, complete=False, **{DIVERGED: "the loss became inf"})
        scores = estimate_scores([self.trial(0.1, 0.1), diverged], images=1000)
        assert scores[1] < scores[0]
