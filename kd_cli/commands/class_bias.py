"""Biases for classes that ``kd evaluate`` is told, or fits to validation images."""

import logging

import torch
from torch import Tensor

from kd_cli.config import ClassBiasConfig, ConfigError
from kd_cli.data.classes import find_class
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.class_bias import add_biases, fit_bias
from kd_cli.evaluation.measures import BiasedQuality
from kd_cli.evaluation.quality import measure_quality
from kd_cli.networks.loaded import LoadedNetwork

log = logging.getLogger(__name__)


class ClassBiases:
    """The biases that a command was told, checked.

    Args:
        config: which, or what to fit them for.
        dataset: with validation images where they are to be fitted.

    Raises:
        ConfigError: a class is not there; or there is nothing to fit to, or nothing to fit.
    """

    def __init__(self, config: ClassBiasConfig, dataset: Dataset) -> None:
        self.dataset = dataset
        classes = dataset.info.classes
        self.given = {find_class(each.name, classes): each.value for each in config.class_bias}
        self.to_fit = sorted({find_class(name, classes) for name in config.fit_class_bias})
        if self.to_fit and dataset.validation is None:
            raise ConfigError(
                f"--fit-class-bias looks at validation images, and {dataset.info.name} has none: "
                "use --validation-fraction 0.1, here and where the network is trained"
            )
        if len(self.to_fit) == len(classes):
            raise ConfigError("--fit-class-bias: a number added to all classes changes nothing, name fewer")

    def measure(self, network: LoadedNetwork, logits: Tensor, reference: Tensor | None) -> BiasedQuality | None:
        """The quality with biases; None without any.

        Args:
            network: whose biases are fitted.
            logits: its own for the test images, (N, classes).
            reference: the teacher's.
        """
        biases = self._fit(network) if self.to_fit else self.given
        if not biases:
            return None
        validation, test = self.dataset.validation, self.dataset.test
        return BiasedQuality(
            biases={self.dataset.info.classes[label]: value for label, value in biases.items()},
            fitted_to=len(validation) if self.to_fit and validation else None,
            quality=measure_quality(add_biases(logits, biases), test.labels, reference),
        )

    def _fit(self, network: LoadedNetwork) -> dict[int, float]:
        validation = self.dataset.validation
        assert validation is not None
        if network.metadata.options.get("validation_images") != len(validation):
            log.warning(
                "%s was not trained with as many validation images, so it may have learnt those that its bias is "
                "fitted to: train it with the same --validation-fraction",
                network.path,
            )
        logits = torch.from_numpy(network.compute_logits(validation.images.cpu().numpy()))
        bias = fit_bias(logits, validation.labels, self.to_fit)
        return dict.fromkeys(self.to_fit, bias)
