"""What one sees while a search runs, and what is said of it afterwards."""

import io
import logging
import re
import sys

import keras
import keras_tuner
import numpy as np
import pytest
from rich.console import Console
from search_cases import Formula, no_waiting_for_the_disk

from keras_optlab.search import Tuner, live, store
from keras_optlab.search.importance import importance
from keras_optlab.search.summary import summary

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f\u202e]")


@pytest.fixture(autouse=True, scope="module")
def fast():
    with no_waiting_for_the_disk():
        yield


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = ""

    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Puts a terminal in the place of stderr and stdout; called within a test, as pytest changes both before it."""

    def put(term="xterm-256color", encoding="utf-8") -> Terminal:
        for name, value in {"TERM": term, "COLUMNS": "100", "LINES": "40"}.items():
            monkeypatch.setenv(name, value)
        screen = Terminal()
        screen.encoding = encoding
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdout", screen)
        return screen

    return put


class Curved(Formula):
    """Every fifth trial fails, and every trial reports four epochs."""

    def run_trial(self, trial, **_):
        value = super().run_trial(trial)
        if int(trial.trial_id) % 5 == 3:
            raise MemoryError("no [b]room[/b]\x1b[31m \u202e")
        for epoch in range(4):
            self.progress.epoch(trial.trial_id, epoch, 4, value / (epoch + 1))
        return value


def searched(tmp_path, trials=12, cls=Curved, **settings) -> Formula:
    tuner = cls(objective=keras_tuner.Objective("loss", "min"), directory=tmp_path, project_name="mine", max_trials=trials)
    tuner.search(verbose=settings.pop("verbose", 0), **settings)
    return tuner


def seen(tuner, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO())
    console.print(tuner.progress.picture(width, height))
    return console.file.getvalue().splitlines()


def test_the_table_shows_the_trials_and_where_the_search_stands(tmp_path):
    tuner = searched(tmp_path)
    lines = seen(tuner, 100, 40)
    best = tuner.oracle.get_best_trials(1)[0]
    assert lines[0].startswith(f"mine · 12 of 12 trials · 2 failed · best loss {best.score:.4g} in {best.trial_id}")
    assert [line.split()[0] for line in lines[2:]] == [f"{i:04d}" for i in range(12)]
    assert "failed" in lines[5] and "MemoryError: no [b]room[/b]" in lines[5]
    assert "█" in lines[2] and "x=" in lines[2] and "kind=" in lines[2]


def test_a_configuration_that_goes_on_counts_once(tmp_path):
    tuner = searched(tmp_path, 3)
    last = tuner.oracle.records["0002"]
    tuner.oracle.records["0001"]["values"] |= {"tuner/trial_id": "0000"}
    assert last["status"] == "COMPLETED" and seen(tuner, 100, 40)[0].startswith("mine · 2 of 3 trials · ")


@pytest.mark.parametrize("width, height", [(20, 6), (44, 10), (64, 14), (100, 24), (200, 60)])
def test_the_table_fits_any_terminal(tmp_path, width, height):
    tuner = searched(tmp_path, 30)
    lines = seen(tuner, width, height)
    assert max(map(len, lines)) <= width and len(lines) <= max(height, 8)
    assert not CONTROL.search("".join(lines))
    assert any(tuner.oracle.get_best_trials(1)[0].trial_id in line for line in lines[2:])


def test_of_many_trials_the_best_and_the_last_are_shown(tmp_path):
    tuner = searched(tmp_path)
    for i in range(12, 400):
        tuner.oracle.records[f"{i:04d}"] = {"trial_id": f"{i:04d}", "status": "FAILED", "score": None, "values": {"x": 0.1}, "error": "E"}
        tuner.oracle.trials[f"{i:04d}"] = tuner.oracle.trials["0003"]  # which has failed
        tuner.oracle.end_order.append(f"{i:04d}")
    tuner.oracle.records["0400"] = {"trial_id": "0400", "status": "RUNNING", "score": None, "values": {"x": 0.1}, "error": None}
    tuner.progress.epoch("0400", 0, 27, 0.5)
    tuner.progress.epoch("0400", 1, 27, 0.25)
    first = [line.split()[0] for line in seen(tuner, 100, 24)[2:]]
    best = [trial.trial_id for trial in tuner.oracle.get_best_trials(live.BEST)]
    assert first[:5] == [*best, "⋯"] and first[-2:] == ["0399", "0400"] and len(first) <= live.ROWS + 1
    running = seen(tuner, 100, 24)[-1]
    assert "2/27" in running and "0.25" in running and "█▁" in running


def test_on_a_terminal_there_is_a_table_and_what_is_printed_stands_above_it(tmp_path, on_terminal):
    terminal = on_terminal()

    class Loud(Curved):
        def run_trial(self, trial, **more):
            print(f"warned in {trial.trial_id}", file=sys.stderr)  # as `warnings` does: pytest keeps those for itself
            print(f"printed in {trial.trial_id}")
            logging.getLogger("mine").warning("logged [in] %s", trial.trial_id)
            sys.stdout.write("\b\b\b\r\x1b[1m1/2\x1b[0m bar\b\b\r\x1b[1m2/2\x1b[0m bar")
            return super().run_trial(trial, **more)

    handler = logging.StreamHandler()
    logging.getLogger("mine").addHandler(handler)
    try:
        searched(tmp_path, 3, Loud, verbose=1)
        assert handler.stream is sys.stderr is sys.stdout is terminal
    finally:
        logging.getLogger("mine").removeHandler(handler)
    drawn = terminal.getvalue()
    for words in ("warned in 0002", "printed in 0001", "logged [in] 0000", "3 of 3 trials", "2/2"):
        assert words in drawn
    assert "Trial 0000:" not in drawn, "a line per trial would say it twice"
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") - 1, "the cursor is not hidden, lest it stay so after a kill"
    above = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).split("\n")
    assert "printed in 0000" in [line.rsplit("\r", 1)[-1] for line in above]


@pytest.mark.parametrize("error", [KeyboardInterrupt, keras_tuner.errors.FatalRuntimeError])
def test_the_terminal_is_given_back_whatever_ends_the_search(tmp_path, on_terminal, error):
    terminal = on_terminal()

    class Ended(Curved):
        def run_trial(self, trial, **more):
            if trial.trial_id == "0002":
                raise error("ended")
            return super().run_trial(trial, **more)

    level = live.logger.level
    tuner = Ended(objective=keras_tuner.Objective("loss", "min"), directory=tmp_path, project_name="mine", max_trials=5)
    with pytest.raises(error):
        tuner.search()
    assert sys.stderr is sys.stdout is terminal and not tuner.progress.table and live.logger.level == level
    assert terminal.getvalue().endswith("\x1b[?25h") and "2 of 5 trials" in terminal.getvalue()
    assert [record["status"] for record in tuner.records()] == ["COMPLETED", "COMPLETED", "RUNNING"]


def test_a_search_within_another_ones_table_writes_lines(tmp_path, on_terminal, caplog):
    on_terminal()

    class Outer(Curved):
        def run_trial(self, trial, **more):
            searched(tmp_path / "inner", 1, verbose=1)
            return super().run_trial(trial, **more)

    searched(tmp_path / "outer", 1, Outer, verbose=1)
    assert "Trial 0000: loss" in caplog.text


@pytest.mark.parametrize("verbose, term, encoding", [(0, "xterm", "utf-8"), (1, "dumb", "utf-8"), (1, "xterm", "ascii")])
def test_without_a_proper_terminal_there_are_lines_and_with_verbose_0_nothing(tmp_path, on_terminal, caplog, verbose, term, encoding):
    terminal = on_terminal(term, encoding)
    searched(tmp_path, 1, verbose=verbose)
    assert not terminal.getvalue() and ("Trial 0000: loss" in caplog.text) == bool(verbose)


def test_the_table_stands_for_keras_bars_unless_they_are_asked_for(tmp_path, on_terminal):
    terminal = on_terminal()

    def build(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.1)), "mse")
        return model

    x = np.zeros((4, 2), "float32")
    tuner = Tuner(build, objective="loss", sampler="random", max_trials=1, seed=0, directory=tmp_path, project_name="bars")
    tuner.search(x, x[:, :1], epochs=2)
    assert "1 of 1 trials" in terminal.getvalue() and "Epoch" not in terminal.getvalue() and "ms/step" not in terminal.getvalue()
    tuner.oracle.max_trials = 2
    tuner.search(x, x[:, :1], epochs=2, verbose=2)
    assert "Epoch 2/2" in terminal.getvalue()


@pytest.mark.parametrize(
    "values, width, drawn",
    [
        ([], 8, ""),
        ([1.0], 8, "▄"),
        ([0, 7], 8, "▁█"),
        ([0, None, float("nan"), 7], 8, "▁  █"),
        (range(100), 4, "▁▃▆█"),
        ([1e308, -1e308], 2, "  "),
        ([1, 2], 0, ""),
    ],
)
def test_sparklines(values, width, drawn):
    assert live.sparkline(list(values), width) == drawn


def test_the_time_left_is_that_of_the_clock_or_of_the_trials(tmp_path, monkeypatch):
    tuner = searched(tmp_path, 4)
    assert tuner.progress._left() == ""
    for record in tuner.oracle.records.values():
        record["seconds"] = 60.0
    tuner.oracle.max_trials = 7
    assert tuner.progress._left() == "about 3 min 0 s left"
    tuner.deadline = live.time.monotonic() + 90.5
    assert tuner.progress._left() == "1 min 30 s left"


def space() -> list[dict]:
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    for kind in "ab":
        with hp.conditional_scope("kind", [kind]):
            hp.Float("rate", 1e-5, 1.0 if kind == "a" else 0.1, sampling="log")
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("depth", 1, 9)
    hp.Float("idle", 0, 1)
    hp.Fixed("fixed", 3)
    hp.Int("tuner/epochs", 1, 9)
    return hp.get_config()["space"]


def made(count: int, fail: int = 0, **more) -> dict:
    rng, trials = np.random.default_rng(0), []
    for i in range(count + fail):
        values = {"kind": "ab"[i % 2], "rate": 10.0 ** rng.uniform(-5, -1), "idle": float(rng.random()), "fixed": 3, "tuner/epochs": int(rng.integers(1, 10))}
        values |= {"depth": int(rng.integers(1, 10))} if i % 2 else {}
        score = -abs(np.log10(values["rate"]) + 3)
        trials.append({"trial_id": f"{i:04d}", "status": "COMPLETED", "score": score, "values": values})
    for trial in trials[count:]:
        trial |= {"status": "FAILED", "score": None}
    return {"objective": "score", "direction": "max", "space": space(), "trials": trials} | more


def test_importance_finds_what_matters_in_a_conditional_space():
    found = importance(made(40, fail=5))
    rates = [share for name, share in found["values"].items() if name.startswith("rate")]
    assert len(rates) == 2 and sum(rates) > 0.6, "one name under two conditions, each with its own range"
    assert set(found["values"]) - {"kind", "idle", "depth"} == {name for name in found["values"] if name.startswith("rate")}
    assert sum(found["values"].values()) == pytest.approx(1) and "40 finished trials" in found["note"] and "hint" not in found["note"]


def test_importance_says_when_it_cannot_tell():
    assert importance(made(9, fail=20)) == {"values": {}, "note": "There are too few finished trials to tell: 9, and 10 are needed."}
    same = made(20)
    for trial in same["trials"]:
        trial["score"] = 1.0
    assert importance(same)["values"] == {} and "the same score" in importance(same)["note"]
    assert "rough hint" in importance(made(12))["note"]


def test_importance_of_several_objectives_is_that_of_the_front():
    both = made(60, objective=["score", "size"], direction=["max", "min"])
    for trial in both["trials"]:
        trial["scores"], trial["score"] = {"score": trial["score"], "size": abs(np.log10(trial["values"]["rate"]) + 3)}, None
    assert sum(share for name, share in importance(both)["values"].items() if name.startswith("rate")) > 0.5


def test_the_summary_names_the_best_what_mattered_and_what_failed(tmp_path, capsys):
    tuner = searched(tmp_path, 20)
    tuner.results_summary(2)
    said = capsys.readouterr().out
    first, second = tuner.oracle.get_best_trials(2)
    assert said.startswith("mine: 20 trials, 4 failed; ") and f"loss {first.score:.4g}, trial {first.trial_id}" in said and "2. loss" in said
    assert "and 14 finished trials more." in said and "What mattered: " in said and "Failed 4 times: MemoryError" in said
    assert not CONTROL.search(said)


def test_the_summary_says_that_none_keeps_the_constraints(tmp_path):
    class Both(Formula):
        def result(self, x, n):
            return {"loss": x + 1, "size": n + 2}

    goals = [keras_tuner.Objective("loss", "min"), keras_tuner.Objective("size", "min")]
    Both(objective=goals, constraints={"size": 1}, directory=tmp_path, project_name="mine", max_trials=5).search(verbose=0)
    assert "None of 5 finished trials keeps the constraints: the nearest one breaks them by 100 %." in " ".join(summary(store.read(tmp_path / "mine")).split())


def test_the_summary_of_nothing_and_of_failures(tmp_path, capsys):
    Formula(objective=keras_tuner.Objective("loss", "min"), directory=tmp_path, project_name="new", max_trials=1).results_summary()
    assert "no trial was run yet" in capsys.readouterr().out

    class Failing(Formula):
        def result(self, x, n):
            raise ValueError("nothing works")

    searched(tmp_path, 3, Failing)
    said = summary(store.read(tmp_path / "mine"))
    assert "3 trials, 3 failed" in said and "Failed 3 times: ValueError: nothing works" in said and "too few" in said
