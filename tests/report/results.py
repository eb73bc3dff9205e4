"""Results as commands give them, made up: each function has the fields that a test changes as arguments."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from kd_cli.commands.results import (
    MEASURES,
    BenchmarkedModel,
    BenchmarkResult,
    CellResult,
    ComparisonResult,
    EnsembleResult,
    EvaluatedModel,
    EvaluationResult,
    ExportResult,
    ImagePrediction,
    Model,
    Prediction,
    PredictionResult,
    RankedClass,
    RunCount,
    RunMeasures,
    RuntimeResult,
    TrainingResult,
    TrialResult,
    TunedMethod,
    TuningResult,
)
from kd_cli.evaluation.measures import Bin, Disagreement, Opinion, Percentiles, Quartiles, Speed
from kd_cli.evaluation.statistics import Difference
from kd_cli.training.epoch_result import EpochResult

Changed = TypeVar("Changed")

WHERE: dict[str, Any] = {"dataset": "some-data", "device": "cpu", "device_name": "cpu (1 thread)"}
CLASSES = ("cat", "dog", "owl")
CONFUSION = ((8, 2, 0), (1, 9, 0), (0, 3, 7))


def changed(result: Changed, **changes: Any) -> Changed:
    """A result with other values in some of its fields."""
    return dataclasses.replace(result, **changes)  # type: ignore[type-var]


def training_result(**changes: Any) -> TrainingResult:
    """A student that was trained with kd for two epochs."""
    result = TrainingResult(
        **WHERE,
        role="student",
        seed=3,
        architecture="mlp-8",
        parameters=6370,
        method="kd",
        method_options={"temperature": 4.0, "alpha": 0.9},
        teachers=("models/teacher.safetensors",),
        epochs=2,
        options={"epochs": 2, "lr": 0.001},
        checkpoint="models/student.safetensors",
        test_images=1000,
        accuracy=0.921,
        error_count=79,
        train_seconds=2.5,
        history=(EpochResult(1, 1.25, 0.87, 130, 1.2), EpochResult(2, 0.75, 0.921, 79, 1.3)),
    )
    return changed(result, **changes)


def ensemble_result(size: int = 3) -> EnsembleResult:
    """Teachers with the seeds 0, 1, 2, ..., each a little better than the one before."""
    own = {"role": "teacher", "method": "labels", "method_options": {}, "teachers": (), "architecture": "cnn-4"}
    members = tuple(
        training_result(**own, seed=seed, checkpoint=f"models/teacher-{seed}.safetensors", accuracy=0.91 + seed / 100)
        for seed in range(size)
    )
    first = members[0]
    shared = {
        field.name: getattr(first, field.name)
        for field in dataclasses.fields(EnsembleResult)
        if field.name not in ("ensemble", "members", "accuracy", "error_count", "train_seconds")
    }
    return EnsembleResult(**shared, ensemble=size, members=members, accuracy=0.955, error_count=45, train_seconds=7.5)


def evaluated_model(role: str = "teacher", **changes: Any) -> EvaluatedModel:
    """A network that tells three classes apart, with 10 images of each."""
    disagreement = Disagreement(17, 2, Opinion(2, 0.975), Opinion(1, 0.625), 1.5)
    model = EvaluatedModel(
        role=role,
        checkpoint=f"models/{role}.safetensors",
        shipped=role == "student",
        architecture="cnn-4" if role == "teacher" else "mlp-8",
        method="labels" if role == "teacher" else "kd",
        accuracy=0.8,
        error_count=6,
        nll=0.5,
        ece=0.125,
        agreement=1.0 if role == "teacher" else 0.9,
        per_class_accuracy=(0.8, 0.9, 0.7),
        confusion=CONFUSION,
        calibration=(
            Bin(0.0, 1 / 3, 0, None, None),
            Bin(1 / 3, 2 / 3, 10, 0.5, 0.6),
            Bin(2 / 3, 1.0, 20, 0.95, 0.9),
        ),
        parameters=1234,
        disagreements=None if role == "teacher" else (disagreement,),
        temperature=1.5 if role == "teacher" else None,
        scaled_ece=0.0625 if role == "teacher" else None,
    )
    return changed(model, **changes)


def evaluation_result(**changes: Any) -> EvaluationResult:
    """A teacher and a student on 30 images."""
    models = (evaluated_model("teacher"), evaluated_model("student"))
    return changed(EvaluationResult(**WHERE, test_images=30, classes=CLASSES, models=models), **changes)


def many_classes(count: int = 30) -> EvaluationResult:
    """A teacher that takes the second class for the third, and the sixth for the first, and knows all others."""
    confusion = 10 * np.eye(count, dtype=int)
    confusion[1, 1:3] = 6, 4
    confusion[5, [0, 5]] = 2, 8
    model = evaluated_model(
        confusion=tuple(map(tuple, confusion.tolist())), per_class_accuracy=(0.9,) * count, error_count=6
    )
    return evaluation_result(models=(model,), classes=tuple(f"class {number}" for number in range(count)))


def benchmarked_model(role: str = "teacher", **changes: Any) -> BenchmarkedModel:
    """A teacher, or a student with more parameters and fewer multiply-accumulates."""
    teacher = role == "teacher"
    model = BenchmarkedModel(
        role=role,
        checkpoint=f"models/{role}.safetensors",
        shipped=False,
        architecture="cnn-32" if teacher else "mlp-128",
        method="labels" if teacher else "kd",
        parameters=67_786 if teacher else 101_770,
        macs=386_816 if teacher else 101_632,
        latency_ms=Percentiles(0.24, 0.25, 0.26, 0.5, 0.75) if teacher else Percentiles(0.12, 0.125, 0.13, 0.25, 0.375),
        throughput_per_s=50_000.0,
        throughput_quartiles_per_s=Quartiles(49_000.0, 51_000.0),
        test_set_seconds=0.125,
        size_bytes=271_144 if teacher else 407_080,
        accuracy=0.99 if teacher else 0.985,
    )
    return changed(model, **changes)


def runtime_result(role: str = "teacher", runtime: str = "torch", p50: float = 0.25, **changes: Any) -> RuntimeResult:
    """A network in a runtime, with one thread and, twice as slow, with two."""
    model = benchmarked_model(role)
    row = RuntimeResult(
        role=model.role,
        checkpoint=model.checkpoint,
        shipped=model.shipped,
        architecture=model.architecture,
        method=model.method,
        precision="int8" if runtime == "onnx-int8" else "float32",
        runtime=runtime,
        size_bytes=model.size_bytes,
        accuracy=model.accuracy,
        load_seconds=0.0125,
        speeds=tuple(
            Speed(threads, Percentiles(*(threads * p50 * part for part in (0.9, 1, 1.1, 2, 3))), 64, 50_000.0)
            for threads in (1, 2)
        ),
    )
    return changed(row, **changes)


def runtimes_result(*rows: RuntimeResult) -> BenchmarkResult:
    """A teacher for which 8 bits pay, and a student for which they do not."""
    default = (
        runtime_result("teacher", "torch", 0.25),
        runtime_result("teacher", "onnx", 0.125),
        runtime_result("teacher", "onnx-int8", 0.0625, size_bytes=73_737, accuracy=0.9875),
        runtime_result("student", "torch", 0.125),
        runtime_result("student", "onnx", 0.05),
        runtime_result("student", "onnx-int8", 0.075),
    )
    return benchmark_result(runtimes=rows or default)


def benchmark_result(**changes: Any) -> BenchmarkResult:
    """A teacher and a student that is twice as fast, measured on an idle machine."""
    models = (benchmarked_model("teacher"), benchmarked_model("student"))
    result = BenchmarkResult(
        **WHERE, threads=1, latency_threads=1, cores=4, load_average=0.25, models=models, student_speedup=2.0
    )
    return changed(result, **changes)


BETTER = Difference(0.002, (0.0008, 0.0032), 0.01, 0.02, "better")
WORSE = Difference(-0.1, (-0.11, -0.09), 0.00001, 0.00002, "worse")
UNDECIDED = Difference(0.0005, (-0.0008, 0.0018), 0.3, 0.6, "no difference shown")


def cell_result(method: str = "labels", accuracies: Sequence[float] = (0.98, 0.984), **changes: Any) -> CellResult:
    """A student with a run for each accuracy."""
    runs = tuple(
        RunMeasures(seed, accuracy, round(1000 * (1 - accuracy)), 0.97, 0.07, 0.0125, 2.0)
        for seed, accuracy in enumerate(accuracies)
    )
    values = {name: [getattr(run, name) for run in runs] for name in MEASURES}
    cell = CellResult(
        student="mlp-128",
        method=method,
        options={"temperature": 4.0, "alpha": 0.9} if method == "kd" else {},
        parameters=101_770,
        macs=101_632,
        runs=runs,
        mean={name: float(np.mean(own)) for name, own in values.items()},
        std={name: float(np.std(own, ddof=1)) if len(own) > 1 else None for name, own in values.items()},
        difference=None if method == "labels" else BETTER,
    )
    return changed(cell, **changes)


def export_result(**changes: Any) -> ExportResult:
    """A student as ONNX."""
    result = ExportResult(
        **WHERE,
        file="models/student.onnx",
        format="onnx",
        precision="float32",
        size_bytes=409_032,
        accuracy=0.985,
        error_count=15,
        original=Model("student", "models/student.safetensors", False, "mlp-128", "kd"),
        original_size_bytes=408_280,
        original_accuracy=0.984,
        original_error_count=16,
        max_logit_difference=0.000021,
        agreement=0.999,
        images=1000,
        random_pixels=False,
    )
    return changed(result, **changes)


def comparison_result(cells: Sequence[CellResult] = (), **changes: Any) -> ComparisonResult:
    """A baseline, and a method that is better."""
    result = ComparisonResult(
        **WHERE,
        teachers=("models/teacher.safetensors",),
        teacher_architectures=("cnn-32",),
        seeds=(0, 1),
        epochs=5,
        options={"epochs": 5},
        test_images=1000,
        results_dir="results",
        runs=RunCount(total=4, carried_out=3, side_by_side=2),
        cells=tuple(cells) or (cell_result("labels"), cell_result("kd", (0.983, 0.985))),
        failed=(),
        refused=(),
    )
    return changed(result, **changes)


def tuned_method(method: str = "labels", **changes: Any) -> TunedMethod:
    """A student with the best of two trials, of which the other one was stopped."""
    options = {"lr": 0.002} | ({"temperature": 2.0, "alpha": 0.25} if method == "kd" else {})
    other = {"lr": 0.001} | ({"temperature": 4.0, "alpha": 0.9} if method == "kd" else {})
    cell = cell_result(method, options=options, student="mlp-32")
    row = TunedMethod(
        **vars(cell),
        validation_accuracy=0.9725,
        validation_runs=(0.975, 0.9725, 0.97),
        trials=2,
        repeats=2,
        epochs=10,
        seconds=12.4,
        command=f"kd distill --student mlp-32 --method {method} --lr 0.002",
        search=(
            TrialResult(0, other, "pruned", (0.9,), 3.1),
            TrialResult(1, options, "complete", (0.9, 0.95, 0.975), 9.3, (0.9725, 0.97)),
        ),
    )
    return changed(row, **changes)


def tuning_result(*rows: TunedMethod, **changes: Any) -> TuningResult:
    """A baseline, and a method that is better."""
    result = TuningResult(
        **WHERE,
        student="mlp-32",
        teachers=("models/teacher.safetensors",),
        teacher_architectures=("cnn-32",),
        trials=2,
        trials_carried_out=3,
        seeds=(0, 1),
        epochs=3,
        options={"epochs": 3},
        validation_images=400,
        test_images=1000,
        results_dir="results",
        settings="results/settings.json",
        runs=RunCount(total=4, carried_out=2, side_by_side=2),
        rows=rows or (tuned_method("labels"), tuned_method("kd")),
        failed=(),
        refused=(),
    )
    return changed(result, **changes)


def prediction(*ranking: int, correct: bool | None = None) -> Prediction:
    """A prediction of one of three classes, the most probable first."""
    shares = (0.75, 0.1875, 0.0625)
    top = tuple(RankedClass(i, CLASSES[i], share) for i, share in zip(ranking, shares, strict=False))
    probabilities = tuple(dict(zip(ranking, shares, strict=False)).get(i, 0.0) for i in range(3))
    return Prediction(ranking[0], CLASSES[ranking[0]], shares[0], probabilities, top, correct)


def image_prediction(file: str = "a.png", **changes: Any) -> ImagePrediction:
    """An image on which teacher and student agree."""
    image = ImagePrediction(
        file=file,
        error=None,
        label=None,
        teacher=prediction(1, 2),
        student=prediction(1, 0),
        agree=True,
        preprocessed=None,
        seen=np.zeros((1, 28, 28), np.uint8),
    )
    return changed(image, **changes)


def failed_prediction(file: str = "broken.png") -> ImagePrediction:
    """A file that is no image."""
    nothing = {"teacher": None, "student": None, "agree": None, "seen": None}
    return image_prediction(file, error=f"{file} is no image", **nothing)


def prediction_result(*images: ImagePrediction, **changes: Any) -> PredictionResult:
    """Predictions of a teacher and a student."""
    models = tuple(
        Model(role, f"models/{role}.safetensors", False, architecture, method)
        for role, architecture, method in (("teacher", "cnn-32", "labels"), ("student", "mlp-128", "kd"))
    )
    result = PredictionResult(**WHERE, models=models, images=images or (image_prediction(),), accuracy=None)
    return changed(result, **changes)
