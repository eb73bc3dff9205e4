"""The quality of networks as Rich tables."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from kd_cli.commands.results import EvaluatedModel, EvaluationResult
from kd_cli.config import ECE_BINS
from kd_cli.evaluation.quality import Opinion
from kd_cli.report.tables import (
    counted,
    new_table,
    number_roles,
    open_console,
    plain,
    print_checkpoints,
    print_line,
    print_table,
    side_by_side,
)

MOST_CLASSES = 20
"""Of a confusion matrix that can be read. Of more classes, the pairs that are confused most often are shown."""

MOST_PAIRS = 20


def print_evaluation(result: EvaluationResult, details: bool = False, confusion: bool = False) -> None:
    """Quality of the networks, side by side.

    Args:
        result: of ``kd evaluate``.
        details: also how far their confidence can be trusted, and where they disagree.
        confusion: also which classes are predicted as which.
    """
    console = open_console()
    rows: list[tuple[str, Callable[[EvaluatedModel], str]]] = [
        ("Architecture", lambda model: model.architecture),
        ("Trained with", lambda model: model.method),
        ("Accuracy", lambda model: f"{model.accuracy:.2%}"),
        ("Errors", lambda model: f"{model.error_count:,}"),
        ("NLL (nats)", lambda model: f"{model.nll:.4f}"),
        (f"ECE ({ECE_BINS} bins)", lambda model: f"{model.ece:.4f}"),
        ("Agreement with teacher", lambda model: _percent(model.agreement)),
        ("Weakest class", lambda model: _weakest_class(model, result.classes)),
        ("Parameters", lambda model: f"{model.parameters:,}"),
    ]
    print_table(console, side_by_side(evaluation_title(result), result, result.models, rows))
    print_line(console, "Parameters are not cost: kd benchmark counts multiply-accumulates (MACs) and measures time.")
    print_checkpoints(console, result.models)
    if details:
        _print_details(console, result)
    if confusion:
        for role, model in zip(number_roles(result.models), result.models, strict=True):
            show = _confusion if len(result.classes) <= MOST_CLASSES else _confused_pairs
            print_table(console, show(role, model, result.classes))
    if not (details or confusion):
        print_line(console, "More: --details (by class, by confidence, disagreements) and --confusion.")


def _print_details(console: Console, result: EvaluationResult) -> None:
    print_table(console, _per_class(result))
    print_table(console, _calibration(result))
    for role, model in zip(number_roles(result.models), result.models, strict=True):
        if model.disagreements:
            print_table(console, _disagreements(role, model, result.classes))


def evaluation_title(result: EvaluationResult) -> str:
    """What was evaluated, and on how many images."""
    return f"Quality on {result.dataset}: {result.test_images:,} test images"


def _per_class(result: EvaluationResult) -> Table:
    table = _table_of_models(result, "Accuracy by class", "Class")
    for i, name in enumerate(result.classes):
        table.add_row(plain(name), *(_percent(model.per_class_accuracy[i]) for model in result.models))
    return table


def _calibration(result: EvaluationResult) -> Table:
    """The bins of confidence in which any network has images."""
    table = _table_of_models(result, "Accuracy by confidence", "Confidence", "calibrated: as accurate as confident")
    for bins in zip(*(model.calibration for model in result.models), strict=True):
        if any(each.count for each in bins):
            cells = (f"{each.accuracy:.1%} of {each.count:,}" if each.count else "-" for each in bins)
            table.add_row(f"{bins[0].low:.0%} to {bins[0].high:.0%}", *cells)
    return table


def _table_of_models(result: EvaluationResult, title: str, first: str, caption: str | None = None) -> Table:
    table = new_table(title, caption)
    table.add_column(first)
    for role in number_roles(result.models):
        table.add_column(role, justify="right", no_wrap=True)
    return table


def _confusion(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    table = new_table(f"{role}: confusion", "rows: labels; columns: predictions")
    table.add_column("")
    for name in classes:
        table.add_column(plain(name), justify="right", no_wrap=True)
    for i, (name, row) in enumerate(zip(classes, model.confusion, strict=True)):
        cells = (f"[dim]{n:,}[/]" if i == j else f"{n:,}" if n else "" for j, n in enumerate(row))
        table.add_row(plain(name), *cells)
    return table


def _confused_pairs(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    pairs = [
        (count, plain(classes[i]), plain(classes[j]), count / sum(row))
        for i, row in enumerate(model.confusion)
        for j, count in enumerate(row)
        if count and i != j
    ]
    shown = sorted(pairs, key=lambda pair: -pair[0])[:MOST_PAIRS]
    table = new_table(f"{role}: classes confused most often", f"{len(shown)} of {counted(len(pairs), 'pair')}")
    for column in ("Label", "Predicted as", "Images", "Of the label"):
        table.add_column(column, justify="right" if column in ("Images", "Of the label") else "left")
    for count, label, predicted, share in shown:
        table.add_row(label, predicted, f"{count:,}", f"{share:.1%}")
    return table


def _disagreements(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    table = new_table(f"Largest disagreements of {role.lower()} and teacher", "KL(teacher || student) in nats")
    for column in ("Test image", "Label", "Teacher", "Student", "KL"):
        table.add_column(column, justify="right", no_wrap=True)

    def show(opinion: Opinion) -> str:
        return plain(f"{classes[opinion.class_index]}  {opinion.confidence:6.1%}")

    for each in model.disagreements or ():
        label = plain(classes[each.label])
        table.add_row(str(each.index), label, show(each.teacher), show(each.student), f"{each.divergence:.2f}")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _weakest_class(model: EvaluatedModel, classes: Sequence[str]) -> str:
    known = [(share, name) for share, name in zip(model.per_class_accuracy, classes, strict=True) if share is not None]
    accuracy, name = min(known)
    return f"{name} ({accuracy:.2%})"
