"""What ``kd tune`` is told. Free of torch and of Optuna."""

from dataclasses import dataclass

from kd_cli.commands.grid import ComparisonConfig, KeptRunsConfig, read_methods
from kd_cli.config import option
from kd_cli.distillation.methods import layer_option
from kd_cli.networks.spec import SPEC_HELP, Spec, parse_spec

FINALISTS, REPEATS = 4, 2
"""How many settings of a method are trained with further seeds before one is chosen, and with how many more.

The best of many trials with one seed each is the luckiest rather than the best one.
"""


@dataclass(frozen=True)
class TuneConfig(KeptRunsConfig):
    """What to tune, and how hard to try; each method, and the baseline, has the same number of trials."""

    methods: tuple[str, ...] = option(("kd",), "Methods; see kd list methods.", read=read_methods, metavar="NAME,...")
    student: Spec = option(Spec("mlp", (128,)), SPEC_HELP, read=parse_spec, metavar="SPEC")
    trials: int = option(24, "Trials of each method, and of the baseline.", minimum=1, maximum=10_000)
    prune: bool = option(True, "Stop trials that fall behind others (successive halving).")
    student_layer: str | None = layer_option("student")
    teacher_layer: str | None = layer_option("teacher")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.comparison  # noqa: B018  (it checks what is to be compared)

    @property
    def comparison(self) -> ComparisonConfig:
        """What is compared in the end, with settings that are still to be found."""
        return ComparisonConfig(
            self.methods, (self.student,), student_layer=self.student_layer, teacher_layer=self.teacher_layer
        )
