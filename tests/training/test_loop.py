"""The training loop: what it computes, in which order, and when it stops."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.config import Schedule, TrainingConfig
from kd_cli.data.batches import Batch, BatchSource
from kd_cli.data.dataset import Dataset, Split, to_pixels
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.spec import parse_spec
from kd_cli.training.device import make_repeatable
from kd_cli.training.loop import REFRESH, Callback, DivergedError, Epoch, Training, fit
from kd_cli.training.objective import Objective, Step, label_objective
from kd_cli.training.tally import Progress

CONFIG = TrainingConfig(epochs=2)


def start(
    dataset: Dataset, config: TrainingConfig = CONFIG, spec: str = "mlp-16", objective: Objective = label_objective
) -> Training:
    make_repeatable()
    torch.manual_seed(config.seed)
    network = build_classifier(parse_spec(spec), dataset.info)
    batches = BatchSource(dataset.train, config.batch_size, config.seed, config.augment)
    return Training(network, objective, batches, config)


def train(dataset: Dataset, config: TrainingConfig = CONFIG, spec: str = "mlp-16") -> Tensor:
    """The weights in the end."""
    training = start(dataset, config, spec)
    fit(training)
    return weights(training.network)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


class Recorder(Callback):
    """Writes down each call: its name, the steps done by then, and what came with it."""

    def __init__(self, calls: list[tuple[object, ...]] | None = None) -> None:
        self.calls = [] if calls is None else calls

    def on_fit_begin(self, training: Training) -> None:
        self.calls.append(("fit begins", training.steps_done))

    def on_epoch_begin(self, training: Training) -> None:
        self.calls.append(("epoch begins", training.steps_done))

    def on_step_end(self, training: Training) -> None:
        self.calls.append(("step", training.steps_done))

    def on_progress(self, training: Training, progress: Progress) -> None:
        self.calls.append(("progress", training.steps_done))

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        self.calls.append(("epoch ends", training.steps_done, epoch.number))

    def on_fit_end(self, training: Training) -> None:
        self.calls.append(("fit ends", training.steps_done))


@pytest.mark.parametrize("spec", ["mlp-16", "cnn-4"])
@pytest.mark.parametrize("augment", [(), ("shift",), ("warp",)], ids=",".join)
def test_same_seed_gives_the_same_weights_to_the_bit(tiny: Dataset, spec: str, augment: tuple[str, ...]) -> None:
    config = replace(CONFIG, augment=augment)
    assert torch.equal(train(tiny, config, spec), train(tiny, config, spec))


def test_random_numbers_drawn_elsewhere_do_not_change_the_run(tiny: Dataset) -> None:
    class Drawing(Callback):
        def on_step_end(self, training: Training) -> None:
            torch.rand(7)

    training = start(tiny)
    fit(training, [Drawing()])
    assert torch.equal(weights(training.network), train(tiny))


def test_another_seed_gives_other_weights(tiny: Dataset) -> None:
    training, other = start(tiny), start(tiny)
    other.batches = BatchSource(tiny.train, CONFIG.batch_size, seed=1)  # the same network at first
    for each in (training, other):
        fit(each)
    assert not torch.equal(weights(training.network), weights(other.network))


@pytest.mark.parametrize("spec", ["mlp-16", "cnn-4"])
def test_network_learns(tiny: Dataset, spec: str) -> None:
    training = start(tiny, TrainingConfig(epochs=5, lr=0.003), spec)
    fit(training)
    accuracy, _ = measure_accuracy(compute_logits(training.network, tiny.test.images), tiny.test.labels)
    assert accuracy > 0.95


def test_two_epochs_on_3000_images_of_mnist_predict_most_of_the_test_set(mnist: Dataset, mnist_slice: Split) -> None:
    training = start(replace(mnist, train=mnist_slice), CONFIG, "mlp-128")
    fit(training)
    accuracy, _ = measure_accuracy(compute_logits(training.network, mnist.test.images), mnist.test.labels)
    assert accuracy > 0.88


def test_epoch_reports_the_mean_loss_and_accuracy_of_its_batches(tiny: Dataset) -> None:
    training = start(tiny, replace(CONFIG, lr=1e-12, schedule=Schedule.constant, batch_size=70))
    logits = compute_logits(training.network, tiny.train.images)
    epoch = training.run_epoch()
    assert epoch.loss == pytest.approx(F.cross_entropy(logits, tiny.train.labels).item(), rel=1e-4)
    assert epoch.accuracy == pytest.approx(measure_accuracy(logits, tiny.train.labels)[0], abs=1e-3)


def test_first_loss_is_that_of_the_first_step_whatever_comes_later(tiny: Dataset) -> None:
    training = start(tiny, replace(CONFIG, batch_size=4))
    rows = next(BatchSource(tiny.train, 4, CONFIG.seed).epoch()).index
    logits = compute_logits(training.network, tiny.train.images[rows])
    expected = F.cross_entropy(logits, tiny.train.labels[rows]).item()
    fit(training)
    assert training.first_loss == pytest.approx(expected)
    resumed = start(tiny)
    resumed.load_state_dict(training.state_dict())
    assert resumed.first_loss == training.first_loss


def test_progress_is_the_mean_over_the_steps_since_the_last_one(tiny: Dataset) -> None:
    seen: list[Progress] = []

    class Watch(Callback):
        def on_progress(self, training: Training, progress: Progress) -> None:
            seen.append(progress)

    config = replace(CONFIG, lr=1e-12, schedule=Schedule.constant, batch_size=4)
    training = start(tiny, config)
    logits = compute_logits(training.network, tiny.train.images)
    losses = F.cross_entropy(logits, tiny.train.labels, reduction="none")
    order = torch.cat([batch.index for batch in BatchSource(tiny.train, 4, config.seed).epoch()])
    training.run_epoch([Watch()])
    expected = [losses[rows].mean().item() for rows in order.split(4 * REFRESH)]
    assert [progress.loss for progress in seen] == pytest.approx(expected, rel=1e-3)


def test_run_moves_on_by_as_many_steps_as_it_has_batches(tiny: Dataset) -> None:
    recorder, training = Recorder(), start(tiny)
    fit(training, [recorder])
    steps = [call[1] for call in recorder.calls if call[0] == "step"]
    assert steps == [*range(1, 11), *range(11, 21)]  # 600 / 64, rounded up
    assert training.total_steps == training.steps_done == 20


def test_a_batch_larger_than_the_data_set_is_the_whole_data_set(tiny: Dataset) -> None:
    assert start(tiny, replace(CONFIG, batch_size=10**6)).total_steps == CONFIG.epochs


def test_each_callback_is_called_at_each_point_in_the_order_given(tiny: Dataset) -> None:
    calls: list[tuple[object, ...]] = []
    training = start(tiny, replace(CONFIG, batch_size=10))  # 60 steps an epoch
    fit(training, [Recorder(calls), Recorder(calls)])
    assert calls[::2] == calls[1::2]
    steps = [("step", number) for number in range(1, 121)]
    assert calls[::2] == [
        ("fit begins", 0),
        ("epoch begins", 0),
        *steps[:REFRESH],
        ("progress", 50),
        *steps[REFRESH:60],
        ("epoch ends", 60, 1),
        ("epoch begins", 60),
        *steps[60 : 60 + REFRESH],
        ("progress", 110),
        *steps[60 + REFRESH :],
        ("epoch ends", 120, 2),
        ("fit ends", 120),
    ]


def test_run_that_is_asked_to_stop_ends_after_the_epoch(tiny: Dataset) -> None:
    class Stop(Recorder):
        def on_step_end(self, training: Training) -> None:
            training.stop_requested = True

    training, recorder = start(tiny, replace(CONFIG, epochs=5)), Stop()
    fit(training, [recorder])
    assert (training.epochs_done, training.steps_done) == (1, 10)
    assert [name for name, *_ in recorder.calls] == ["fit begins", "epoch begins", "epoch ends", "fit ends"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("point", ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_epoch_end"])
def test_run_is_over_for_every_callback_whatever_happens(
    tiny: Dataset, error: type[BaseException], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, recorder = Callback(), Recorder()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(failing, point, fail)
    with pytest.raises(error):
        fit(start(tiny), [recorder, failing])
    assert recorder.calls[-1][0] == "fit ends"


def diverge_at(step: int, value: float) -> Objective:
    """The objective of labels, but for the loss of one step of the run."""
    done = 0

    def objective(network: nn.Module, batch: Batch) -> Step:
        nonlocal done
        done += 1
        usual = label_objective(network, batch)
        return usual if done != step else Step(usual.logits, usual.loss * value, {})

    return objective


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("step", "named"),
    [(1, "epoch 1, step 1"), (60, "epoch 1, step 60"), (61, "epoch 2, step 1"), (115, "epoch 2, step 55")],
)
def test_divergence_stops_the_run_and_names_epoch_and_step(tiny: Dataset, value: float, step: int, named: str) -> None:
    recorder = Recorder()
    training = start(tiny, replace(CONFIG, batch_size=10), objective=diverge_at(step, value))
    with pytest.raises(DivergedError, match=f"{named}$"):
        fit(training, [recorder])
    assert training.epochs_done == (step - 1) // 60
    assert recorder.calls[-1][0] == "fit ends"


def test_finished_run_does_nothing_more(tiny: Dataset) -> None:
    training, recorder = start(tiny), Recorder()
    fit(training)
    before = weights(training.network)
    fit(training, [recorder])
    assert torch.equal(weights(training.network), before)
    assert [name for name, *_ in recorder.calls] == ["fit begins", "fit ends"]


class WithLayer(nn.Module):
    """An objective with a layer of its own, between the network and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10)

    def forward(self, network: nn.Module, batch: Batch) -> Step:
        logits = self.layer(network(batch.images))
        loss = F.cross_entropy(logits, batch.labels)
        return Step(logits, loss, {"labels": loss})


