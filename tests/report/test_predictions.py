"""Predictions as a table, as CSV, and the images that the networks saw."""

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kd_cli.commands.results import RankedClass, Score
from kd_cli.digits.boxes import Box
from kd_cli.report import comparison
from kd_cli.report.predictions import CSV_OF_DIGITS, is_our_csv, print_csv, print_images, print_predictions, write_csv
from tests.report import results
from tests.report.conftest import Printed
from tests.report.results import changed, failed_prediction, image_prediction, prediction, prediction_result

DEEP = f"{'a-folder/' * 15}7-mine.png"
MIXED = prediction_result(
    image_prediction("a.png", label="dog"),
    failed_prediction("broken.png"),
    image_prediction("b.png", student=prediction(2, 1), agree=False),
)
SCORES = {"teacher": Score(1, 1, 1.0), "student": Score(1, 2, 0.5)}


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


class TestTable:
    def test_ranks_the_classes_of_each_image(self, printed: Printed) -> None:
        out = printed(print_predictions, MIXED)
        assert out.splitlines()[0].strip() == "Predictions of networks trained on some-data"
        assert rows(out) == [
            ["a.png", "dog 75.0%, owl 18.8%", "dog 75.0%, cat 18.8%", "yes"],
            ["broken.png", "no prediction", "no prediction", "-"],
            ["b.png", "dog 75.0%, owl 18.8%", "owl 75.0%, dog 18.8%", "no"],
        ]

    def test_names_labels_and_accuracy_where_they_were_asked_for(self, printed: Printed) -> None:
        out = printed(print_predictions, changed(MIXED, accuracy=SCORES))
        assert [row[-1] for row in rows(out)] == ["dog", "-", "-"]
        assert "Teacher's accuracy 100.00% (1 of 1 correct)" in out
        assert "Student's accuracy 50.00% (1 of 2 correct)" in out

    def test_marks_what_is_incorrect(self, printed: Printed) -> None:
        correct = image_prediction(
            "dog.png", teacher=prediction(1, 2, correct=True), student=prediction(1, correct=True)
        )
        half = image_prediction("owl.png", teacher=prediction(2, 1, correct=True), student=prediction(1, correct=False))
        out = printed(print_predictions, prediction_result(correct, half, accuracy=SCORES))
        assert [row[1:3] for row in rows(out)] == [
            ["dog 75.0%, owl 18.8%", "dog 75.0%"],
            ["owl 75.0%, dog 18.8%", "!dog 75.0%"],
        ]
        assert "! marks an incorrect prediction." in out.splitlines()
        assert "marks" not in printed(print_predictions, prediction_result(correct, accuracy=SCORES))

    def test_marks_what_the_networks_are_not_sure_of_and_says_how_to_see_it(self, printed: Printed) -> None:
        out = printed(print_predictions, prediction_result(image_prediction("a.png"), image_prediction(unsure=True)))
        assert [[cell[0] for cell in row[1:3]] for row in rows(out)] == [["d", "d"], ["?", "?"]]
        assert "? not sure: the image may show none of the classes." in out.splitlines()
        assert "--show draws it, --save-preprocessed DIR keeps it." in out

    def test_says_how_to_see_what_the_networks_disagree_on(self, printed: Printed) -> None:
        assert "--save-preprocessed" in printed(print_predictions, MIXED)
        sure = printed(print_predictions, prediction_result(image_prediction(unsure=False)))
        assert "--save-preprocessed" not in sure
        assert "?" not in sure

    def test_does_not_divide_by_no_labels(self, printed: Printed) -> None:
        out = printed(print_predictions, changed(MIXED, accuracy={"teacher": Score(0, 0, None)}))
        assert "Teacher's accuracy unknown: no image has a label" in out

    def test_keeps_long_paths_whole_in_a_pipe(self, printed: Printed) -> None:
        (row,) = rows(printed(print_predictions, prediction_result(image_prediction(DEEP))))
        assert row[0] == DEEP

    @pytest.mark.parametrize("columns", [80, 100, 160])
    def test_keeps_the_end_of_a_long_path_in_one_line_of_a_terminal(
        self, printed: Printed, terminal: Callable[[int], None], columns: int
    ) -> None:
        terminal(columns)
        result = prediction_result(image_prediction(DEEP), image_prediction("short.png"))
        table = [line for line in printed(print_predictions, result).splitlines() if line.startswith("│")]
        long, short = rows("\n".join(table))
        assert [len(line) for line in table] == [columns] * 2
        assert long[0].startswith("…")
        assert long[0].endswith("/7-mine.png")
        assert short[0] == "short.png"

    def test_of_one_network_has_no_column_for_another(self, printed: Printed) -> None:
        alone = image_prediction("a.png", teacher=None, agree=None)
        out = printed(print_predictions, changed(MIXED, models=MIXED.models[1:], images=(alone,)))
        assert [name.strip() for name in out.splitlines()[2].split("┃")[1:-1]] == ["File", "Student"]
        assert rows(out) == [["a.png", "dog 75.0%, cat 18.8%"]]
        assert "teacher.safetensors" not in out

    @pytest.mark.parametrize(("length", "shown"), [(4, "name"), (14, "namenamenamena"), (60, "namenamenamen…")])
    def test_keeps_long_names_of_classes_apart_in_a_narrow_terminal(
        self, printed: Printed, terminal: Callable[[int], None], length: int, shown: str
    ) -> None:
        terminal(80)
        top = tuple(RankedClass(i, ("name" * 20)[:length], share) for i, share in enumerate((0.75, 0.1875)))
        each = changed(prediction(1, 2), top=top)
        out = printed(print_predictions, prediction_result(image_prediction(DEEP, teacher=each, student=each)))
        lines = [line for line in out.splitlines() if line.startswith("│")]
        assert {len(line) for line in lines} <= set(range(81))
        assert sum(line.count(f"{shown} 75.0%") for line in lines) == 2
        assert sum(line.count(f"{shown} 18.8%") for line in lines) == 2

    def test_says_which_of_several_digits_was_read(self, printed: Printed) -> None:
        several = image_prediction("b.png", digits=10, digit=3, box=Box(1, 2, 30, 40))
        out = printed(print_predictions, prediction_result(image_prediction(digits=1, digit=1), several))
        assert [row[:2] for row in rows(out)] == [["a.png", "-"], ["b.png", "read no. 3 of 10"]]
        assert "Several digits in 1 image: the one with most ink was read; --all reads each." in out.splitlines()

    def test_has_a_row_with_a_box_for_each_digit_if_all_are_read(self, printed: Printed) -> None:
        images = [image_prediction(digits=2, digit=number, box=Box(1, 2, 30 * number, 40)) for number in (1, 2)]
        out = printed(
            print_predictions,
            prediction_result(*images, failed_prediction(), every_digit=True, accuracy=SCORES),
        )
        assert [row[:2] for row in rows(out)] == [
            ["a.png", "1 of 2 at 1,2-30,40"],
            ["a.png", "2 of 2 at 1,2-60,40"],
            ["broken.png", "-"],
        ]
        assert "Box: left,top-right,bottom, in pixels of the image." in out.splitlines()
        assert "A label is for one digit: images of several digits, here 1, have none." in out.splitlines()
        assert "--all reads each" not in out

    def test_of_all_digits_fits_a_terminal_of_80_columns(
        self, printed: Printed, terminal: Callable[[int], None]
    ) -> None:
        terminal(80)
        image = image_prediction(DEEP, digits=10, digit=10, box=Box(1000, 1000, 2000, 2000))
        out = printed(print_predictions, prediction_result(image, every_digit=True))
        lines = [line for line in out.splitlines() if line.startswith("│")]
        assert [len(line) for line in lines] == [80, 80]
        assert "10 of 10" in lines[0]
        assert "1000,1000-2000,2000" in lines[1]

    def test_without_any_image_can_be_printed(self, printed: Printed) -> None:
        assert rows(printed(print_predictions, changed(MIXED, images=()))) == []


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


