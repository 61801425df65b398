"""What the report tells of a search: several objectives, schedules, hyperparameters, early stops."""

import re

import numpy as np
import pytest
from report_cases import Page, records

from keras_optlab import report
from keras_optlab.report.goals import undominated
from keras_optlab.report.records import branches, first


def trial(number: int, score: float | None, values: dict, **more) -> dict:
    return {"trial_id": f"{number:04d}", "status": "COMPLETED" if score is not None else "FAILED", "score": score, "seconds": 1.0, "values": values} | more


def search(count: int = 20, **more) -> dict:
    """Trials whose score is `x`; `rate` is spaced evenly on a logarithmic scale."""
    trials = [trial(i, i / count, {"x": i / count, "rate": 10.0 ** (-4 * i / count), "kind": "ab"[i % 2], "tuner/epochs": i}) for i in range(count)]
    return {"title": "t", "objective": "score", "direction": "max", "trials": trials} | more


def section(source: str, name: str) -> str:
    return re.search(f'<section id="{name}">(.*?)</section>', source, re.S)[1]


def curves(source: str, style: str) -> list[str]:
    """The paths of a style, without the samples of the legends."""
    return [path for path in re.findall(f'<path class="curve {style}" d="(.*?)"', source) if path != "M1 6H21"]


def test_the_front_is_what_nothing_beats():
    values = np.array([[0.9, 10.0], [0.8, 5.0], [0.9, 12.0], [0.7, 6.0], [0.9, 10.0]])
    assert undominated(values, ["max", "min"]).tolist() == [True, True, False, False, True]
    assert undominated(values[:1], ["max", "min"]).tolist() == [True]


def goals(direction) -> dict:
    scores = [(0.9, 1000.0), (0.8, 500.0), (0.7, 2000.0), (0.95, 90000.0)]
    trials = [trial(i, None, {"x": i}, status="COMPLETED", scores={"val_accuracy": a, "parameters": p}) for i, (a, p) in enumerate(scores)]
    trials.append(trial(4, None, {"x": 4}, error="MemoryError: full", scores={}))
    return {"objective": ["val_accuracy", "parameters"], "direction": direction, "trials": trials}


@pytest.mark.parametrize("direction", [["max", "min"], None, "max"])
def test_several_objectives_are_a_front_and_columns(direction):
    source = report.page(goals(direction))
    page = Page(source)
    assert "Pareto front" in page.text and "3 of 4 trials on it" in page.text
    assert "best val_accuracy" in page.text and "95.00 %" in page.text
    heads = re.findall(r'<th scope="col" class="\w*">(.*?)</th>', source)
    assert heads[:4] == ["Trial", "val_accuracy", "parameters", "Time"] and "90,000" in page.text
    assert report.best_trial(goals(direction))["trial_id"] == "0003"


def test_where_nothing_keeps_the_constraints_that_is_said_and_there_is_no_front():
    broken = goals(["max", "min"])
    broken["trials"] = [one | {"excess": 0.2 + i} for i, one in enumerate(broken["trials"])]
    page = Page(report.page(broken))
    assert "None of them keeps the constraints: the nearest one breaks them by 20%." in page.text and "Pareto" not in page.text


def test_of_trials_alike_in_the_first_objective_the_winner_is_on_the_front():
    shared = goals(["max", "min"])
    shared["trials"] += [trial(i, None, {"x": i}, status="COMPLETED", scores={"val_accuracy": 0.95, "parameters": p}) for i, p in ((5, 700.0), (6, 800.0))]
    assert report.best_trial(shared)["trial_id"] == "0005"


def test_one_objective_is_left_as_it_is():
    one = records()
    assert first(one) is one
    assert "Pareto" not in report.page(one)


def test_a_populations_schedules_are_lines_with_dots_where_members_were_copied():
    def member(number, rates, parents):
        schedule = [{"epoch": 2 * i, "values": {"rate": rate, "fixed": 1.0}, "parent": parent} for i, (rate, parent) in enumerate(zip(rates, parents))]
        return trial(number, 0.5 + number / 10, {"rate": rates[-1]}, schedule=schedule, curve={"score": [0.1] * 8})

    members = [member(0, [0.1, 0.2, 0.1], [None, None, "0001"]), member(1, [0.3, 0.2, 0.4], [None, None, None])]
    source = section(report.page(search() | {"trials": members}), "search")
    drawn = source[source.index("Schedules of the population") :]
    assert re.findall(r"<b>(.*?)</b>", drawn)[:1] == ["rate"] and "fixed" not in drawn.split("<table")[0]
    assert len(curves(drawn, "light")) == len(curves(drawn, "best")) == 1
    assert "Trial 0000 went on from 0001" in drawn
    (path,) = curves(drawn, "best")
    steps = [tuple(map(int, step.split())) for step in re.findall(r"[ML](\d+ \d+)", path)]
    assert [x for x, _ in steps] == [0, 500, 500, 1000, 1000, 2000], "steps, the last one until the end of the curve"
    assert steps[0][1] == steps[1][1] != steps[2][1]


