"""The report's charts, pictures and numbers, each by itself."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from report_cases import Page, images, mistake

from keras_optlab import report
from keras_optlab.report import grids, text
from keras_optlab.report.plots import Scale, Series, chart, decimate, png


@pytest.mark.parametrize("layers", [1, 5, 200, 1000])
def test_the_heat_map_marks_zeros_and_what_is_not_finite(layers):
    steps = 5000 if layers < 200 else 400
    norms, broken = np.full((steps, layers), 0.1), np.zeros((steps, layers), bool)
    norms[:, -3:] = 0
    norms[steps // 2, 0] = np.nan
    broken[steps // 2, 0] = True
    drawn = grids.heat_map("Gradient norm", norms, broken, [f"layer_{i}" for i in range(layers)], np.arange(steps), description="norms")
    page = Page(drawn)
    _, cells, *masks = images(page)  # the first is the legend's ramp
    assert cells.shape[0] == min(layers, 400) and cells.shape[1] == 200 and cells.shape[2] == 4
    lost = masks[-1]
    assert (lost > 0).sum() == 1, "a single broken step survives the binning"
    row, column = np.argwhere(lost > 0)[0]
    assert (row, column) == (0, 100) and cells[row, column, 3] == 0
    assert "not finite" in page.text and "zero" in page.text
    assert cells[-1, 0, 3] == 0, "a zero has no colour on a logarithmic scale"


def test_a_spike_survives_the_heat_map():
    norms = np.full((4000, 3), 1e-3)
    norms[1234, 1] = 1e3
    page = Page(grids.heat_map("norms", norms, np.zeros(norms.shape, bool), ["a", "b", "c"], np.arange(4000), description=""))
    cells = images(page)[1].astype(int)
    lightness = cells[..., :3].sum(axis=-1)
    assert np.unravel_index(lightness.argmax(), lightness.shape) == (1, 1234 // 20)


def test_confusion_of_any_size():
    for classes, kind in [(2, "few"), (10, "some"), (25, "many"), (60, "crowd"), (100, "crowd")]:
        counts = 5 * np.eye(classes, dtype=int)
        counts[0, 1] = 3
        page = Page(report.page({"confusion": counts, "class_names": [f"name {i}" for i in range(classes)]}))
        (matrix,) = [found for tag, found in page.tags if tag == "figure" and "matrix" in found["class"]]
        assert kind in matrix["class"] and f"name {classes - 1}" in page.text
        assert re.search(r"name 0 taken for name 1 3 ×, 37.5 % of its images", page.text)
    many = 5 * np.eye(300, dtype=int)
    many[250, 251] = 4
    page = Page(report.page({"confusion": many}))
    assert "the 100 of 300 classes with the most mistakes" in page.text and "250 taken for 251" in page.text


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (8, 8, 1), (10_000, 2, 3), (300, 200, 3), (64, 64, 4)])
def test_pictures_of_any_size_are_small_and_keep_their_shape(shape):
    image = np.full(shape, 77, np.uint8)
    (picture,) = images(Page(report.page({"mistakes": [mistake(image)]})))
    assert max(picture.shape[:2]) <= 80 and np.all(picture == 77)
    assert max(shape[:2]) > 80 or picture.shape[:2] == shape[:2]


@pytest.mark.parametrize("image", [None, [], "x", np.zeros((0, 8, 1), np.uint8), np.zeros((2, 2, 7)), np.zeros(5), [["a"]]])
def test_a_picture_that_is_none_leaves_a_blank(image):
    page = Page(report.page({"mistakes": [mistake(image, None)]}))
    assert page.all("div", **{"class": "blank"}) and not page.all("img")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2, 1), (4, 6, 3), (5, 5, 4)])
def test_png_round_trip(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(png(pixels).split(",")[1]))))
    assert np.array_equal(decoded, pixels[..., 0] if len(shape) == 3 and shape[2] == 1 else pixels)


@pytest.mark.parametrize(
    "low, high", [(0, 1), (-3, 5e5), (1e-300, 1e-299), (1e290, 1e299), (-1e299, 1e299), (5, 5), (0, 0), (1, 1 + 1e-15), (5e-324, 5e-324), (0.2, 0.9), (3, 40)]
)
@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_few_and_within(low, high, log):
    scale = Scale.around(np.array([low, high], float), log)
    ticks = scale.ticks()
    places = scale([value for value, _ in ticks])
    assert len(ticks) <= 12
    assert np.all((places > -1e-6) & (places < 1 + 1e-6))
    assert len({label for _, label in ticks}) == len(ticks), ticks


def test_ticks_are_round():
    assert [label for _, label in Scale(0.0, 1.0).ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [label for _, label in Scale(-5.0, 0.0, log=True).ticks()] == ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]
    assert [label for _, label in Scale(0.9, 1.0).ticks(share=True)] == [f"{v}\u00a0%" for v in (90, 92, 94, 96, 98, 100)]
    assert [label for _, label in Scale(0.0, 3.0).ticks(6, integer=True)] == ["0", "1", "2", "3"]


def test_decimation_keeps_peaks_and_gaps():
    y = np.sin(np.arange(10_000) / 500)
    y[4321], y[777], y[6000] = 50, -50, np.nan
    x, kept = decimate(np.arange(10_000), y, 300)
    assert len(kept) < 500 and np.nanmax(kept) == 50 and np.nanmin(kept) == -50 and np.isnan(kept).sum() == 1
    assert np.all(np.diff(x) > 0) and np.array_equal(y[x], kept, equal_nan=True)


def test_a_chart_draws_values_where_they_belong():
    line = Series(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.5]), "first")
    drawn = chart("t", [line], description="d", x_label="x", scale=Scale(0.0, 1.0))
    assert '<path class="curve first" d="M0 2000L1000 0L2000 1000"/>' in drawn


@pytest.mark.parametrize(
    "value, told",
    [
        (12345, "12,345"),
        (0.98333, "0.9833"),
        (1.2e-5, "1.2e-5"),
        (123456.7, "1.235e5"),
        (1e9, "1e9"),
        (-0.0, "0"),
        (True, "1"),
        (None, "–"),
        ("inf", "–"),
        (float("nan"), "–"),
    ],
)
def test_numbers_read_well(value, told):
    assert text.number(value) == told


@pytest.mark.parametrize(
    "value, told",
    [(0.98316, "98.3 %"), (1, "100 %"), (0.9999, "99.99 %"), (0.5, "50 %"), (0, "0 %"), (0.0004, "0.04 %"), (1 - 1e-12, "100 %"), (None, "–")],
)
def test_only_all_is_a_hundred_per_cent(value, told):
    assert text.percent(value).replace("\u00a0", " ") == told


@pytest.mark.parametrize(
    "value, told", [(2**40 + 1, "1099511627777"), (np.int64(64), "64"), (1e-3, "0.001"), (3.3e-5, "3.3e-5"), (True, "True"), (None, "None"), ("lion", "lion")]
)
def test_settings_read_as_in_code(value, told):
    assert text.setting(value) == told


def test_matrix_mends_ragged_rows():
    assert np.array_equal(text.matrix([[1, 2, 3], [4], None, ["inf", None]], 2), [[1, 2], [4, np.nan], [np.nan, np.nan], [np.inf, np.nan]], equal_nan=True)
