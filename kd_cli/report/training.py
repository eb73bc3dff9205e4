"""A training run, or an ensemble's, as Rich tables and as a plot."""

from typing import TYPE_CHECKING

from rich.console import Console

from kd_cli.commands.results import EnsembleResult, TrainingResult
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import counted, describe_method, new_table, open_console, print_line, print_table

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


def print_training(result: TrainingResult) -> None:
    """A run epoch by epoch, and the file that it wrote; each run of an ensemble, and what they achieve together."""
    console = open_console()
    for member in members_of(result):
        _print_run(console, member)
    if isinstance(result, EnsembleResult):
        print_line(console, f"Ensemble of {result.ensemble}, with averaged probabilities. {_score(result)}")


def _print_run(console: Console, result: TrainingResult) -> None:
    columns = ("Epoch", "Training loss", f"{result.history_of.capitalize()} accuracy", "Seconds")
    table = new_table(training_title(result), f"{result.device_name}, {describe_run(result)}", *columns, left=0)
    for epoch in result.history:
        table.add_row(str(epoch.epoch), f"{epoch.loss:.4f}", f"{epoch.accuracy:.2%}", f"{epoch.seconds:.1f}")
    print_table(console, table)
    if result.kept_epoch:
        print_line(console, f"Kept epoch {result.kept_epoch}, the best on the validation images.")
    print_line(console, _score(result))
    for teacher in result.teachers:
        print_line(console, f"Teacher: {teacher}")
    if result.teacher_outputs:
        print_line(console, f"Teacher outputs: {result.teacher_outputs}")
    print_line(console, f"Saved to {result.checkpoint}")


def draw_training(result: TrainingResult) -> "Figure":
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
    images = f"{result.test_images:,} images" if result.history_of == "test" else "images set aside"
    accuracy.set_ylabel(f"{result.history_of.capitalize()} accuracy (%)\nof {images}")
    for axes in (loss, accuracy):
        axes.set_xlabel("Epoch (passes over the training images)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    if len(members) > 1:
        figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure


def _score(result: TrainingResult) -> str:
    return f"{accuracy_in_words(result)} after {result.train_seconds:.1f} s."


def members_of(result: TrainingResult) -> tuple[TrainingResult, ...]:
    """The runs of an ensemble, or the only one."""
    return result.members if isinstance(result, EnsembleResult) else (result,)


def training_title(result: TrainingResult) -> str:
    """Which network was trained, on which data, with which method."""
    method = describe_method(result.method, result.method_options)
    return f"{result.role.capitalize()} {result.architecture} on {result.dataset}, trained with {method}"


def describe_run(result: TrainingResult) -> str:
    """What tells a run from others with the same title: its seed, and what is not the default."""
    if isinstance(result, EnsembleResult):
        return f"ensemble of {result.ensemble}, seeds from {result.seed}"
    parts = [f"seed {result.seed}"]
    if len(result.teachers) > 1:
        parts.append(f"{len(result.teachers)} teachers averaged")
    fraction = result.options.get("train_fraction", 1)
    if fraction < 1:
        parts.append(f"{100 * fraction:.3g} % of the labels")
    for option, words in (("omit_class", "no image of {}"), ("only_classes", "images of {} alone")):
        if names := result.options.get(option):
            parts.append(words.format(", ".join(names)))
    return ", ".join(parts)


def accuracy_in_words(result: TrainingResult) -> str:
    """The accuracy on the test set, and the errors that it stands for."""
    errors, images = counted(result.error_count, "error"), counted(result.test_images, "image")
    return f"Test accuracy {result.accuracy:.2%} ({errors} in {images})"
