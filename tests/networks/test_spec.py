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
        *("resnet-50", "cnn-٣", "CNN-8", " mlp-8", "mlp-8\n", "mlp-1.5", f"mlp-8-{MAX_LAYER_SIZE + 1}"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)
