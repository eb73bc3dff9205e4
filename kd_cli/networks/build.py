"""How an architecture spec becomes a network."""

from torch import nn

from kd_cli.networks.reference import IMAGE_SHAPE, StudentNet, TeacherNet
from kd_cli.networks.resnet import ResNet
from kd_cli.networks.spec import Spec


def build_network(spec: Spec, shape: tuple[int, int, int] = IMAGE_SHAPE, classes: int = 10) -> nn.Module:
    """A freshly initialised network; its weights come from torch's global random stream.

    Args:
        spec: the architecture. A user's own is imported: that is for specs that the user named or trusts.
        shape: (channels, height, width) of an image.
        classes: how many there are.

    Raises:
        ConfigError: there is no such network, or it does not take such images or give so many logits.
    """
    if spec.family == "cnn":
        return TeacherNet(spec.sizes[0], shape, classes)
    if spec.family == "mlp":
        return StudentNet(spec.sizes, shape, classes)
    if spec.family == "resnet":
        return ResNet(spec.sizes[0], shape, classes)
    from kd_cli.networks.zoo import build_foreign  # torchvision takes its time

    return build_foreign(spec, shape, classes)
