"""What is told of one training: the page with its marks and activations, the table for a terminal, and the record both are made from."""

import json
import re

import numpy as np
import pytest
from report_cases import Page, finding, images, looks, records, replaced

from keras_optlab import report
from keras_optlab.diagnosis import Finding, Record
from keras_optlab.diagnosis.telling import report_of
from keras_optlab.report import activations, grids
from keras_optlab.report.marks import marks

HOSTILE = [
    "[red]x[/red]",
    "[link=http://a]b[/link]",
    "\x1b[31mred\x1b[0m",
    "one\ntwo\r\nthree",
    "</svg><script>alert(1)</script>",
    "' onload='alert(1)",
    "n" * 10_000,
]


def diagnosis(layers: int = 6, steps: int = 30) -> dict:
    full = records(layers=layers, steps=steps)
    report = {key: full[key] for key in ("title", "created", "history", "gradients", "versions")}
    report["gradients"] |= {"loss": np.linspace(2, 1, steps).tolist(), "skipped": [i == 2 for i in range(steps)]}
    found = [
        finding("gradient-spike", "warning", first_step=100, last_step=100),
        finding("vanishing-gradient", "error", layer="layer_0", first_step=50, last_step=150, message="It `vanishes`.", advice="Use: `relu`"),
        finding("dead-units", "info", layer="layer_2", first_step=100, last_step=200, cause="vanishing-gradient"),
    ]
    pace = [{"steps": 50, "seconds": 5.0}, {"steps": 50, "seconds": 1.0, "cpu": 0.5}, {"steps": 50, "seconds": 2.0, "cpu": 3.0}]
    return report | {"kind": "diagnosis", "findings": found, "looks": looks(layers), "pace": pace}


def run() -> Record:
    """Eight samples of two layers; the fourth step is skipped, the last ones are not finite."""
    record = Record()
    weights = [{"path": f"{layer}/kernel", "layer": layer, "kind": "Dense", "shape": [2, 3], "activation": "relu"} for layer in ("first", "second")]
    for i in range(8):
        values = np.array([[1.0, 2.0, 0.01, 0.0, 0.0], [np.inf if i > 5 else 0.5, 2.0, 0.01, 0.0, 1.0 if i > 5 else 0.0]])
        record.add(10 * i, values, weights, 0.1, np.inf if i > 5 else 1.0 / (i + 1), skipped=i == 3)
    record.logs = {"loss": [1.0, np.inf], "val_loss": [np.nan, 2.0]}
    return record


def test_the_record_of_a_run_is_json_and_becomes_a_page():
    found = [Finding("non-finite", "error", "second", 60, 70, {"norm": np.inf, "share": np.float32(0.5), "count": np.int64(3)}, "Lost.", "Clip.")]
    told = report_of(run(), found, "my run")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["history"] == {"loss": [1.0, "inf"], "val_loss": [None, 2.0]}
    assert told["gradients"]["grad_norm"][7] == [1.0, "inf"] and told["gradients"]["skipped"][3] is True and told["gradients"]["loss"][7] == "inf"
    assert told["findings"][0]["evidence"] == {"norm": "inf", "share": 0.5, "count": 3} and "python" in told["versions"]
    page = Page(report.page(told))
    for words in (
        "Diagnosis of a training",
        "my run",
        "Error: non-finite",
        "Last loss not finite",
        "step skipped by the optimizer",
        "not finite",
        "70 (8 measured)",
    ):
        assert words in page.text, words


