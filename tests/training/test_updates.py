"""Updates: gradients of several batches, scaled ones, and the average of the weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kd_cli.config import OptimiserName, Schedule, TrainingConfig, TrainingPrecision
from kd_cli.data.dataset import Dataset
from kd_cli.training.loop import Callback, Training, fit
from tests.training.test_loop import start, train, weights

CONFIG = TrainingConfig(epochs=2, batch_size=64, schedule=Schedule.constant)


class Watch(Callback):
    """Keeps the weights, and the learning rate of the latest update, after each step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.rates: list[float] = []

    def on_step_end(self, training: Training) -> None:
        self.weights.append(weights(training.network))
        self.rates.append(training.learning_rate)


@pytest.mark.parametrize("batch_size", [64, 100, 250])
def test_gradients_of_two_batches_make_the_update_of_one_that_is_twice_as_large(tiny: Dataset, batch_size: int) -> None:
    """Although an epoch's last group of 600 images has one batch, batches of two sizes, or a smaller one."""
    config = replace(CONFIG, optimiser=OptimiserName.sgd, lr=0.01)
    halves = train(tiny, replace(config, batch_size=batch_size // 2, accumulate=2))
    torch.testing.assert_close(halves, train(tiny, replace(config, batch_size=batch_size)))
    assert not torch.allclose(halves, train(tiny, replace(config, batch_size=batch_size // 2)))


def test_weights_move_after_the_last_batch_of_a_group_and_of_an_epoch(tiny: Dataset) -> None:
    training, watch = start(tiny, replace(CONFIG, accumulate=4)), Watch()
    before = weights(training.network)
    fit(training, [watch])
    moved = [not torch.equal(now, then) for then, now in zip([before, *watch.weights], watch.weights, strict=False)]
    epoch = [False, False, False, True] * 2 + [False, True]  # of 10 batches
    assert moved == epoch * 2


def test_learning_rate_moves_from_update_to_update(tiny: Dataset) -> None:
    watch, larger = Watch(), Watch()
    config = replace(CONFIG, schedule=Schedule.one_cycle)
    fit(start(tiny, replace(config, batch_size=30, accumulate=2)), [watch])
    fit(start(tiny, replace(config, batch_size=60)), [larger])
    assert watch.rates[::2] == watch.rates[1::2] == larger.rates


def test_the_result_of_a_run_is_its_network_unless_weights_are_averaged(tiny: Dataset) -> None:
    training = start(tiny)
    assert training.result is training.network


def test_running_average_follows_the_weights_at_each_update(tiny: Dataset) -> None:
    training, watch = start(tiny, replace(CONFIG, ema=0.9, accumulate=2)), Watch()
    fit(training, [watch])
    average, *later = watch.weights[1::2]
    for current in later:
        average = 0.9 * average + 0.1 * current
    torch.testing.assert_close(weights(training.result), average)
    assert not torch.allclose(weights(training.result), weights(training.network))


def test_running_average_is_the_best_epochs_own(tiny: Dataset) -> None:
    class Note(Callback):
        def on_epoch_end(self, training: Training, epoch: object) -> None:
            if training.epochs_done == 1:
                training.note_best()
                self.noted = weights(training.result)

    training, note = start(tiny, replace(CONFIG, ema=0.9)), Note()
    fit(training, [note])
    assert not torch.equal(weights(training.result), note.noted)
    training.use_best()
    assert torch.equal(weights(training.result), note.noted)


def test_gradients_that_overflow_in_16_bits_move_nothing_and_the_next_ones_are_scaled_less(tiny: Dataset) -> None:
    training, watch = start(tiny, replace(CONFIG, precision=TrainingPrecision.fp16)), Watch()
    scaler = training.updates.scaler
    assert scaler is not None
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**24})
    before = weights(training.network)
    training.run_epoch([watch])
    assert torch.equal(watch.weights[0], before)
    assert not torch.equal(watch.weights[-1], before)
    assert scaler.get_scale() < 2.0**24


def test_scaled_gradients_train_as_plain_ones_do(tiny: Dataset) -> None:
    config = replace(CONFIG, optimiser=OptimiserName.sgd, lr=0.01)
    before = weights(start(tiny, config).network)
    plain, fp16 = (
        train(tiny, replace(config, precision=each)) - before for each in TrainingPrecision if each != "bf16"
    )
    torch.testing.assert_close(fp16, plain, rtol=0, atol=0.02 * plain.abs().max().item())


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, optimiser=OptimiserName.sgd, accumulate=3, ema=0.9),
        replace(CONFIG, optimiser=OptimiserName.adamw, weight_decay=0.1, precision=TrainingPrecision.bf16),
        replace(CONFIG, precision=TrainingPrecision.fp16, schedule=Schedule.one_cycle),
    ],
)
def test_run_goes_on_from_its_state_as_if_it_had_never_stopped(tiny: Dataset, config: TrainingConfig) -> None:
    config = replace(config, epochs=3)
    unbroken, resumed = start(tiny, config), start(tiny, replace(config, seed=1))
    if unbroken.updates.scaler is not None:  # so that its state matters
        unbroken.updates.scaler.load_state_dict(unbroken.updates.scaler.state_dict() | {"scale": 2.0**24})
    unbroken.run_epoch()
    resumed.config = resumed.updates.config = config
    resumed.load_state_dict(unbroken.state_dict())
    for each in (unbroken, resumed):
        fit(each)
    assert torch.equal(weights(unbroken.network), weights(resumed.network))
    assert torch.equal(weights(unbroken.result), weights(resumed.result))
    assert unbroken.updates.state_dict()["scaler"] == resumed.updates.state_dict()["scaler"]


@pytest.mark.parametrize("ema", [None, 0.5])
def test_weights_are_constrained_after_every_update(tiny: Dataset, ema: float | None) -> None:
    training = start(tiny, replace(CONFIG, epochs=1, lr=0.1, ema=ema), "mlp-16:max-norm=0.5")
    training.run_epoch()
    norms = training.network.get_parameter("network.fc1.weight").norm(dim=1)
    assert norms.max() <= 0.5 + 1e-5
    assert training.result.get_parameter("network.fc1.weight").norm(dim=1).max() <= 0.5 + 1e-5
    assert training.network.get_parameter("network.fc2.weight").norm(dim=1).max() > 0.5
