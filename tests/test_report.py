"""The report: one page that loads nothing, lets nothing in, and survives whatever a record holds."""

import base64
import copy
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image
from report_cases import Page, finding, images, mistake, records, replaced

from keras_optlab import report
from keras_optlab.report import html, text


def test_every_section_is_told():
    page = Page(report.page(records()))
    titles = [
        "Winning configuration",
        "Use the model",
        "Search",
        "Hyperparameters",
        "Training",
        "Gradients",
        "Findings",
        "Predictions on the test images",
        "Data",
    ]
    facts = ["98.3 %", "10.2 %", "12,345", "keras.Sequential", "load_model", "out of memory", "bad.jpg", "truncated", "3.15.1", "21 November 2026"]
    assert [found["href"] for found in page.all("a")[1:] if "class" not in found] == [f"#{found['id']}" for found in page.all("section")]
    for words in [*titles, "Versions and seeds", *facts]:
        assert words in page.text, words
    assert len(page.all("svg", role="img")) >= 8
    assert all(found.get("aria-label") for found in page.all("svg", role="img"))


def test_nothing_is_loaded_and_only_our_style_and_script_run():
    source = report.page(records())
    page = Page(source)
    for tag, found in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert found.get(name, "#").startswith(("#", "data:")), (tag, found)
        assert not [name for name in found if name.startswith("on") or name == "style"], (tag, found)
    assert "@import" not in source and not re.search(r"url\((?!#)", source)
    policy = next(found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, re.S)
        assert base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in policy


@pytest.mark.parametrize(
    "hostile",
    [
        "</title><script>alert(1)</script>",
        "\"><img src=x onerror='alert(1)'>",
        "]]></desc></svg><svg onload=alert(1)>",
        "' onmouseover='alert(1)",
        "`</code><b>` & &lt; <!-- ",
        "\ud800\x00\x1b[31m\u202eflesrever 猫 🙂\n\r\t",
        "ü" * 5000,
    ],
)
def test_no_text_becomes_markup(hostile):
    plain = records()
    keys = ("title", "created", "objective", "winner", "trials", "findings", "class_names", "mistakes", "data", "versions", "load")
    bad = plain | {key: replaced(plain[key], lambda leaf: hostile if isinstance(leaf, str) else leaf) for key in keys}
    bad["gradients"] = plain["gradients"] | {"layers": [hostile] * 6}
    bad["history"] = plain["history"] | {hostile: [1.0, 2.0]}
    bad["versions"] = {hostile: hostile}
    bad["winner"]["values"] = bad["trials"][0]["values"] = {hostile: hostile, f"{hostile}/rate": 1.0}
    bad["trials"][1]["curve"] = {hostile: [1.0, 2.0]}
    bad["findings"][0]["evidence"] = {hostile: hostile}
    bad["result"]["per_class"][0]["name"] = hostile
    source = report.page(bad)
    page = Page(source)
    assert len(source.encode()) < 2_000_000
    assert len(page.all("script")) == 1 and len(page.all("style")) == 1
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in Page(report.page(plain)).tags}
    assert not [name for _, found in page.tags for name in found if name.startswith("on") and name != "on"]
    assert " ".join(text.clip(hostile, 12).split()) in page.text


def test_control_characters_and_lone_surrogates_are_replaced():
    assert text.escape("a\ud800b\x00c\u202ed") == "a\ufffdb\ufffdc\ufffdd"
    assert text.escape("one\ntwo\tthree") == "one\ntwo\tthree"


@pytest.mark.parametrize("key", records())
def test_a_missing_or_lonely_section_is_no_problem(key):
    full = records()
    Page(report.page({name: value for name, value in full.items() if name != key}))
    Page(report.page({key: full[key]}))
    Page(report.page(full | {key: None}))


def test_an_empty_report_has_no_sections():
    page = Page(report.page({}))
    assert not page.all("section") and not page.all("nav") and page.all("h1")
    hollow = {"trials": [], "findings": [], "mistakes": [], "confusion": [], "history": {}, "gradients": {"layers": [], "steps": []}, "data": {}}
    assert not Page(report.page(hollow)).all("section")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf"), "inf", "-inf", "nan", 0, -1, 1e308, -1e308, 5e-324, 10**400])
