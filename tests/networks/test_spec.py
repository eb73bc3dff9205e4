import pytest

from kd_cli.config import ConfigError
from kd_cli.networks.spec import MAX_LAYER_SIZE, Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("cnn-32", Spec("cnn", (32,))),
        ("mlp-128", Spec("mlp", (128,))),
        ("mlp-800-40", Spec("mlp", (800, 40))),
        (f"mlp-{MAX_LAYER_SIZE}", Spec("mlp", (MAX_LAYER_SIZE,))),
        ("mlp" + 16 * "-1", Spec("mlp", (1,) * 16)),
        ("resnet-8", Spec("resnet", (8,))),
        ("resnet-110", Spec("resnet", (110,))),
        ("torchvision:resnet18", Spec("torchvision", name="resnet18")),
        ("timm:vit_tiny_patch16_224.augreg_in21k", Spec("timm", name="vit_tiny_patch16_224.augreg_in21k")),
        ("my.package:make_net", Spec("own", name="my.package:make_net")),
        ("../a folder/nets-2.py:Net", Spec("own", name="../a folder/nets-2.py:Net")),
    ],
)
def test_spec_is_read_and_written_alike(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "cnn",
            "cnn-",
            "cnn-0",
            "cnn-8-8",
            "mlp",
            "mlp-0",
            "mlp-128-",
            "mlp--1",
            "mlp-99999999",
            "mlp" + 17 * "-1",
        ),
        *(
            "resnet-18",
            "resnet-2",
            "resnet-9998",
            "timm:hf-hub:a/b",
            "torchvision:",
            "a:b:c",
            ":f",
            "x.py:",
            "x.py:f()",
            "x.py:a.b",
            "1a:b",
            "cnn-٣",
            "CNN-8",
            " mlp-8",
            "mlp-8\n",
            "mlp-1.5",
            f"mlp-8-{MAX_LAYER_SIZE + 1}",
        ),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_a_users_network_says_where_it_lies() -> None:
    spec = parse_spec("C:\\nets\\small.py:make")
    assert (spec.is_own, spec.source, spec.factory) == (True, "C:\\nets\\small.py", "make")