@pytest.mark.parametrize(
    "schedule", [[], [{}], [{"epoch": None, "values": None}], [{"epoch": 0, "values": {"rate": "inf"}}, {"epoch": 1, "values": {"rate": 2}}]]
)
def test_a_damaged_schedule_is_left_out(schedule):
    Page(report.page(search() | {"trials": [trial(0, 0.5, {"rate": 1}, schedule=schedule), trial(1, 0.6, {"rate": 2}, schedule=schedule)]}))


def test_importance_orders_everything_and_is_told_when_it_is_not_known():
    source = section(report.page(search(importance={"values": {"kind": 0.7, "x": 0.2, "rate": 0.1}, "note": "A remark."})), "parameters")
    assert re.findall(r'<li><span title="(.*?)"', source) == ["kind", "x", "rate"] and "70\u00a0%" in source and "A remark." in source
    assert re.findall(r'class="x head".*?>(\w+)<title>', source) == ["kind", "x", "rate", "score"]
    few = section(report.page(search(importance={"values": {}, "note": "Too few."})), "parameters")
    assert "Too few." in few and "<li>" not in few


def test_what_kerastuner_keeps_for_itself_is_no_parameter():
    source = report.page(search(winner={"trial_id": "0019", "values": {"x": 1.0, "tuner/epochs": 3}}))
    assert "tuner/" not in source


def test_axes_are_logarithmic_as_declared_or_as_the_values_suggest():
    def notes(space):
        source = section(report.page(search(space=space)), "parameters")
        return dict(re.findall(r"<figcaption><b>(\w+)</b>(?: <span>(log scale)</span>)?", source[source.index("Score against each") :]))

    assert notes([]) == {"x": "", "rate": "log scale", "kind": ""}
    declared = [{"class_name": "Float", "config": {"name": "rate", "sampling": "linear"}}, {"class_name": "Float", "config": {"name": "x", "sampling": "log"}}]
    assert notes(declared) == {"x": "log scale", "rate": "", "kind": ""}


def test_branches_share_a_column_unless_a_parameter_has_its_name():
    one, other = {"optimizer": "lion", "lion/rate": 1.0}, {"optimizer": "adam", "adam/rate": 2.0}
    trials = [trial(0, 0.1, one), trial(1, 0.2, other)]
    assert [branches(trials)(t) for t in trials] == [{"optimizer": "lion", "rate": 1.0}, {"optimizer": "adam", "rate": 2.0}]
    mixed = [*trials, trial(2, 0.3, {"optimizer": "lion", "rate": 3.0})]
    assert branches(mixed)(mixed[0]) == one


def test_a_trial_without_a_parameter_stands_below_its_axis():
    some = search()
    for one in some["trials"][::2]:
        one["values"] = {name: value for name, value in one["values"].items() if name != "x"}
    source = section(report.page(some), "parameters")
    assert ">none</text>" in source and ">failed</text>" not in source
    assert ">none</text>" not in section(report.page(search()), "parameters")


def test_early_stops_are_grey_and_rings_at_their_last_value():
    some = search()
    for one in some["trials"]:
        one["curve"] = {"score": [0.0, one["score"]]}
    some["trials"][5] |= {"status": "STOPPED", "score": None}
    source = report.page(some)
    page = Page(source)
    assert len(curves(source, "stopped")) == 1 and len(curves(source, "light")) == 18 and "stopped early" in page.text
    assert "Trial 0005: stopped at 0.25" in source and "19 finished, 1 stopped" in page.text


def test_under_noise_both_the_best_seen_and_the_best_expected_are_named():
    told = Page(report.page(search(best_mean={"trial_id": "0017", "mean": 0.9, "deviation": 0.02}))).text
    assert "Best score seen: trial 0019, 0.95. Best expected score, noise apart: trial 0017, 0.9 ± 0.02." in told
    assert "(the same)" in Page(report.page(search(best_mean={"trial_id": "0019", "mean": 0.9, "deviation": None}))).text


@pytest.mark.parametrize("count, finished", [(1, 1), (1, 0), (2, 1), (30, 0)])
def test_few_or_failed_trials_make_a_page(count, finished):
    trials = [trial(i, 0.5 if i < finished else None, {"x": i, "kind": "a"}, error="MemoryError") for i in range(count)]
    page = Page(report.page(search() | {"trials": trials}))
    assert ("Best so far" in page.text) == (finished > 0) and len(page.all("tr")) == 1 + min(count, 20 + finished)


def test_five_hundred_trials_of_forty_parameters_are_small():
    rng = np.random.default_rng(0)
    trials = [
        trial(i, float(rng.random()) if i % 9 else None, {f"p{j}": float(rng.random()) for j in range(40)}, curve={"score": rng.random(30).tolist()})
        for i in range(500)
    ]
    source = report.page(search(importance={"values": {f"p{j}": 1 / 40 for j in range(40)}}) | {"trials": trials})
    assert len(source) < 900_000 and "the 8 that matter most of 40" in source
