import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.networks.build import build_network
from kd_cli.networks.classifier import count_parameters
from kd_cli.networks.reference import StudentNet, TeacherNet
from kd_cli.networks.spec import parse_spec


class PlainTeacher(TeacherNet):
    """TeacherNet in the order in which it is documented."""

    def forward(self, x: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.conv1(x)), 5)
        return self.fc2(F.relu(self.fc1(maps.flatten(1))))  # type: ignore[no-any-return]


def gradients(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    labels = torch.arange(len(images)) % 10
    F.cross_entropy(network(images), labels).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.fixture
def pair() -> tuple[TeacherNet, PlainTeacher]:
    torch.manual_seed(0)
    fast, plain = TeacherNet(), PlainTeacher()
    plain.load_state_dict(fast.state_dict())
    return fast, plain


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_fast_teacher_gives_the_values_of_the_documented_one(pair: tuple[TeacherNet, PlainTeacher], batch: int) -> None:
    fast, plain = (network.double() for network in pair)
    images = torch.randn(batch, 1, 28, 28, dtype=torch.double)
    torch.testing.assert_close(fast(images), plain(images))


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_fast_teacher_gives_the_gradients_of_the_documented_one(
    pair: tuple[TeacherNet, PlainTeacher], batch: int
) -> None:
    fast, plain = (network.double() for network in pair)
    images = torch.randn(batch, 1, 28, 28, dtype=torch.double)
    expected = gradients(plain, images)
    assert expected.keys() == dict(fast.named_parameters()).keys()
    torch.testing.assert_close(gradients(fast, images), expected)


@pytest.mark.parametrize("batch", [1, 15, 16, 64, 500])
def test_fast_teacher_in_single_precision_is_the_documented_one_in_double_precision(
    pair: tuple[TeacherNet, PlainTeacher], batch: int
) -> None:
    # Single precision is what trains, and where a batch takes another way than a few images.
    fast, plain = pair
    images = torch.randn(batch, 1, 28, 28)
    values, found = fast(images), gradients(fast, images)
    plain.double()
    torch.testing.assert_close(values.double(), plain(images.double()), rtol=1e-5, atol=1e-5)
    for name, expected in gradients(plain, images.double()).items():
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-4, msg=name)


def test_student_is_the_documented_function() -> None:
    student = StudentNet((128,))
    plain = nn.Sequential(nn.Flatten(), student.get_submodule("fc1"), nn.ReLU(), student.get_submodule("fc2"))
    images = torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(student(images), plain(images))


@pytest.mark.parametrize(
    ("spec", "classes", "parameters"),
    [
        ("cnn-32", 10, 67_786),
        ("mlp-128", 10, 101_770),
        ("cnn-8", 10, 8 * 26 + (128 + 1) * 128 + 129 * 10),
        ("mlp-800-800", 10, 785 * 800 + 801 * 800 + 801 * 10),
        ("cnn-8", 3, 8 * 26 + (128 + 1) * 128 + 129 * 3),
        ("mlp-8", 100, 785 * 8 + 9 * 100),
    ],
)
def test_spec_builds_a_network_of_its_size(spec: str, classes: int, parameters: int) -> None:
    assert count_parameters(build_network(parse_spec(spec), classes=classes)) == parameters


@pytest.mark.parametrize(
    ("spec", "layers"),
    [("cnn-32", {"conv1", "fc1", "fc2"}), ("mlp-128", {"fc1", "fc2"}), ("mlp-8-8", {"fc1", "fc2", "fc3"})],
)
def test_layers_carry_the_documented_names(spec: str, layers: set[str]) -> None:
    assert {name.split(".")[0] for name in build_network(parse_spec(spec)).state_dict()} == layers


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        ("cnn-4", {"conv1": (3, 4, 4, 4), "fc1": (3, 128), "fc2": (3, 10)}),
        ("mlp-16-8", {"fc1": (3, 16), "fc2": (3, 8), "fc3": (3, 10)}),
    ],
)
def test_features_carry_the_names_of_their_layers(spec: str, shapes: dict[str, tuple[int, ...]]) -> None:
    features = build_network(parse_spec(spec)).forward_features(torch.randn(3, 1, 28, 28))  # type: ignore[operator]
    assert {name: tuple(feature.shape) for name, feature in features.items()} == shapes


@pytest.mark.parametrize("spec", ["cnn-4", "mlp-16-8"])
def test_hidden_features_have_been_through_relu(spec: str) -> None:
    network = build_network(parse_spec(spec))
    *hidden, _logits = network.forward_features(torch.randn(3, 1, 28, 28)).values()  # type: ignore[operator]
    assert all((feature >= 0).all() for feature in hidden)


@pytest.mark.parametrize("spec", ["cnn-4", "mlp-16"])
def test_same_random_stream_gives_the_same_network(spec: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(build_network(parse_spec(spec)).state_dict())
    torch.testing.assert_close(*networks, rtol=0, atol=0)