def test_the_page_can_be_saved_as_json(tmp_path):
    path = report.save(diagnosis(), tmp_path / "run.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(diagnosis()))


def test_findings_come_first_and_their_cause_is_the_headline():
    page = Page(report.page(diagnosis()))
    assert [found["id"] for found in page.all("section")] == ["findings", "training", "gradients", "activations", "course", "versions"]
    assert page.text.index("It vanishes .") < page.text.index("Findings")
    sound = Page(report.page(diagnosis() | {"findings": []}))
    assert "Nothing was found to be wrong." in sound.text and not sound.all("rect", **{"class": "halo"})
    odd = [finding("missing-normalization", "info", message="Odd.")]
    assert "Nothing was found to be wrong. What looks unusual: Odd." in Page(report.page(diagnosis() | {"findings": odd})).text


def drawn(source: str) -> list[tuple]:
    """Place and size of each outline on the map, in per cent."""
    pattern = r'<rect class="outline (\w+)" x="([\d.]+)%" y="(-?[\d.]+)%" width="([\d.]+)%" height="([\d.]+)%"><title>(\d+)'
    return [(kind, *map(float, numbers), int(place)) for kind, *numbers, place in re.findall(pattern, source)]


@pytest.mark.parametrize("layers", [5, 200, 1000])
@pytest.mark.parametrize("steps", [3, 30, 2000])
def test_marks_stand_at_their_layer_and_steps(layers, steps):
    norms = np.ones((steps, layers))
    names, at = [f"layer_{i}" for i in range(layers)], np.arange(steps) * 10
    found = [
        finding("one", "error", layer=names[layers // 2], first_step=10, last_step=10 * (steps - 1)),
        finding("two", "info", layer=names[-1], first_step=0, last_step=None),
        finding("three", "warning", first_step=0, last_step=10 * steps),
        finding("four", "warning", layer="not measured", first_step=10, last_step=10),
        finding("five", "warning", first_step=None, last_step=None),
    ]
    source = grids.heat_map("norms", norms, norms < 0, names, at, description="", marked=marks(found))
    page = Page(source)
    columns, rows = min(steps, 200), min(layers, 400)
    (info, x, y, width, height, place), (_, left, top, long, _, _) = drawn(source)
    assert info == "info" and x == 0 and width == pytest.approx(100 / columns, abs=0.01) and place == 5
    assert y <= 100 * (rows - 1) / rows and y + height >= 99.99
    assert left + long == pytest.approx(100, abs=0.02) and left <= 100 * max(1, 10 / (10 * steps / columns)) / columns
    assert top + 100 / rows >= 100 * (layers // 2) / layers - 0.02 and top <= 100 * (layers // 2) / layers + 0.02
    assert len(page.all("rect", **{"class": "span warning"})) == 2, "what has no row of its own stands above the map"
    assert [found["href"] for found in page.all("a")] == ["#finding-1", "#finding-2", "#finding-4", "#finding-5"], "the third names no step"
    assert names[layers // 2][-19:] in page.text and names[-1] in page.text, "marked layers are named"


def test_the_marks_and_the_findings_share_their_numbers():
    source = report.page(diagnosis())
    page = Page(source)
    for place, code in enumerate(["vanishing-gradient", "dead-units", "gradient-spike"], 1):
        assert page.all("article", id=f"finding-{place}")
        assert re.search(rf'id="finding-{place}"><h3><b>{place}</b>.*?<code>{code}</code>', source)
        assert re.search(rf'href="#finding-{place}">.*?<b>{place}</b>{code}</a>', source)


def test_numbers_in_the_margin_do_not_overlap():
    names = [f"layer_{i}" for i in range(200)]
    found = [finding("one", "error", layer=names[i]) for i in (7, 8, 9, 10, 10, 150)]
    norms = np.ones((5, 200))
    source = grids.heat_map("norms", norms, norms < 0, names, np.arange(5), description="", marked=marks(found))
    places = [float(y) for y in re.findall(r'<svg x="100%" y="([\d.]+)" overflow="visible"><text class="number"', source)]
    assert len(places) == 5 and min(np.diff(places)) >= 13 and "4, 5" in Page(source).text


def test_spikes_and_skipped_steps_stand_on_the_curve():
    page = Page(report.page(diagnosis()))
    # Each once, and once in the legend.
    assert len(page.all("path", **{"class": "above warn"})) == 2 and len(page.all("circle", **{"class": "ring soft"})) == 2
    assert "gradient spike at step 100" in page.text and "step skipped by the optimizer at step 100" in page.text
    between = diagnosis()
    between["findings"][0] |= {"first_step": 110, "last_step": 112}
    assert "gradient spike at step 100" in Page(report.page(between)).text, "the nearest measured step"
    again = diagnosis()
    again["findings"][0] |= {"last_step": 1450, "evidence": {"step": 1000.0}}  # it came back, and the loss has not
    source = Page(report.page(again))
    assert len(source.all("path", **{"class": "above warn"})) == 3 and "gradient spike at step 1,000" in source.text
    plain = diagnosis() | {"findings": []}
    plain["gradients"]["skipped"] = [False] * 30
    assert not Page(report.page(plain)).all("path", **{"class": "above warn"})


def test_histograms_keep_their_mass_on_the_common_axis():
    first = {"low": 0.0, "high": 1.0, "histogram": [10] * 20}
    wide = {"low": -4.0, "high": 4.0, "histogram": [0] * 10 + [1] * 10}
    lone = {"low": 0.5, "high": 0.5, "histogram": [7] + [0] * 19}
    edges = np.linspace(-4, 4, 49)
    for facts, low, high in ((first, 0, 1), (wide, 0, 4), (lone, 0.5, 0.5)):
        shares = activations._shares(facts, activations._edges(facts), edges)
        assert shares.sum() == pytest.approx(1) and shares.min() >= 0
        inside = (edges[:-1] <= high + 1e-6) & (edges[1:] >= low - 1e-6)
        assert shares[inside].sum() == pytest.approx(1)
    assert np.isnan(activations._shares({}, activations._edges({}), edges)).all()


def test_one_value_far_out_does_not_take_the_axis():
    usual = [{"low": -1.0, "high": 1.0, "histogram": [5] * 20} for _ in range(20)]
    usual[3] = {"low": -1.0, "high": 1e6, "histogram": [99_999] + [0] * 18 + [1]}
    assert activations._range([activations._edges(facts) for facts in usual]) == pytest.approx((-1.04, 1.04))
    for i in range(10, 20):
        usual[i] = {"low": -1.0, "high": 1e6, "histogram": [1] * 20}
    assert activations._range([activations._edges(facts) for facts in usual])[1] > 1e6, "where it is no exception"


@pytest.mark.parametrize("layers", [1, 5, 40])
def test_activations_of_some_layers_and_numbers_of_all(layers):
    sick = [finding("dead-units", "warning", layer=f"layer_{layers - 2}")]
    page = Page(report.page({"kind": "diagnosis", "looks": looks(layers), "findings": sick}))
    drawn = [picture for picture in images(page) if picture.shape[0] == 48]
    assert len(drawn) == min(layers, 8) + 1 and all(picture.shape == (48, 12, 4) for picture in drawn)  # and the predictions
    assert len(page.all("th", scope="row")) == layers
    for title in (*(["Mean", "Deviation"] if layers > 1 else []), "Zeros", "Dead units", "25 %"):
        assert title in page.text
    assert "Saturated" not in page.text, "a column without a value is none"
    assert "not finite" in page.text
    chosen = activations._chosen([f"layer_{i}" for i in range(layers)], {f"layer_{layers - 2}"})
    assert chosen[0] == "layer_0" and chosen[-1] == f"layer_{layers - 1}" and (layers == 1 or f"layer_{layers - 2}" in chosen)


def named(source: str) -> dict[str, str]:
    """What is told of each figure to those who cannot see it."""
    return dict(re.findall(r'aria-label="([^":]*(?:: mean off by)?): ([^"]*)"', source))


def test_predictions_statistics_and_pace_over_time():
    told = named(report.page(diagnosis()))
    assert told["Predictions"] == "Predictions at 12 looks, between -0.02 and 1.02."
    assert told["Entropy"] == "From 2 to 0.1667." and told["Share of the class named most"] == "From 50\u00a0% to 50\u00a0%."
    assert told["Batch normalization: mean off by"] == "At the end 0.125 in the median of 6 layers; most in layer_5."
    assert told["Batch variance over the moving one"] == "At the end 3.5 in the median of 6 layers; most in layer_5."
    assert told["Milliseconds per step"] == "From 100 to 40." and told["Idle"] == "From 50\u00a0% to 0\u00a0%.", "several threads at once are not idle"


def test_several_outputs_numbers_and_a_single_look():
    many = diagnosis(layers=200)
    numbers = {"spread": 0.5, "entropy": None, "largest": None, "low": -1.0, "high": 1.0, "histogram": [1] * 20}
    for look in many["looks"]:
        look["predictions"] = {f"output {i}": numbers for i in range(9)}
    told = named(report.page(many))
    assert "Predictions of output 2" in told and "Predictions of output 3" not in told and told["Spread of output 0"] == "From 0.5 to 0.5."
    assert "Entropy of output 0" not in told and "in the median of 200 layers" in told["Batch variance over the moving one"]
    lone = named(report.page(diagnosis() | {"looks": looks()[:1], "pace": [{"steps": 5, "seconds": 1.0}]}))
    assert "Predictions" in lone and not {"Entropy", "Batch normalization: mean off by", "Milliseconds per step"} & set(lone)
    assert "course" not in [found["id"] for found in Page(report.page(diagnosis() | {"looks": [], "pace": []})).all("section")]


@pytest.mark.parametrize("hostile", [*HOSTILE, None, float("nan"), "inf", -1, 1e308, [], {}, [[1]], 10**400])
def test_no_look_breaks_the_page(hostile):
    full = diagnosis()
    for bad in (
        full | {"looks": hostile},
        full | {"looks": [hostile]},
        full | {"looks": [{"step": hostile, "layers": {str(hostile): hostile}}]},
        full | {"looks": replaced(full["looks"], lambda leaf: hostile)},
        full | {"looks": [{"step": 0, "layers": {"a": {"low": hostile, "high": hostile, "histogram": hostile}}}]},
        full | {"looks": [look | {"predictions": hostile, "batch_norm": hostile} for look in full["looks"]], "pace": hostile},
        full | {"looks": [look | {"predictions": {str(hostile): {}, "a": hostile}, "batch_norm": {str(hostile): hostile}} for look in full["looks"]]},
        full | {"pace": [hostile, *replaced(full["pace"], lambda leaf: hostile)]},
        full | {"findings": [full["findings"][0] | {"evidence": {"step": hostile}}]},
        full | {"gradients": full["gradients"] | {"loss": hostile, "skipped": hostile}},
    ):
        source = report.page(bad)
        page = Page(source)
        assert len(page.all("script")) == 1 and not [name for _, found in page.tags for name in found if name.startswith("on")]
        assert not re.search(r'(?:\s[xyd]|width|height)="[^"]*(?:nan|inf)', source)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_layers_are_marked_harmlessly(hostile):
    bad = diagnosis()
    bad["gradients"]["layers"][0] = bad["findings"][1]["layer"] = hostile
    bad["looks"] = [look | {"layers": {hostile if name == "layer_0" else name: facts for name, facts in look["layers"].items()}} for look in bad["looks"]]
    page = Page(report.page(bad))
    assert len(page.all("rect", **{"class": "outline error"})) == 2, "one on the map, one in the legend"
    assert len(page.all("script")) == 1 and not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_a_large_run_stays_below_two_megabytes():
    big = diagnosis(layers=200, steps=2000)
    rng = np.random.default_rng(0)
    big["gradients"]["grad_norm"] = (10.0 ** rng.normal(0, 3, (2000, 200))).tolist()
    big["gradients"]["loss"] = rng.random(2000).tolist()
    big |= {"findings": big["findings"] * 20, "looks": looks(200, 100)}
    source = report.page(big)
    assert len(source.encode()) < 2_000_000 and "Left out" not in source
    Page(source)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_terminal_shows_every_finding_within_its_width(width):
    told = report.findings_table(diagnosis()["findings"], width)
    assert max(map(len, told.split("\n"))) <= width
    places = [told.index(code) for code in ("vanishing-gradient", "dead-units", "gradient-spike")]
    assert places == sorted(places)
    for words in ("error", "warning", "info", "layer_0", "50 to 150", "It `vanishes`.", "Use: `relu`"):
        assert words in told, words
    indents = {line.index(code) for line in told.split("\n") for code in ("vanishing-gradient", "gradient-spike") if code in line and "info" not in line}
    effect = next(line for line in told.split("\n") if "dead-units" in line)
    assert effect.startswith("    ") or effect.index("dead-units") > max(indents)


def test_a_run_without_findings_says_so():
    assert report.findings_table([], 80) == "No findings."
    assert report.findings_table([], None) == "No findings."


@pytest.mark.parametrize("width", [1, 40, 80, 160])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_harmless_on_a_terminal(hostile, width):
    keys = ("code", "layer", "message", "cause")
    told = report.findings_table([finding("a", "error") | dict.fromkeys(keys, hostile), finding("a", "error", advice=hostile), {}], width)
    assert "\x1b" not in told and "\r" not in told and "one\ntwo" not in told.split("a (")[0]
    assert max(map(len, told.split("\n"))) <= max(20, width) and len(told) < 40_000
    shown = "".join(told.split())
    assert "[31mred" in shown if "\x1b" in hostile else "".join(hostile.split())[:2] in shown
    if hostile.startswith("[red]"):
        assert "[red]x[/red]" in shown


def test_many_findings_are_cut_short():
    told = report.findings_table([finding(f"code-{i}", "warning") for i in range(500)], 80)
    assert "code-29" in told and "code-30" not in told and "The first 30 of 500 findings." in told
