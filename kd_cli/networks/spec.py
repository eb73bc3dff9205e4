"""Architecture specs: a network as a word, e.g. ``cnn-32``, ``timm:resnet18`` or ``nets.py:small``. Free of torch."""

import math
import re
from dataclasses import dataclass, fields

from kd_cli.config import ConfigError, require_name

MAX_LAYER_SIZE = 65_536
"""Larger layers are refused: a typing slip or a hostile file."""

SPEC_HELP = "cnn-N, mlp-N[-M...][:dropout=P], resnet-N, torchvision:NAME, timm:NAME or FILE.py:FACTORY."
"""What the help of an option says of its values."""

HANDED_OVER = "given"
"""The family of networks that a Python program handed over: see `networks.handed_over`."""

_REFERENCE = re.compile(r"(cnn-[0-9]{1,6}|mlp(-[0-9]{1,6}){1,16}|resnet-[0-9]{1,4})(:[a-z].*)?", re.ASCII)
_LIBRARY = re.compile(r"(torchvision|timm|given):([A-Za-z0-9_.]{1,100})", re.ASCII)
_OWN = re.compile(r"([^\x00-\x1f\x7f]{1,4000}\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):[^\W\d]\w*")


@dataclass(frozen=True)
class Regularisation:
    """What keeps an ``mlp-N`` from learning its training images by heart; its options follow the sizes in a spec.

    Attributes:
        dropout: share of each hidden layer's outputs that a training step drops (Srivastava et al. 2014, section 4).
        input_dropout: share of the pixels, likewise.
        max_norm: the largest norm of a hidden unit's incoming weights (section 5.1 there); None: any.
    """

    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        for name, share in (("dropout", self.dropout), ("input-dropout", self.input_dropout)):
            if not 0 <= share < 1:
                raise ConfigError(f"{name}={share:g}: use a share from 0 to less than 1, e.g. {name}=0.5")
        if self.max_norm is not None and not 0 < self.max_norm < math.inf:
            raise ConfigError(f"max-norm={self.max_norm:g}: use a number above 0, e.g. max-norm=3.5")

    def __str__(self) -> str:
        default = Regularisation()
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return "".join(
            f":{name.replace('_', '-')}={str(value).removesuffix('.0')}"
            for name, value in given.items()
            if value != getattr(default, name)
        )


UNREGULARISED = Regularisation()


@dataclass(frozen=True)
class Spec:
    """An architecture.

    Attributes:
        family: ``cnn``, ``mlp`` or ``resnet``; ``torchvision`` or ``timm``; ``own`` for a user's network.
        sizes: of a reference network: filters (``cnn-32``), hidden layers (``mlp-800-800``), or depth (``resnet-20``).
        name: the library's name of a network, or where a user's lies: ``package.module:factory``, ``file.py:factory``.
        regularisation: of an ``mlp``.
    """

    family: str
    sizes: tuple[int, ...] = ()
    name: str = ""
    regularisation: Regularisation = UNREGULARISED

    @property
    def is_reference(self) -> bool:
        """Whether it is one of this package's own networks."""
        return bool(self.sizes)

    @property
    def is_own(self) -> bool:
        """Whether it is a user's network: to build it is to run the user's code."""
        return self.family == "own"

    @property
    def source(self) -> str:
        """The module or file of a user's network."""
        return self.name.rpartition(":")[0]

    @property
    def factory(self) -> str:
        """The function there that makes it."""
        return self.name.rpartition(":")[2]

    @property
    def file_name(self) -> str:
        """What files about the network may be called: a path in its name leads nowhere."""
        return re.sub(r"[^\w.-]", "_", str(self))

    def __str__(self) -> str:
        if self.is_own:
            return self.name
        if self.name:
            return f"{self.family}:{self.name}"
        return "-".join([self.family, *map(str, self.sizes)]) + str(self.regularisation)


def parse_spec(text: str) -> Spec:
    """Read an architecture spec; nothing that it names is imported.

    ``cnn-N`` (N filters), ``mlp-N[-M...]`` (hidden layer sizes), ``resnet-N`` (N layers, 6n + 2), ``torchvision:NAME``,
    ``timm:NAME``, or a user's ``package.module:factory`` or ``path/to/file.py:factory``. After an ``mlp`` may come
    options, e.g. ``mlp-1200-1200:dropout=0.5:input-dropout=0.2:max-norm=3.5``. A colon separates them because commas
    separate specs in a list.

    Raises:
        ConfigError: the text is no spec, or asks for a layer that is empty or absurdly large.
    """
    if library := _LIBRARY.fullmatch(text):
        return Spec(library[1], name=library[2])
    if _OWN.fullmatch(text):
        return Spec("own", name=text)
    if not (found := _REFERENCE.fullmatch(text)):
        near = re.fullmatch(r"(cnn|mlp|resnet)[ _-]*([0-9]{1,4})", text, re.ASCII | re.IGNORECASE)
        hint = f" (did you mean {near[1].lower()}-{near[2]}?)" if near else ""
        raise ConfigError(
            f"unknown architecture {text!r}{hint}: use cnn-N, e.g. cnn-32, mlp-N[-M...], e.g. mlp-128, resnet-N, "
            "e.g. resnet-20, torchvision:NAME, timm:NAME, or your own as path/to/file.py:factory"
        )
    family, *sizes = found[1].split("-")
    spec = Spec(family, tuple(map(int, sizes)), regularisation=_read_options(text, family, found[3]))
    if not all(1 <= size <= MAX_LAYER_SIZE for size in spec.sizes):
        raise ConfigError(f"architecture {text!r}: every size must be between 1 and {MAX_LAYER_SIZE:,}")
    if family == "resnet" and not (spec.sizes[0] % 6 == 2 and 8 <= spec.sizes[0] <= 1202):
        raise ConfigError(
            f"architecture {text!r}: use resnet-8, resnet-14, resnet-20 and so on, 6n + 2 layers up to 1202"
            + (f", or torchvision:resnet{spec.sizes[0]}" if spec.sizes[0] in (18, 34, 101, 152) else "")
        )
    return spec


def _read_options(text: str, family: str, options: str | None) -> Regularisation:
    """The options that follow the sizes, e.g. ``:dropout=0.5:max-norm=3.5``."""
    if options is None:
        return UNREGULARISED
    if family != "mlp":
        raise ConfigError(f"architecture {text!r}: only mlp-N takes options, leave {options!r} out")
    names = {each.name.replace("_", "-"): each.name for each in fields(Regularisation)}
    values: dict[str, float] = {}
    for part in options[1:].split(":"):
        name, _, number = part.partition("=")
        require_name("option of mlp-N", name, names)
        if names[name] in values:
            raise ConfigError(f"architecture {text!r}: give {name} once")
        try:
            values[names[name]] = float(number)
        except ValueError as error:
            raise ConfigError(f"architecture {text!r}: {name} takes a number, e.g. {name}=0.5") from error
    return Regularisation(**values)
