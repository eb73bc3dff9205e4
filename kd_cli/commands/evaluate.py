"""``kd evaluate``: the quality of networks on the test set."""

from collections.abc import Sequence
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import open_for_testing
from kd_cli.commands.class_bias import ClassBiases
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.job import heading
from kd_cli.commands.network_files import describe_model
from kd_cli.commands.results import EvaluatedModel, EvaluationResult
from kd_cli.config import ClassBiasConfig, DataConfig, Role, RunConfig
from kd_cli.evaluation.quality import expected_calibration_error, find_disagreements, measure_quality
from kd_cli.files import require_no_input

DISAGREEMENTS = 10
"""How many of a student's disagreements with its teacher are reported."""


def evaluate(
    paths: Sequence[Path] = (),
    data: DataConfig = DataConfig(),
    run: RunConfig = RunConfig(),
    reports: Sequence[Path] = (),
    bias: ClassBiasConfig = ClassBiasConfig(),
) -> EvaluationResult:
    """Measure the quality of the given checkpoints and exported files, or of the data set's teacher and student.

    Each is measured as it is and, where ``bias`` says so, with biases for classes, too.

    Nothing is measured if one of ``reports``, files that the result will be written to, is a file that is read.

    Raises:
        KdError: something is not there, or does not fit together.
    """
    dataset, networks = open_for_testing(data, run, paths, train=bool(bias.fit_class_bias))
    require_no_input(reports, inputs_of([each.path for each in networks], dataset))
    biases = ClassBiases(bias, dataset)
    labels, images = dataset.test.labels, dataset.test.images.cpu().numpy()
    logits = [torch.from_numpy(each.compute_logits(images)) for each in networks]
    roles = [each.metadata.role for each in networks]
    reference = logits[roles.index(Role.teacher)] if Role.teacher in roles else None
    models = []
    for network, role, own in zip(networks, roles, logits, strict=True):
        disagreements = None
        if reference is not None and role is Role.student:
            disagreements = tuple(find_disagreements(own, reference, labels, DISAGREEMENTS))
        confidence = network.metadata.confidence
        models.append(
            EvaluatedModel(
                **vars(describe_model(network)),
                **vars(measure_quality(own, labels, reference)),
                parameters=network.parameters,
                disagreements=disagreements,
                temperature=confidence.temperature if confidence else None,
                scaled_ece=expected_calibration_error(own / confidence.temperature, labels) if confidence else None,
                with_class_bias=biases.measure(network, own, reference),
            )
        )
    return EvaluationResult(
        **vars(heading(dataset)),
        test_images=len(dataset.test),
        classes=dataset.info.classes,
        models=tuple(models),
    )
