"""Dropout and max-norm of ``mlp-N``: what they do to a step, and that a trained network is without them."""

import pytest
import torch

from kd_cli.data.dataset import Dataset
from kd_cli.networks.build import build_network
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.max_norm import MaxNormLinear
from kd_cli.networks.reference import StudentNet
from kd_cli.networks.spec import Regularisation, parse_spec

IMAGES = torch.ones(64, 1, 28, 28)


def build(spec: str) -> StudentNet:
    torch.manual_seed(0)
    network = build_network(parse_spec(spec))
    assert isinstance(network, StudentNet)
    return network


def test_the_weights_are_those_of_the_network_without_options() -> None:
    plain, other = (
        build("mlp-16-8").state_dict(),
        build("mlp-16-8:dropout=0.5:input-dropout=0.2:max-norm=3").state_dict(),
    )
    assert list(plain) == list(other)
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_a_trained_network_drops_nothing() -> None:
    plain, other = build("mlp-16").eval(), build("mlp-16:dropout=0.5:input-dropout=0.5").eval()
    assert torch.equal(plain(IMAGES), other(IMAGES))


def test_while_it_is_trained_every_image_loses_other_units() -> None:
    logits = build("mlp-64:dropout=0.5").train()(IMAGES)
    assert len(logits.unique(dim=0)) == 64
    assert len(build("mlp-64").train()(IMAGES).unique(dim=0)) == 1


@pytest.mark.parametrize(("spec", "reads"), [("mlp-64:input-dropout=0.25", "fc1"), ("mlp-784:dropout=0.25", "fc2")])
def test_the_share_is_that_of_what_a_layer_reads(spec: str, reads: str) -> None:
    network, seen = build(spec).train(), []
    network.get_submodule(reads).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.nn.init.constant_(network.get_parameter("fc1.bias"), 100)  # so that no unit is 0 by itself
    network(IMAGES)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_features_are_those_before_dropout() -> None:
    hidden = build("mlp-16:dropout=0.9").train().forward_features(IMAGES)["fc1"]
    assert len(hidden.unique(dim=0)) == 1


def test_hidden_units_are_shortened_to_the_norm_and_others_left_alone() -> None:
    layer = MaxNormLinear(3, 2, max_norm=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0, 4.0], [0.1, 0.2, 0.2]]))
    layer.constrain()
    assert layer.weight.tolist() == [pytest.approx([0.6, 0.0, 0.8]), pytest.approx([0.1, 0.2, 0.2])]


def test_logits_have_no_limit() -> None:
    network = StudentNet((8, 8), regularisation=Regularisation(max_norm=1.0))
    kinds = {name: isinstance(layer, MaxNormLinear) for name, layer in network.named_children()}
    assert kinds == {"fc1": True, "fc2": True, "fc3": False}


def test_a_classifier_of_such_a_spec_takes_pixels(tiny: Dataset) -> None:
    classifier = build_classifier(parse_spec("mlp-8:dropout=0.5:max-norm=2"), tiny.info).eval()
    assert classifier(IMAGES).shape == (64, 10)
    assert classifier.macs == build_classifier(parse_spec("mlp-8"), tiny.info).macs