def test_layers_of_the_objective_learn_with_the_network(tiny: Dataset) -> None:
    objective = WithLayer()
    before = weights(objective)
    training = start(tiny, objective=objective)
    network_before = weights(training.network)
    fit(training)
    assert not torch.equal(weights(objective), before)
    assert not torch.equal(weights(training.network), network_before)


@pytest.mark.parametrize("make_objective", [lambda: label_objective, WithLayer], ids=["function", "with layers"])
@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("augment", [(), ("shift",), ("warp",)], ids=",".join)
def test_run_goes_on_from_its_state_as_if_it_had_never_stopped(
    tiny: Dataset, make_objective: Callable[[], Objective], schedule: Schedule, augment: tuple[str, ...]
) -> None:
    config = replace(CONFIG, epochs=3, schedule=schedule, augment=augment)
    torch.manual_seed(9)
    unbroken = start(tiny, config, objective=make_objective())
    unbroken.run_epoch()
    resumed = start(tiny, config, objective=make_objective())
    with torch.no_grad():
        for parameter in resumed.network.parameters():
            parameter.zero_()
    resumed.load_state_dict(unbroken.state_dict())
    for each in (unbroken, resumed):
        fit(each)
    assert torch.equal(weights(unbroken.network), weights(resumed.network))


def test_images_reach_the_network_as_pixels_in_training_mode(tiny: Dataset) -> None:
    seen: list[tuple[bool, float]] = []

    def objective(network: nn.Module, batch: Batch) -> Step:
        seen.append((network.training, batch.images.max().item()))
        return label_objective(network, batch)

    training = start(tiny, objective=objective)
    training.network.eval()
    fit(training)
    assert all(mode for mode, _ in seen)
    assert max(value for _, value in seen) == to_pixels(tiny.train.images).max()


def test_a_run_that_is_interrupted_leaves_no_thread_behind(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a split that may not fit into memory, the next images are looked up by a thread."""
    monkeypatch.setattr("kd_cli.data.batches.PREFETCH_BYTES", 0)
    before = threading.active_count()

    class Interrupt(Callback):
        def on_step_end(self, training: Training) -> None:
            assert threading.active_count() == before + 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:  # whose traceback keeps the loop's variables
        start(tiny, CONFIG).run_epoch([Interrupt()])
    assert threading.active_count() == before
    assert caught.tb is not None
