"""The quality of networks as Rich tables."""

from collections.abc import Callable, Sequence

from rich.markup import escape
from rich.table import Table

from kd_cli.commands.results import EvaluatedModel, EvaluationResult
from kd_cli.config import ECE_BINS
from kd_cli.evaluation.quality import Opinion
from kd_cli.report.tables import name_of, new_table, open_console, print_checkpoints, print_line, side_by_side


def print_evaluation(result: EvaluationResult, confusion: bool = False) -> None:
    """Quality of the networks, side by side; how far their confidence can be trusted; where they disagree."""
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
    console.print(side_by_side(evaluation_title(result), result, result.models, rows))
    print_line(console, "Parameters are not cost: kd benchmark counts multiply-accumulates (MACs) and measures time.")
    console.print(_per_class(result))
    console.print(_calibration(result))
    for model in result.models:
        if confusion:
            console.print(_confusion(model, result.classes))
        if model.disagreements:
            console.print(_disagreements(model, result.classes))
    print_checkpoints(console, result.models)


def evaluation_title(result: EvaluationResult) -> str:
    """What was evaluated, and on how many images."""
    return f"Quality on {result.dataset}: {result.test_images:,} test images"


def _per_class(result: EvaluationResult) -> Table:
    table = _table_of_models(result, "Accuracy by class", "Class")
    for i, name in enumerate(result.classes):
        table.add_row(escape(name), *(_percent(model.per_class_accuracy[i]) for model in result.models))
    return table


def _calibration(result: EvaluationResult) -> Table:
    """The bins of confidence in which any network has images."""
    caption = "images, mean confidence -> accuracy"
    table = _table_of_models(result, "Calibration: accuracy by confidence", "Confidence", caption)
    for bins in zip(*(model.calibration for model in result.models), strict=True):
        if any(each.count for each in bins):
            cells = (
                f"{each.count:,}, {each.confidence:.1%} -> {each.accuracy:.1%}" if each.count else "-" for each in bins
            )
            table.add_row(f"{bins[0].low:.0%} to {bins[0].high:.0%}", *cells)
    return table


def _table_of_models(result: EvaluationResult, title: str, first: str, caption: str | None = None) -> Table:
    table = new_table(title, caption)
    table.add_column(first)
    for model in result.models:
        table.add_column(escape(name_of(model)), justify="right")
    return table


def _confusion(model: EvaluatedModel, classes: Sequence[str]) -> Table:
    table = new_table(f"{name_of(model)}: confusion", "rows: labels; columns: predictions")
    table.add_column("")
    for name in classes:
        table.add_column(escape(name), justify="right")
    for i, (name, row) in enumerate(zip(classes, model.confusion, strict=True)):
        cells = (f"[dim]{n:,}[/]" if i == j else f"{n:,}" if n else "" for j, n in enumerate(row))
        table.add_row(escape(name), *cells)
    return table


def _disagreements(model: EvaluatedModel, classes: Sequence[str]) -> Table:
    table = new_table("Largest disagreements of student and teacher", "KL(teacher || student) in nats")
    for column in ("Test image", "Label", "Teacher", "Student", "KL"):
        table.add_column(column, justify="right")

    def show(opinion: Opinion) -> str:
        return escape(f"{classes[opinion.class_index]}  {opinion.confidence:6.1%}")

    for each in model.disagreements or ():
        label = escape(classes[each.label])
        table.add_row(str(each.index), label, show(each.teacher), show(each.student), f"{each.divergence:.2f}")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _weakest_class(model: EvaluatedModel, classes: Sequence[str]) -> str:
    known = [(share, name) for share, name in zip(model.per_class_accuracy, classes, strict=True) if share is not None]
    accuracy, name = min(known)
    return f"{name} ({accuracy:.2%})"
