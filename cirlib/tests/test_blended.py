"""The sliders that need no Python blend what was computed beforehand, each by its weight."""

import numpy as np
import pytest

from cirlib.degradation import TASKS
from cirlib.report.blended import blended, cut
from cirlib.tests.conftest import noise
from cirlib.tests.test_browser import browser  # noqa: F401  a fixture

pytestmark = pytest.mark.slow


def flat(grey) -> np.ndarray:
    return np.full((8, 12, 3), grey, np.uint8)


def test_sliders_show_the_versions_and_blends_between(browser, tmp_path):  # noqa: F811
    greys = [round(240 * float(task.mean())) for task in TASKS]
    page = browser.new_page(viewport={"width": 420, "height": 800})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    (tmp_path / "page.html").write_text(blended({"a": [flat(255), *map(flat, greys)]}, "a test"))
    page.goto((tmp_path / "page.html").as_uri())

    def seen(*task, split=0):
        names = ("Sharpen", "Denoise", "Clean JPEG", "Before | after")
        for name, t in zip(names, (*task, split), strict=True):
            page.get_by_label(name, exact=True).fill(str(t))
        canvas = page.locator(f"canvas[data-drawn$=',{split}']")
        page.wait_for_timeout(100)
        return canvas.evaluate(
            """(canvas) => [1, 11].map(
                (x) => canvas.getContext("2d").getImageData(x, 4, 1, 1).data[1])"""
        )

    for task, count in [((0, 0, 0), "one"), ((0.5, 1, 0.46), "one"),
                        ((0.25, 0.5, 0), "2"), ((0.25, 0.75, 0.8), "8")]:  # fmt: skip
        assert seen(*task) == pytest.approx([240 * np.mean(task)] * 2, abs=4)
        assert f"{count} " in page.locator(".cirlib-sliders [role=status]").inner_text()
    assert seen(0, 0, 0, split=0.5) == pytest.approx([255, 0], abs=3)
    canvas = page.locator("canvas").bounding_box()
    x, y = canvas["x"], canvas["y"] + 20
    page.mouse.move(x + canvas["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(x + canvas["width"] / 4, y)
    page.mouse.up()
    page.mouse.move(x + canvas["width"] / 8, y)
    assert page.get_by_label("Before | after").input_value() == "0.25"
    assert page.evaluate("document.documentElement.scrollWidth") <= 420 and not complaints
    page.close()


def test_a_cut_is_of_the_middle():
    image = noise(400, 600)
    assert np.array_equal(cut(image), image[50:350, 75:525])
    assert np.array_equal(cut(image[:9, :9]), image[:9, :9])
