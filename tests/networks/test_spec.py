import re

import pytest

from kd_cli.config import ConfigError
from kd_cli.networks.spec import MAX_LAYER_SIZE, Regularisation, Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("cnn-32", Spec("cnn", (32,))),
        ("mlp-128", Spec("mlp", (128,))),
        ("mlp-800-40", Spec("mlp", (800, 40))),
        (f"mlp-{MAX_LAYER_SIZE}", Spec("mlp", (MAX_LAYER_SIZE,))),
        ("mlp" + 16 * "-1", Spec("mlp", (1,) * 16)),
        ("mlp-8:dropout=0.5", Spec("mlp", (8,), regularisation=Regularisation(dropout=0.5))),
        (
            "mlp-800-40:dropout=0.5:input-dropout=0.2:max-norm=3.8729833",
            Spec("mlp", (800, 40), regularisation=Regularisation(0.5, 0.2, 3.8729833)),
        ),
        ("mlp-8:max-norm=15", Spec("mlp", (8,), regularisation=Regularisation(max_norm=15))),
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
        *("mlp-8:", "mlp-8:dropout", "mlp-8:dropout=", "mlp-8:dropout=x", "mlp-8:dropout=0.5\n", "mlp-8:dropout=0.5:"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_a_users_network_says_where_it_lies() -> None:
    spec = parse_spec("C:\\nets\\small.py:make")
    assert (spec.is_own, spec.source, spec.factory) == (True, "C:\\nets\\small.py", "make")


def test_options_that_change_nothing_make_no_other_spec() -> None:
    assert parse_spec("mlp-8:dropout=0:input-dropout=0.0") == parse_spec("mlp-8")


def test_the_order_of_options_makes_no_other_spec() -> None:
    assert parse_spec("mlp-8:max-norm=3:dropout=0.5") == parse_spec("mlp-8:dropout=0.5:max-norm=3")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mlp-8:dropuot=0.5", "did you mean dropout?"),
        ("mlp-8:dropout=1", "from 0 to less than 1"),
        ("mlp-8:input-dropout=-0.1", "input-dropout=-0.1: use a share"),
        ("mlp-8:dropout=nan", "dropout=nan: use a share"),
        ("mlp-8:max-norm=0", "max-norm=0: use a number above 0"),
        ("mlp-8:max-norm=inf", "max-norm=inf: use a number above 0"),
        ("mlp-8:dropout=0.5:dropout=0.2", "give dropout once"),
        ("cnn-8:dropout=0.5", "only mlp-N takes options"),
    ],
)
def test_options_that_cannot_be_used_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_spec(text)
