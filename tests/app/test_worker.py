"""What a worker tells of a training run."""

import pytest
import torch
from torch import nn

from kd_cli.app.events import Began, Evaluated, Event, Progressed
from kd_cli.app.worker import Reporter, Server
from kd_cli.config import TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.spec import parse_spec
from kd_cli.training.callbacks import History
from kd_cli.training.loop import REFRESH, Training, fit
from kd_cli.training.objective import label_objective


class Recorder(Server):
    """A server in the same process."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.heard: list[Event] = []
        self.stop_after = stop_after
        self.wants_stop = False

    def tell(self, event: Event) -> None:
        self.heard.append(event)
        epochs = sum(isinstance(each, Evaluated) for each in self.heard)
        self.wants_stop = epochs == self.stop_after  # known before the epoch's end is handled


def train(dataset: Dataset, server: Recorder, **options: int) -> Training:
    config = TrainingConfig(**options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = build_classifier(parse_spec("mlp-8"), dataset.info)
    batches = BatchSource(dataset.train, config.batch_size, config.seed, config.augment)
    training = Training(network, label_objective, batches, config)

    def test(network: nn.Module) -> tuple[float, int]:
        return measure_accuracy(compute_logits(network.eval(), dataset.test.images), dataset.test.labels)

    fit(training, [History(test), Reporter(server)])
    return training


def test_a_run_tells_its_length_its_progress_and_its_tests(tiny: Dataset) -> None:
    server = Recorder()
    training = train(tiny, server, epochs=2, batch_size=4)  # 150 steps in an epoch
    kinds = [type(event) for event in server.heard]
    assert kinds == [Began, *2 * [*3 * [Progressed], Evaluated]]
    assert server.heard[0] == Began(300)
    steps = [event.step for event in server.heard if isinstance(event, Progressed)]
    assert steps == [REFRESH * i for i in range(1, 7)]
    last = server.heard[-1]
    accuracy, _ = measure_accuracy(compute_logits(training.network.eval(), tiny.test.images), tiny.test.labels)
    assert last == Evaluated(300, accuracy)


def test_epochs_of_few_steps_are_told_as_a_whole(tiny: Dataset) -> None:
    server = Recorder()
    train(tiny, server, epochs=2, batch_size=100)
    assert [event.step for event in server.heard if isinstance(event, Progressed)] == [6, 12]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_run_stops_after_the_epoch_in_which_the_server_wants_it(tiny: Dataset, stop_after: int) -> None:
    training = train(tiny, Recorder(stop_after), epochs=5, batch_size=100)
    assert training.epochs_done == stop_after