def test_no_number_breaks_the_page(value):
    bad = replaced(records(), lambda leaf: value if isinstance(leaf, (int, float)) else leaf)
    source = report.page(bad)
    page = Page(source)
    for tag, found in page.tags:
        for name, content in found.items():
            if name in ("d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "transform", "fill-opacity"):
                assert not re.search("nan|inf|None", content), (tag, name, content)


@pytest.mark.parametrize("seed", range(40))
def test_records_with_random_holes_make_a_page(seed):
    rng = np.random.default_rng(seed)
    junk = [None, float("nan"), "inf", "-inf", 0, 1e300, True, -5]

    def holed(leaf):
        return junk[rng.integers(len(junk))] if rng.random() < 0.2 and not isinstance(leaf, np.ndarray | str) else leaf

    Page(report.page(replaced(records(layers=3, trials=6, steps=5), holed)))


def test_arrays_do_as_well_as_lists():
    lists = records()
    arrays = copy.deepcopy(lists)
    for name in ("layers", "steps", "learning_rate", "grad_norm", "weight_norm", "update_norm", "zero_share", "nonfinite_share"):
        arrays["gradients"][name] = np.array(arrays["gradients"][name])
    arrays["confusion"], arrays["class_names"] = np.array(arrays["confusion"]), np.array(arrays["class_names"])
    arrays["data"]["counts"]["train"] = np.array(arrays["data"]["counts"]["train"])
    arrays["history"] = {name: np.array(values) for name, values in arrays["history"].items()}
    assert report.page(arrays) == report.page(lists)


def test_a_huge_report_stays_below_two_megabytes():
    rng = np.random.default_rng(0)
    big = records(layers=500, trials=2000, classes=150, steps=1000)
    for trial in big["trials"]:
        trial["curve"] = {"val_accuracy": rng.random(300).tolist()}
        trial["values"] |= {f"parameter_{i}": float(rng.random()) for i in range(40)}
    big["mistakes"] = [mistake(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)) for _ in range(100)]
    big["gradients"]["grad_norm"] = (10.0 ** rng.normal(0, 3, (1000, 500))).tolist()
    big["findings"] = big["findings"] * 200
    big["history"] = {f"metric_{i}": rng.random(5000).tolist() for i in range(30)}
    big["data"]["skipped"] = [[f"{i}.jpg", "truncated"] for i in range(10_000)]
    source = report.page(big)
    page = Page(source)
    assert len(source.encode()) < 2_000_000
    assert "Left out" not in source and len(page.all("section")) == 10
    assert len(page.all("img")) == 24


def test_hostile_names_cannot_blow_up_the_page():
    rng = np.random.default_rng(0)
    huge = records(layers=500, trials=2000, classes=100, steps=1000)
    huge |= {"findings": huge["findings"] * 50, "mistakes": [mistake(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)) for _ in range(30)]}
    huge = replaced(huge, lambda leaf: '"' * 20_000 if isinstance(leaf, str) and leaf not in ("COMPLETED", "search", "max") else leaf)
    source = report.page(huge)
    Page(source)
    assert len(source.encode()) < 2_000_000


def test_too_large_parts_give_way_to_a_remark(monkeypatch):
    whole = report.page(records())
    monkeypatch.setattr(html, "_LIMIT", 30_000)
    page = Page(report.page(records()))
    assert "Left out" in page.text and "Findings" in page.text
    assert len(report.page(records())) < len(whole)


