"""Features of networks that know nothing of distillation: where they are read by default, and by name."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.features import Layer, LayerUse, find_layer, find_maps, find_penultimate, measure, trace
from kd_cli.networks.spec import parse_spec
from tests.networks.foreign import Residual, TwoBranches

MNIST = DataInfo("mnist", tuple("0123456789"), (1, 28, 28), (0.13,), (0.31,), digest="")


def classify(network: Any, channels: int = 3) -> Classifier:
    return Classifier(network, (0.5,) * channels, (0.25,) * channels, (channels, 32, 32))


@pytest.fixture
def residual() -> Classifier:
    torch.manual_seed(0)
    return classify(Residual())


@pytest.fixture
def branches() -> Classifier:
    torch.manual_seed(0)
    return classify(TwoBranches())


PIXELS = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class TestDefaults:
    def test_penultimate_is_what_the_last_linear_layer_takes(self, residual: Classifier) -> None:
        layer = find_penultimate(residual, PIXELS)
        features, logits = layer.read(residual, PIXELS)
        assert str(layer) == "input of fc"
        assert features.shape == (5, 16)
        torch.testing.assert_close(residual.network.get_submodule("fc")(features), logits)

    def test_maps_are_the_last_output_with_height_and_width(self, residual: Classifier) -> None:
        """And not those of the pool over all places, which have neither."""
        layer = find_maps(residual, PIXELS)
        maps, _ = layer.read(residual, PIXELS)
        assert layer == Layer("layer2")
        assert maps.shape == (5, 16, 3, 3)

    def test_maps_are_not_what_an_identity_passes_on(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Identity(), nn.Flatten(), nn.Linear(16, 5))
        assert find_maps(classify(network), PIXELS) == Layer("1")

    def test_maps_need_not_be_squares(self, branches: Classifier) -> None:
        assert measure(find_maps(branches, PIXELS), branches, PIXELS) == (2, 4, 6)

    def test_the_last_linear_layer_is_the_last_one_that_runs(self, branches: Classifier) -> None:
        assert find_penultimate(branches, PIXELS) == Layer("heads.b", of_input=True)

    def test_features_of_reference_networks_are_after_their_activations(self) -> None:
        pixels = torch.rand(2, 1, 28, 28)
        for spec, penultimate, maps in (("cnn-6", "fc1", "conv1"), ("mlp-20-12", "fc2", None)):
            classifier = build_classifier(parse_spec(spec), MNIST)
            features = classifier.forward_features(pixels)
            assert torch.equal(find_penultimate(classifier, pixels).read(classifier, pixels)[0], features[penultimate])
            if maps:
                assert torch.equal(find_maps(classifier, pixels).read(classifier, pixels)[0], features[maps])
            else:
                with pytest.raises(KdError, match="no layer of the network gives maps"):
                    find_maps(classifier, pixels)

    def test_a_network_without_a_linear_layer_is_refused(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(KdError, match=r"no linear layer.*kd list layers SPEC"):
            find_penultimate(classify(network), PIXELS)

    def test_a_head_that_sees_every_place_is_flattened(self) -> None:
        network = nn.Sequential(nn.Flatten(2), nn.Linear(36, 4), nn.Flatten())
        assert measure(find_penultimate(classify(network), PIXELS), classify(network), PIXELS) == (108,)


class TestNamedLayers:
    def test_may_lie_anywhere_in_the_network(self, residual: Classifier) -> None:
        assert measure(find_layer(residual, "layer1.bn1", PIXELS), residual, PIXELS) == (8, 6, 6)

    def test_give_what_they_gave_before_a_later_layer_changed_it(self, residual: Classifier) -> None:
        """The ReLU after `bn1` works in place, and is used a second time."""
        features, _ = Layer("layer1.bn1").read(residual.eval(), PIXELS)
        assert features.min() < 0

    def test_that_run_twice_give_their_last_output(self, residual: Classifier) -> None:
        relu, _ = Layer("layer1.relu").read(residual.eval(), PIXELS)
        assert torch.equal(relu, Layer("layer1").read(residual, PIXELS)[0])

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("layer3", r"no layer 'layer3': did you mean layer2 or layer1"),
            ("layer2.con1", "did you mean layer2.conv1"),
            ("unused", "no layer 'unused'"),  # it exists, but no image ever goes through it
            ("", "no layer ''"),
        ],
    )
    def test_that_no_image_goes_through_are_refused(self, residual: Classifier, name: str, message: str) -> None:
        with pytest.raises(KdError, match=message):
            find_layer(residual, name, PIXELS)

    def test_that_give_no_single_tensor_are_refused(self, branches: Classifier) -> None:
        with pytest.raises(KdError, match="memory gives a tuple: name one that gives a single tensor"):
            measure(find_layer(branches, "memory", PIXELS), branches, PIXELS)

    def test_of_reference_networks_are_those_of_their_features(self) -> None:
        classifier = build_classifier(parse_spec("mlp-20-12"), MNIST)
        assert find_layer(classifier, "fc1", torch.rand(1, 1, 28, 28)) == Layer("fc1")
        with pytest.raises(KdError, match="did you mean fc"):
            find_layer(classifier, "fc9", torch.rand(1, 1, 28, 28))


class TestReading:
    def test_leaves_nothing_behind(self, residual: Classifier) -> None:
        before = copy.deepcopy(residual.state_dict())
        residual.train()
        for layer in (find_penultimate(residual, PIXELS), find_maps(residual, PIXELS)):
            measure(layer, residual, PIXELS)
        assert residual.training
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in residual.modules())
        assert all(torch.equal(value, before[name]) for name, value in residual.state_dict().items())

    def test_leaves_nothing_behind_where_the_network_fails(self, residual: Classifier) -> None:
        for call in (lambda: trace(residual, PIXELS[:, :2]), lambda: Layer("fc").read(residual, PIXELS[:, :2])):
            with pytest.raises(RuntimeError):
                call()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in residual.modules())

    def test_gives_the_logits_of_the_same_pass_and_gradients(self, residual: Classifier) -> None:
        features, logits = Layer("layer1").read(residual.eval(), PIXELS)
        torch.testing.assert_close(logits, residual(PIXELS))
        F.mse_loss(features, torch.zeros_like(features)).backward()
        assert residual.network.get_submodule("stem").weight.grad.any()  # type: ignore[union-attr, operator]
        assert residual.network.get_submodule("layer2.conv1").weight.grad is None

    def test_works_for_copies_of_the_network_and_of_the_layer(self, residual: Classifier) -> None:
        layer = pickle.loads(pickle.dumps(find_maps(residual, PIXELS)))  # noqa: S301, our own
        other = pickle.loads(pickle.dumps(copy.deepcopy(residual.eval())))  # noqa: S301
        assert torch.equal(layer.read(other, PIXELS)[0], layer.read(residual, PIXELS)[0])


def test_a_trace_lists_the_layers_in_the_order_in_which_they_end(branches: Classifier) -> None:
    assert trace(branches, PIXELS[:1]) == [
        LayerUse("wide.0", "Conv2d", (1, 2, 4, 6)),
        LayerUse("wide.1", "ReLU", (1, 2, 4, 6)),
        LayerUse("wide", "Sequential", (1, 2, 4, 6)),
        LayerUse("heads.a", "Linear", (1, 4)),
        LayerUse("memory", "LSTM", None),
        LayerUse("heads.b", "Linear", (1, 4)),
    ]
