import io
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from kd_cli.app import upload
from tests.app.conftest import Visit
from tests.app.images import as_png, html, plain


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Hears of the files that the server forgets."""
    spy = Mock()
    monkeypatch.setattr(MemoryUploadedFileManager, "remove_file", spy)
    return spy


def names(page: Any) -> list[str]:
    return [file.name for file in page.file_uploader[0].value]


def test_each_file_is_predicted_or_gets_a_message(visit: Visit, seven: bytes) -> None:
    page = visit("upload")
    page.file_uploader[0].set_value([("seven.png", seven, "image/png"), ("<b>*no*.png", b"text", "image/png")]).run()
    assert html(page).count("What the networks saw") == 1
    assert "&lt;b&gt;*no*.png" in html(page)
    assert [plain(each) for each in page.error] == [
        "cannot read <b>*no*.png: it is not a PNG, JPEG, WebP, BMP, GIF or TIFF file"
    ]


def test_an_image_of_several_digits_is_said_to_be_one(visit: Visit, seven: bytes) -> None:
    both = as_png(np.tile(np.asarray(Image.open(io.BytesIO(seven))), (1, 2)))
    page = visit("upload")
    page.file_uploader[0].set_value([("seven.png", seven, "image/png"), ("both.png", both, "image/png")]).run()
    assert html(page).count("Several digits: read no.") == 1


def test_more_images_than_are_shown_get_a_warning(visit: Visit, monkeypatch: pytest.MonkeyPatch, seven: bytes) -> None:
    monkeypatch.setattr(upload, "MAX_IMAGES", 2)
    page = visit("upload")
    page.file_uploader[0].set_value([(f"{i}.png", seven, "image/png") for i in range(3)]).run()
    assert html(page).count("What the networks saw") == 2
    assert "first 2" in page.warning[0].value


def test_too_many_megabytes_are_refused_and_forgotten(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, freed: Mock
) -> None:
    monkeypatch.setattr(upload, "TOTAL_MEGABYTES", 1)
    page = visit("upload")
    page.file_uploader[0].set_value([(f"{i}.png", bytes(300_000), "image/png") for i in range(4)]).run()
    assert freed.call_count == 4
    assert "upload up to 1 MB at a time" in plain(page.error[0])
    assert "What the networks saw" not in html(page)


def test_after_a_refusal_the_next_upload_is_predicted(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, seven: bytes
) -> None:
    monkeypatch.setattr(upload, "TOTAL_MEGABYTES", 1)
    page = visit("upload")
    page.file_uploader[0].set_value([("large.png", bytes(1_100_000), "image/png")]).run()
    page.file_uploader[0].set_value([("seven.png", seven, "image/png")]).run()
    assert html(page).count("What the networks saw") == 1
    assert not page.error


def test_images_that_are_replaced_are_forgotten(visit: Visit, freed: Mock, seven: bytes) -> None:
    page = visit("upload")
    page.file_uploader[0].set_value([("first.png", seven, "image/png")]).run()
    assert freed.call_count == 0
    page.file_uploader[0].set_value([("second.png", seven, "image/png")]).run()
    assert freed.call_count == 1
