import torch

from kd_cli.app import samples
from kd_cli.data.dataset import Dataset
from tests.app.conftest import Visit
from tests.app.images import html


def test_a_class_and_disagreements_narrow_the_choice(tiny: Dataset) -> None:
    teacher, student = torch.randn(2, len(tiny.test), 10, generator=torch.Generator().manual_seed(0))
    rows = samples.choose(tiny, teacher, student, label=3, differ=True)
    expected = (teacher.argmax(1) != student.argmax(1)) & (tiny.test.labels == 3)
    assert sorted(rows) == expected.nonzero().flatten().tolist()


def test_without_a_choice_all_images_are_shown_in_their_order(tiny: Dataset) -> None:
    logits = torch.zeros(len(tiny.test), 10)
    assert samples.choose(tiny, logits, logits, None, differ=False) == list(range(len(tiny.test)))


def test_images_of_the_chosen_class_are_shown(visit: Visit) -> None:
    page = visit("samples")
    page.selectbox[0].select("4").run()
    shown = html(page)
    assert ": <strong>4</strong>" in shown
    assert ": <strong>5</strong>" not in shown
