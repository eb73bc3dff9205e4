"""Quality of networks -> Rich tables."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_cli.report import Result, Row, print_sources, side_by_side
from kd_cli.settings import ECE_BINS


def print_evaluation(result: Result, confusion: bool) -> None:
    """Quality of the networks, side by side; how far their confidence can be trusted; where they disagree."""
    console = Console()
    title = f"Quality on {result['dataset']}: {result['test_images']:,} test pictures"
    rows: list[Row] = [
        ("Architecture", lambda model: str(model["architecture"])),
        ("Trained by", lambda model: str(model["method"])),
        ("Accuracy", lambda model: f"{model['accuracy']:.2%}"),
        ("Errors", lambda model: f"{model['error_count']:,}"),
        ("NLL (nats)", lambda model: f"{model['nll']:.4f}"),
        (f"ECE ({ECE_BINS} bins)", lambda model: f"{model['ece']:.4f}"),
        ("Agreement with teacher", lambda model: "-" if model["agreement"] is None else f"{model['agreement']:.2%}"),
        ("Weakest class", lambda model: _weakest_class(model, result["classes"])),
        ("Parameters", lambda model: f"{model['parameters']:,}"),
    ]
    console.print(side_by_side(title, result, rows))
    console.print(_per_class(result))
    console.print(_reliability(result))
    for model in result["models"]:
        if confusion:
            console.print(_confusion(model, result["classes"]))
        if model["disagreements"]:
            console.print(_disagreements(model, result["classes"]))
    print_sources(console, result)


def _per_class(result: Result) -> Table:
    table = Table(title="Accuracy by class", min_width=len("Accuracy by class"))
    table.add_column("Class")
    for model in result["models"]:
        table.add_column(escape(_heading(model)), justify="right")
    for i, name in enumerate(result["classes"]):
        table.add_row(escape(name), *(_percent(model["per_class_accuracy"][i]) for model in result["models"]))
    return table


def _reliability(result: Result) -> Table:
    """Bins of confidence in which any network has pictures; each cell is pictures: share that is right."""
    table = Table(title="How often right, where how sure", caption="pictures, mean confidence -> share read right")
    table.add_column("Confidence")
    for model in result["models"]:
        table.add_column(escape(_heading(model)), justify="right")
    for bins in zip(*(model["calibration"] for model in result["models"]), strict=True):
        if any(each["count"] for each in bins):
            cells = (
                f"{each['count']:,}, {each['confidence']:.1%} -> {each['accuracy']:.1%}" if each["count"] else "-"
                for each in bins
            )
            table.add_row(f"{bins[0]['low']:.0%} to {bins[0]['high']:.0%}", *cells)
    return table


def _confusion(model: Result, classes: list[str]) -> Table:
    table = Table(title=f"{_heading(model)}: rows are the labels, columns what it reads")
    table.add_column("")
    for name in classes:
        table.add_column(escape(name), justify="right")
    for i, (name, row) in enumerate(zip(classes, model["confusion"], strict=True)):
        cells = (f"[dim]{n:,}[/]" if i == j else f"{n:,}" if n else "" for j, n in enumerate(row))
        table.add_row(escape(name), *cells)
    return table


def _disagreements(model: Result, classes: list[str]) -> Table:
    title = "Where the student surprises its teacher most"
    table = Table(title=title, caption="KL(teacher || student), nats", min_width=len(title))
    for column in ("Test picture", "Label", "Teacher", "Student", "KL"):
        table.add_column(column, justify="right")
    for each in model["disagreements"]:
        opinions = (
            f"{classes[each[role]['class_index']]}  {each[role]['confidence']:6.1%}" for role in ("teacher", "student")
        )
        label = classes[each["label"]]
        table.add_row(str(each["index"]), escape(label), *map(escape, opinions), f"{each['divergence']:.2f}")
    return table


def _heading(model: Result) -> str:
    return f"{model['role'].capitalize()} {model['architecture']}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _weakest_class(model: Result, classes: list[str]) -> str:
    accuracy, name = min(
        (a, name) for a, name in zip(model["per_class_accuracy"], classes, strict=True) if a is not None
    )
    return f"{name} ({accuracy:.2%})"
