"""Options: each field of a configuration is one, and nothing else has to say so."""

import dataclasses
import inspect
import typing
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from kd_cli import cli
from kd_cli.config import Config, ConfigError, TrainingConfig, as_arguments, option
from kd_cli.options import with_options


class Colour(Enum):
    red = "red"
    blue = "blue"


def read_words(text: str) -> tuple[str, ...]:
    if "?" in text:
        raise ConfigError(f"{text!r} is a question")
    return tuple(word for word in text.split(",") if word)


@dataclass(frozen=True)
class SampleConfig(Config):
    count: int = option(3, "How many.", minimum=1, maximum=9)
    share: float | None = option(None, "How much.", above=0, maximum=1)
    loud: bool = option(False, "Shout.")
    polite: bool = option(True, "Say please.")
    formal: bool | None = option(None, "Say madam.")
    colour: Colour = option(Colour.red, "Which colour.")
    words: tuple[str, ...] = option(("a", "b"), "What to say.", read=read_words, metavar="WORD,...")
    numbers: tuple[float, ...] = option((), "Repeat them.", above=0, flag="number")
    paths: tuple[Path, ...] = option((), "Where to.", flag="path", metavar="PATH")
    home: Path = option(Path("home"), "Where from.", env="SAMPLE_HOME")


Run = Callable[..., int]


@pytest.fixture
def received() -> list[dict[str, Any]]:
    """What the command was called with, each time."""
    return []


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch, received: list[dict[str, Any]]) -> Run:
    """Run a command with sample options: ``sample("--count", "4")`` gives the exit code."""

    def speak(config: SampleConfig, to: Annotated[list[str] | None, typer.Argument()] = None) -> None:
        received.append({"config": config, "to": to})

    return offer(monkeypatch, speak)


def offer(monkeypatch: pytest.MonkeyPatch, command: Callable[..., None]) -> Run:
    """Make this command the program's only one."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(with_options(command))
    monkeypatch.setattr(cli, "app", app)
    return lambda *arguments: cli.main([*arguments] or ["--"])  # nothing at all would ask for the help


def test_without_options_the_command_gets_the_defaults(sample: Run, received: list[dict[str, Any]]) -> None:
    assert sample() == 0
    assert received == [{"config": SampleConfig(), "to": None}]


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--count", "4"], "count", 4),
        (["--share", "0.5"], "share", 0.5),
        (["--loud"], "loud", True),
        (["--no-polite"], "polite", False),
        (["--polite"], "polite", True),
        (["--formal"], "formal", True),
        (["--no-formal"], "formal", False),
        (["--colour", "blue"], "colour", Colour.blue),
        (["--words", "x,y,z"], "words", ("x", "y", "z")),
        (["--words", ""], "words", ()),
        (["--number", "1", "--number", "2.5"], "numbers", (1.0, 2.5)),
        (["--path", "here", "--path", "there"], "paths", (Path("here"), Path("there"))),
        (["--home", "elsewhere"], "home", Path("elsewhere")),
    ],
)
def test_an_option_becomes_the_field_of_its_name(
    sample: Run, received: list[dict[str, Any]], arguments: list[str], field: str, value: Any
) -> None:
    assert sample(*arguments) == 0
    assert received[0]["config"] == dataclasses.replace(SampleConfig(), **{field: value})


def test_parameters_that_are_no_configuration_stay_as_they_are(sample: Run, received: list[dict[str, Any]]) -> None:
    assert sample("Ann", "--loud", "Bob") == 0
    assert received == [{"config": SampleConfig(loud=True), "to": ["Ann", "Bob"]}]


def test_an_environment_variable_gives_a_default_that_an_option_overrules(
    sample: Run, received: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLE_HOME", "from-environment")
    sample()
    sample("--home", "given")
    assert [each["config"].home for each in received] == [Path("from-environment"), Path("given")]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--count", "0"], "--count 0"),
        (["--count", "ten"], "--count"),
        (["--share", "0"], "--share 0"),
        (["--share", "nan"], "--share nan"),
        (["--colour", "green"], "unknown colour 'green'"),
        (["--number", "1", "--number", "-1"], "--number -1"),
        (["--words", "why?"], "'why?' is a question"),
        (["--nonsense"], "--nonsense"),
    ],
    ids=" ".join,
)
def test_what_an_option_does_not_take_is_one_line_that_names_it_and_exit_code_2(
    sample: Run, received: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert sample(*arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n"), received) == ("", 1, [])
    assert named in captured.err


def test_the_help_shows_what_the_fields_say(sample: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(SampleConfig):
        assert field.metadata["option"].help in shown
    for word in ("--count", "[default: 3]", "--no-polite", "blue", "WORD,...", "[default: a,b]", "SAMPLE_HOME"):
        assert word in shown


@dataclass(frozen=True, kw_only=True)
class SharedConfig(Config):
    size: int = option(1, "How large.")


@dataclass(frozen=True)
class OwnConfig(SharedConfig):
    name: str = option("me", "Who.")


def test_what_configurations_share_comes_after_their_own_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak(config: OwnConfig) -> None:
        """Nothing to do."""

    offer(monkeypatch, speak)("--help")
    shown = capsys.readouterr().out
    assert shown.index("--name") < shown.index("--size")


@pytest.mark.parametrize(
    "config",
    [
        SampleConfig(),
        SampleConfig(count=4, share=0.1, loud=True, polite=False, formal=False, colour=Colour.blue, words=("x",)),
        SampleConfig(numbers=(1.0, 2.5), paths=(Path("a b"), Path("c")), home=Path("elsewhere")),
    ],
)
def test_the_arguments_of_a_configuration_make_it_again(
    sample: Run, received: list[dict[str, Any]], config: SampleConfig
) -> None:
    assert sample(*as_arguments(config)) == 0
    assert received[0]["config"] == config


def test_defaults_need_no_arguments() -> None:
    assert as_arguments(SampleConfig(), TrainingConfig()) == []


@dataclass(frozen=True)
class MoreTrainingConfig(TrainingConfig):
    momentum: float = option(0.9, "How much of the last step to take again.", minimum=0, maximum=1)


def test_a_training_option_is_added_by_its_field_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    received = []

    def train(training: MoreTrainingConfig) -> None:
        received.append(training)

    run = offer(monkeypatch, train)
    assert run("--momentum", "0.5", "--epochs", "2") == 0
    assert received == [MoreTrainingConfig(epochs=2, momentum=0.5)]
    assert run("--momentum", "2") == 2
    assert "--momentum 2.0" in capsys.readouterr().err


COMMANDS = {str(each.name or each.callback.__name__): each.callback for each in cli.app.registered_commands}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_a_command_belongs_to_two_of_its_configurations(name: str) -> None:
    # One of them would silently take the other's value.
    hints = typing.get_type_hints(inspect.unwrap(COMMANDS[name]))  # type: ignore[arg-type]
    configs = [hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, Config)]
    counts = Counter(field.name for config in configs for field in dataclasses.fields(config))
    assert [field for field, count in counts.items() if count > 1] == []
