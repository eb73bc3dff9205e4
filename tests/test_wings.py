"""Imports run downwards in the table of wings that CONTRIBUTING.md shows, and never in circles."""

import ast
import re
from graphlib import TopologicalSorter

import pytest

from tests.conftest import ROOT

ENTRIES = {"__init__", "__main__"}
"""What stands above the table."""

ROOMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "kd_cli").rglob("*.py")
}


def imports_of(room: str) -> set[str]:
    """The rooms that a room imports, wherever in its code."""
    found = set()
    for node in ast.walk(ast.parse(ROOMS[room].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{each.name}" for each in node.names}
            found |= (names | {node.module}) & ROOMS.keys()
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names} & ROOMS.keys()
    return found - {room, "kd_cli"}


def wing_of(room: str) -> str:
    return room.split(".")[1]


@pytest.fixture(scope="module")
def floors() -> dict[str, int]:
    """The row of the table in which a wing is, counted from above."""
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    return {
        wing.removesuffix(".py"): number for number, row in enumerate(rows) for wing in re.findall(r"`([\w.]+)/?`", row)
    }


def test_every_wing_is_in_the_table(floors: dict[str, int]) -> None:
    assert floors.keys() == {wing_of(room) for room in ROOMS if room != "kd_cli"} - ENTRIES


def test_imports_run_downwards(floors: dict[str, int]) -> None:
    inner = [room for room in ROOMS if room != "kd_cli" and wing_of(room) not in ENTRIES]
    arrows = {(room, other) for room in inner for other in imports_of(room)}
    assert len(arrows) > 300
    assert {(a, b) for a, b in arrows if floors[wing_of(a)] > floors[wing_of(b)]} == set()


def test_rooms_do_not_import_in_circles() -> None:
    assert len([*TopologicalSorter({room: imports_of(room) for room in ROOMS}).static_order()]) == len(ROOMS)