def test_the_headline_is_honest():
    told = Page(report.page(records())).text
    assert "The best of 12 trials recognizes 98.3 % of 297 test images it had never seen (95 % interval 96" in told
    poor = records() | {"result": {"test_accuracy": 0.12, "majority": 0.102}}
    assert "cannot be told from always answering with the most frequent class" in Page(report.page(poor)).text
    assert text.interval(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_trials_are_ranked_marked_and_failures_shown():
    page = Page(report.page(records()))
    best_first = [float(found["data-v"]) for tag, found in page.tags if tag == "td" and "data-v" in found][:1]
    assert best_first == [max(t["score"] for t in records()["trials"] if t["status"] == "COMPLETED")]
    assert page.text.count("winner") >= 2
    # Twice against the best so far, each with one more in the legend, and once in each of three slices.
    assert len(page.all("path", **{"class": "cross bad"})) == 2 + 5 * sum(t["status"] == "FAILED" for t in records()["trials"])
    assert len(page.all("circle", **{"class": "ring soft"})) == 2 + 5 * sum(t["status"] == "STOPPED" for t in records()["trials"])
    assert "learning_rate" in re.findall(r"<thead>.*?</thead>", report.page(records()))[0], "branches share one column"


def test_for_a_loss_the_lowest_is_best():
    low = records() | {"objective": "val_loss", "direction": "min", "winner": {}}
    page = Page(report.page(low))
    scores = sorted(t["score"] for t in low["trials"] if t["status"] == "COMPLETED")
    assert [float(found["data-v"]) for tag, found in page.tags if tag == "td" and "data-v" in found][0] == scores[0]


def test_one_bad_trial_does_not_squeeze_the_rest():
    far = records(trials=20)
    far["trials"][0]["score"] = 0.01
    page = Page(report.page(far))
    assert page.all("path", **{"class": "below soft"})
    assert "off the scale" in page.text
    assert not Page(report.page(records(trials=20))).all("path", **{"class": "below soft"})


def test_a_run_that_exploded_does_not_flatten_the_curves():
    losses = [{"trial_id": str(i), "status": "COMPLETED", "score": 0.5, "curve": {"val_loss": [2.0, 1.0, 0.5]}} for i in range(30)]
    losses[3]["curve"] = {"val_loss": [2.0, 1e20, 1e25]}
    source = report.page({"trials": losses, "objective": "val_loss", "direction": "min"})
    assert "the highest are cut off" in source
    best = max(re.findall('class="curve best" d="(.*?)"', source), key=len)  # the legend's sample is shorter
    heights = [int(y) for y in re.findall(r" (-?\d+)", best)]
    assert max(heights) - min(heights) > 500, "of 2000"


def test_one_trial_and_one_epoch_are_drawn():
    one = records(trials=1, steps=1) | {"history": {"loss": [1.0], "val_loss": [2.0]}}
    page = Page(report.page(one))
    assert len(page.all("circle", **{"class": "dot first"})) >= 1, "a curve of one point is a point"


def test_a_loss_that_was_not_finite_is_marked():
    broken = records() | {"history": {"loss": [1.0, None, "inf", 0.5], "val_loss": [1.0, 1.0, 1.0, 1.0]}}
    page = Page(report.page(broken | {"trials": []}))
    assert "not finite" in page.text
    # Two marks and the legend's.
    assert len(page.all("path", **{"class": "cross bad"})) == 3


def test_a_layer_without_gradient_is_not_called_broken():
    frozen = records()
    norms = np.array(frozen["gradients"]["grad_norm"])
    norms[:, 2] = np.nan
    frozen["gradients"]["grad_norm"] = [[None if np.isnan(v) else v for v in row] for row in norms]
    source = report.page(frozen)
    assert "never measured" in source and 'mask id="heat-lost"' not in source


@pytest.mark.parametrize("norm, share", [(None, 0.5), ("inf", None), (float("inf"), 0.0), (3.0, 0.01)])
def test_a_gradient_that_was_not_finite_is_marked(norm, share):
    broken = records()
    broken["gradients"]["grad_norm"][7][2] = norm
    broken["gradients"]["nonfinite_share"][7][2] = share
    (lost,) = re.findall('<mask id="heat-lost".*?href="data:image/png;base64,(.*?)"', report.page(broken))
    assert np.argwhere(np.asarray(Image.open(io.BytesIO(base64.b64decode(lost))))).tolist() == [[2, 7]]


def test_mistakes_come_most_confident_first():
    page = Page(report.page(records()))
    assert re.findall(r"(\d+) % sure", page.text) == ["93", "70", "60"]
    picture = images(page)[-3]
    assert np.array_equal(picture, records()["mistakes"][1]["image"][..., 0])


def test_findings_stand_under_their_cause_worst_first():
    told = Page(report.page(records())).text
    places = [told.index(words) for words in ("Error: learning-rate-too-high", "What follows from it", "Info: dead-units", "Warning: vanishing-gradient")]
    assert places == sorted(places)
    blocks = re.findall(r'aria-label="Advice as code"><code>(.*?)</code>', report.page(records()))
    assert blocks == ["learning_rate = 1e-3", "keras.layers.Dense(8, activation=&#x27;relu&#x27;)"] and "Use relu , or normalize:" in told
    assert "1 error and 1 warning from training" in told


def test_no_finding_is_lost_whatever_the_causes():
    circle = [finding("one", "info", cause="two"), finding("two", "info", cause="one"), finding("three", "info", cause="three")]
    chain = [finding("four", "info", cause="five"), finding("five", "info", cause="six"), finding("six", "error"), finding("six", "error", layer="b")]
    page = Page(report.page({"findings": [*circle, *chain, finding("seven", "info", cause="unknown")]}))
    assert len(page.all("article")) == 8
    assert sorted(re.findall(r"Info: (\w+)", page.text)) == ["five", "four", "one", "seven", "three", "two"]


def test_save_writes_whole_files_and_replaces_none(tmp_path, monkeypatch):
    path = tmp_path / "new" / "digits.html"
    assert report.save(records(), str(path)) == path
    assert path.read_text("utf-8") == report.page(records())
    with pytest.raises(ValueError, match=r"`path`.*Received: .*digits\.html.*`overwrite=True`"):
        report.save({"title": "other"}, path)
    assert "98.3" in path.read_text("utf-8")
    report.save({"title": "other"}, path, overwrite=True)
    assert "98.3" not in path.read_text("utf-8")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(html.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        report.save(records(), path, overwrite=True)
    assert "other" in path.read_text("utf-8") and [found.name for found in path.parent.iterdir()] == ["digits.html"]
