"""Networks that are not ours: made for any images and classes, or refused in one line."""

from pathlib import Path

import pytest
import torch

from kd_cli.config import ConfigError
from kd_cli.networks.build import build_network
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.networks.zoo import import_source, source_digest

USERS = "tests.networks.users"
FILE = str(Path(__file__).with_name("users.py"))
SHAPES = [(1, 24, 40), (3, 24, 40), (4, 24, 40)]


@pytest.mark.parametrize("spec", ["cnn-4", "mlp-8", "resnet-8", "timm:resnet10t", f"{USERS}:Small", f"{FILE}:Small"])
@pytest.mark.parametrize(("classes", "shape"), [(2, SHAPES[0]), (37, SHAPES[1]), (1000, SHAPES[2])])
def test_every_family_takes_images_and_classes_of_any_number(
    spec: str, classes: int, shape: tuple[int, int, int]
) -> None:
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    network = build_network(parse_spec(spec), shape, classes)
    assert network(torch.zeros(2, *shape)).shape == (2, classes)


def test_a_network_of_torchvision_takes_colour_images() -> None:
    network = build_network(parse_spec("torchvision:squeezenet1_1"), (3, 32, 40), 37)
    assert network(torch.zeros(2, 3, 32, 40)).shape == (2, 37)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("torchvision:resnet1", (3, 32, 32), "no classifier 'resnet1' (did you mean resnet18"),
        ("torchvision:fcn_resnet50", (3, 32, 32), "no classifier 'fcn_resnet50'"),
        ("torchvision:resnet18", (1, 32, 32), "takes images of 3 channels, not of 1"),
        ("torchvision:vit_b_16", (3, 32, 32), "does not take images of shape (3, 32, 32)"),
        ("cnn-4", (1, 8, 28), "9x9 pixels or more, not 8x28"),
        ("no.such.module:make", (1, 28, 28), "cannot import no.such.module: ModuleNotFoundError"),
        ("no/such/file.py:make", (1, 28, 28), "no file no/such/file.py"),
        (f"{USERS}:absent", (1, 28, 28), "has no function absent"),
        (f"{USERS}:text", (1, 28, 28), "has no function text"),
        (f"{USERS}:raises", (1, 28, 28), "ValueError: a reason"),
        (f"{USERS}:ends", (1, 28, 28), "SystemExit: a reason"),
        (f"{USERS}:no_module", (1, 28, 28), "gave str, not a torch.nn.Module"),
        (f"{USERS}:headless", (1, 28, 28), "gives (2, 784) for 2 images, not (2, 10)"),
        (f"{USERS}:TwoOutputs", (1, 28, 28), "gives tuple for 2 images"),
        (f"{USERS}:small", (3, 28, 28), "does not take images of shape (3, 28, 28)"),
    ],
)
def test_what_is_no_network_for_these_images_is_refused_in_one_line(
    spec: str, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(parse_spec(spec), shape, 10)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_network_of_timm_is_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="timm has no classifier 'resnet1'"):
        build_network(parse_spec("timm:resnet1"))


def test_the_trial_leaves_a_network_and_the_random_stream_as_they_were() -> None:
    torch.manual_seed(0)
    network = build_network(parse_spec(f"{USERS}:Small"))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    expected = import_source(USERS).Small()
    torch.testing.assert_close(network.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert torch.equal(torch.rand(3), drawn)
    assert network.training


def test_a_file_finds_its_neighbours_and_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_net.py").write_text("SIZE = 7")
    file = tmp_path / "net.py"
    file.write_text("from neighbour_of_net import SIZE\n")
    assert import_source(str(file)).SIZE == 7
    before = source_digest(str(file))
    file.write_text("SIZE = 8\n")
    assert import_source(str(file)).SIZE == 8
    assert source_digest(str(file)) != before


def test_a_network_that_does_not_say_its_cost_is_counted() -> None:
    network = import_source(USERS).Small()
    classifier = Classifier(network, (0.5,), (0.5,), (1, 28, 28))
    assert classifier.known_macs is None
    assert classifier.macs == classifier.known_macs == 13 * 13 * 8 * 9 + 80
    assert network.training