class TestCsv:
    def test_has_a_line_for_each_image(self, printed: Printed) -> None:
        first, broken, last = read_csv(printed(print_csv, MIXED))
        assert first == {
            **{"file": "a.png", "error": "", "unsure": "", "agree": "yes"},
            **{"teacher": "dog", "teacher_confidence": "0.750000"},
            **{"teacher_2": "owl", "teacher_2_confidence": "0.187500"},
            **{"student": "dog", "student_confidence": "0.750000"},
            **{"student_2": "cat", "student_2_confidence": "0.187500"},
        }
        assert broken == dict.fromkeys(first, "") | {"file": "broken.png", "error": "broken.png is no image"}
        assert (last["teacher"], last["student"], last["agree"]) == ("dog", "owl", "no")

    def test_has_labels_where_they_were_asked_for(self, printed: Printed) -> None:
        assert [line["label"] for line in read_csv(printed(print_csv, changed(MIXED, accuracy=SCORES)))] == [
            "dog",
            "",
            "",
        ]

    def test_has_the_place_of_each_digit_where_images_are_of_digits(self, printed: Printed) -> None:
        result = prediction_result(image_prediction(digits=2, digit=1, box=Box(1, 2, 30, 40)), failed_prediction())
        first, broken = read_csv(printed(print_csv, result))
        assert [first[name] for name in CSV_OF_DIGITS] == ["2", "1", "1", "2", "30", "40"]
        assert [broken[name] for name in CSV_OF_DIGITS] == [""] * 6

    def test_of_errors_alone_has_its_header(self, printed: Printed) -> None:
        (line,) = read_csv(printed(print_csv, prediction_result(failed_prediction())))
        assert (line["error"], line["teacher"], line["agree"]) == ("broken.png is no image", "", "")

    def test_is_the_same_in_a_file(self, printed: Printed, tmp_path: Path) -> None:
        write_csv(MIXED, tmp_path / "some.csv")
        assert (tmp_path / "some.csv").read_text() == printed(print_csv, MIXED)

    @pytest.mark.parametrize("name", ["a\x1b[31m\n.png", "a\udcff.png"])
    def test_keeps_any_name_in_a_file(self, tmp_path: Path, name: str) -> None:
        write_csv(prediction_result(image_prediction(name)), tmp_path / "some.csv")
        (line,) = read_csv((tmp_path / "some.csv").read_text(errors="surrogateescape"))
        assert line["file"] == name

    def test_on_a_terminal_does_not_steer_it(self, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        (line,) = read_csv(printed(print_csv, prediction_result(image_prediction("a\x1b[31m.png"))))
        assert line["file"] == r"a\x1b[31m.png"

    @pytest.mark.parametrize("accuracy", [None, SCORES])
    def test_is_known_again_by_its_header(self, tmp_path: Path, accuracy: dict[str, Score] | None) -> None:
        write_csv(changed(MIXED, accuracy=accuracy), tmp_path / "some.csv")
        assert is_our_csv(tmp_path / "some.csv")

    @pytest.mark.parametrize(
        "content", [b"", b"file,error\n", b"file,error,teacher,agree,mine\n", b"my,file,error,agree\n", b"\xff\xfe"]
    )
    def test_of_a_user_is_not_taken_for_ours(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "mine.csv").write_bytes(content)
        assert not is_our_csv(tmp_path / "mine.csv")

    def test_of_a_comparison_is_another_kind(self, tmp_path: Path) -> None:
        comparison.write_csv(results.comparison_result(), tmp_path / "runs.csv")
        assert not is_our_csv(tmp_path / "runs.csv")
        assert comparison.is_our_csv(tmp_path / "runs.csv")
        write_csv(MIXED, tmp_path / "some.csv")
        assert not comparison.is_our_csv(tmp_path / "some.csv")


class TestImages:
    def test_of_several_digits_are_told_apart(self, printed: Printed) -> None:
        out = printed(print_images, prediction_result(image_prediction(digits=3, digit=2)))
        assert out.splitlines()[0] == "a.png, digit 2 of 3"

    SEEN = np.zeros((1, 28, 28), np.uint8)
    SEEN[0, 0, 0] = SEEN[0, 1, 1] = SEEN[0, 2:4, 2] = 255

    def test_are_drawn_two_rows_to_a_line(self, printed: Printed) -> None:
        result = prediction_result(image_prediction("a.png", seen=self.SEEN), failed_prediction())
        lines = printed(print_images, result).splitlines()
        assert lines[0] == "a.png"
        assert [line.rstrip() for line in lines[1:3]] == ["▀▄", "  █"]
        assert [len(line) for line in lines[1:]] == [28] * 14

    def test_are_drawn_in_ascii_where_the_output_has_no_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
        print_images(prediction_result(image_prediction("a.png", seen=self.SEEN)))
        sys.stdout.flush()
        assert [line.rstrip() for line in content.getvalue().decode().splitlines()[1:3]] == ["'.", "  #"]

    def test_are_drawn_in_greys_where_the_terminal_has_colours(
        self, printed: Printed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLORTERM": "truecolor"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_COLOR", raising=False)
        result = prediction_result(image_prediction("a.png", seen=np.full((1, 28, 28), 100, np.uint8)))
        assert printed(print_images, result).count("38;2;100;100;100;48;2;100;100;100m▀") == 14 * 28

    @pytest.mark.parametrize(("channels", "colour"), [(2, "9;9;9"), (3, "9;8;7"), (4, "9;8;7")])
    def test_are_drawn_in_colour_as_wide_as_the_terminal(
        self,
        printed: Printed,
        terminal: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
        channels: int,
        colour: str,
    ) -> None:
        terminal(80)
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("COLORTERM", "truecolor")
        seen = np.broadcast_to(np.array([9, 8, 7, 6], np.uint8)[:channels, None, None], (channels, 25, 100))
        out = printed(print_images, prediction_result(image_prediction("a.png", seen=seen)))
        lines = out.splitlines()[1:]
        assert [line.count("▀") for line in lines] == [50] * 7
        assert all(f"38;2;{colour};48;2;{colour}m▀" in line for line in lines[:-1])
        assert f"38;2;{colour};48;2;0;0;0m▀" in lines[-1]  # there is no lower row
