"""A training run as a plot."""

from typing import TYPE_CHECKING

from kd_cli.commands.results import EnsembleResult, TrainingResult
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.training import describe_run, members_of, training_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSSES = {
    "labels": "cross-entropy (nats)",
    "kl": "KL from the teacher (nats)",
    "kd": "alpha T² KL + (1 - alpha) CE (nats)",
}
"""The losses that have a unit, by method."""

MARKED_EPOCHS = 15
"""About as many epochs of a line have a marker."""


def draw_training(result: TrainingResult | EnsembleResult) -> "Figure":
    """Training loss and test accuracy, epoch by epoch; of an ensemble, a line for each member."""
    from matplotlib.ticker import MaxNLocator

    members = members_of(result)
    figure = new_figure(9, 4, f"{training_title(result)}\n{result.device_name}, {describe_run(result)}")
    loss, accuracy = figure.subplots(1, 2)
    for number, member in enumerate(members):
        epochs = [epoch.epoch for epoch in member.history]
        style = line_style(number) | {"markevery": max(1, len(epochs) // MARKED_EPOCHS)}
        loss.plot(epochs, [epoch.loss for epoch in member.history], label=f"seed {member.seed}", **style)
        accuracy.plot(epochs, [100 * epoch.accuracy for epoch in member.history], **style)
    loss.set_ylabel(f"Training loss:\n{LOSSES.get(result.method, f'that of {result.method} (no unit)')}")
    accuracy.set_ylabel(f"Test accuracy (%)\nof {result.test_images:,} images")
    for axes in (loss, accuracy):
        axes.set_xlabel("Epoch (passes over the training images)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    if len(members) > 1:
        figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure
