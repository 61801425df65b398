"""The command line, as a user meets it: what it prints, what it leaves, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_optlab import cli, layers
from keras_optlab.search import Tuner

ROOT = Path(__file__).parent.parent


def stripes(folder, name="stripes.npz", seed=0):
    """Sixty small pictures of two classes that a net learns at once."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (60, 8, 8))
    y = np.arange(60) % 2
    x[y == 0, ::2] += 180
    x[y == 1, :, ::2] += 180
    np.savez(folder / name, x=x.astype("uint8"), y=np.array(["across", "down"])[y])
    return folder / name


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_search_and_what_comes_after_it(there, capsys):
    data = stripes(there)
    command = ("search", data, "--trials", 2, "--sampler", "random", "--pruner", "asha")
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert "Test accuracy" in out and "model.compile(" in out and "keras-optlab predict" in out
    model, page, project = (there / "saved_models" / name for name in ("stripes.keras", "stripes.html", "stripes_search"))
    assert "test accuracy" in page.read_text() and not list(there.glob("saved_models/.*"))
    assert "Epoch" not in out + err
    assert "Score against each" in page.read_text() and "too few finished trials" in page.read_text()
    (project / "result.json").rename(project / "elsewhere.json")
    assert run(capsys, "report", project)[0] == 0
    unfinished = page.read_text()
    assert "Winning configuration" in unfinished and "Gradient norm per layer" in unfinished and "test accuracy" not in unfinished
    (project / "elsewhere.json").rename(project / "result.json")
    status, told, _ = run(capsys, "report", project, "--json")
    assert status == 0 and json.loads(told) == {"report": str(page)} and "test accuracy" in page.read_text()

    written = model.stat().st_mtime_ns
    status, again, _ = run(capsys, *command)
    assert status == 0 and "Searching" not in again and model.stat().st_mtime_ns == written
    assert again.split("Test accuracy")[1] == out.split("Test accuracy")[1]

    status, out, _ = run(capsys, *command, "--json")
    assert status == 0 and {"test_accuracy", "majority", "values", "model", "report"} <= json.loads(out).keys()

    page.unlink()
    assert run(capsys, "report", project)[0] == 0 and "test accuracy" in page.read_text()

    status, _, err = run(capsys, "train", data, "--overwrite")
    assert status == 1 and "holds a search" in err

    other = stripes(there / "saved_models", seed=1)
    status, _, err = run(capsys, "search", other, "--trials", 2)
    assert status == 1 and "other images" in err and "--overwrite" in err

    loaded = keras.models.load_model(model)
    assert layers.class_names(loaded) == ["across", "down"]
    pictures = [there / f"{i}.png" for i in range(3)]
    for i, picture in enumerate(pictures):
        Image.fromarray(np.load(data)["x"][i]).resize((32 + i, 24)).save(picture)
    status, out, _ = run(capsys, "predict", model, *pictures, "--json")
    found = json.loads(out)
    assert status == 0 and [f["path"] for f in found] == [str(p) for p in pictures]
    assert all(f["label"] in ("across", "down") and 0.5 <= f["probability"] <= 1 for f in found)
    (there / "broken.png").write_bytes(pictures[0].read_bytes()[:60])
    status, out, err = run(capsys, "predict", model, there / "broken.png", pictures[0])
    assert status == 1 and "broken.png" in err and str(pictures[0]) in out

    status, out, _ = run(capsys, "search", data, "--trials", 1, "--overwrite", "--seed", 3)
    assert status == 0 and "Searching" in out


def test_a_training(there, capsys):
    data = stripes(there)
    command = ("train", data, "--optimizer", "schedule_free_adamw", "--schedule", "constant", "--epochs", 2, "--learning-rate", 1e-3)
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert "Test accuracy" in out and (there / "saved_models" / "stripes.html").exists()
    assert keras.models.load_model("saved_models/stripes.keras").optimizer.name.startswith("schedule_free")
    for again in (command, ("search", data, "--trials", 1)):
        status, _, err = run(capsys, *again)
        assert status == 1 and "exists already" in err and len(err.splitlines()) <= 2


def test_list_and_show(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0 and "soap" in out and "sam" in out
    assert list(json.loads(run(capsys, "list", "optimizers", "*adam*", "--json")[1])) == ["adam8bit", "adamw", "nadamw", "schedulefreeadamw"]
    assert {"cosine", "onecycle", "scaled", "warmup"} == {n.replace("_", "") for n in json.loads(run(capsys, "list", "schedules", "--json")[1])}
    assert {"auto", "cmaes", "genetic", "gp", "grid", "nsga2", "qmc", "random", "tpe"} == set(json.loads(run(capsys, "list", "samplers", "--json")[1]))
    assert ["asha", "hyperband", "median"] == list(json.loads(run(capsys, "list", "pruners", "--json")[1]))
    status, out, _ = run(capsys, "show", "Schedule-Free AdamW")
    assert status == 0 and "attach" in out and "warmup_steps" in out and "Defazio" in out
    assert run(capsys, "show", "asha")[1].startswith("ASHA: ") and run(capsys, "show", "Cosine")[1].startswith("Cosine: ")
    assert json.loads(run(capsys, "show", "gp", "--json")[1])["name"] == "GaussianProcess"
    out = run(capsys, "show", "lion", "--json")[1]
    assert json.loads(out)["name"] == "Lion" and "Infinity" not in out


def pictures(folder, **classes):
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((9, 9), 20 * i, "uint8")).save(folder / name / f"{i}.png")
    return folder


def objects(folder):
    np.savez(folder / "objects.npz", x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    return folder / "objects.npz"


def damaged(folder, name="damaged.keras"):
    (folder / name).write_text("nothing of the kind")
    return folder / name


REFUSED = {
    "unknown data": (lambda t: ["search", "digit"], "digits"),
    "an empty folder": (lambda t: ["search", pictures(t / "empty", **{})], "empty"),
    "a folder that is not there": (lambda t: ["search", t / "nothing"], "nothing"),
    "one class": (lambda t: ["search", pictures(t / "one", a=5)], "class"),
    "one image per class": (lambda t: ["search", pictures(t / "few", a=1, b=1)], "a"),
    "an npz of objects": (lambda t: ["search", objects(t)], "object"),
    "an unknown optimizer": (lambda t: ["train", stripes(t), "--optimizer", "lyon"], "lion"),
    "a modifier": (lambda t: ["train", stripes(t), "--optimizer", "sam"], "SAM modifies"),
    "a negative rate": (lambda t: ["train", stripes(t), "--learning-rate", -1], "learning_rate"),
    "an unknown sampler": (lambda t: ["search", stripes(t), "--sampler", "gpp"], "gp"),
    "an unknown pruner": (lambda t: ["search", stripes(t), "--pruner", "halving"], "asha"),
    "too little time": (lambda t: ["search", stripes(t), "--minutes", 0.05], "--minutes"),
    "an output that is a file": (lambda t: ["search", stripes(t), "--output", t / "stripes.npz"], "--output"),
    "an output below a file": (lambda t: ["train", stripes(t), "--output", t / "stripes.npz" / "x"], "--output"),
    "a model that is not there": (lambda t: ["predict", t / "x.keras", "y.png"], "x.keras"),
    "a model that is none": (lambda t: ["predict", stripes(t), "y.png"], "stripes.npz"),
    "a damaged model": (lambda t: ["predict", damaged(t), "y.png"], "damaged"),
    "a text that is named npz": (lambda t: ["search", damaged(t, "text.npz")], "no .npz file"),
    "a project that is not there": (lambda t: ["report", t / "x_search"], "x_search"),
    "a storage, whose password is not told": (lambda t: ["report", "postgresql://me:tiger@host/db"], "`PROJECT` must be"),
    "an optimizer to show": (lambda t: ["show", "loin"], "lion"),
    "a pattern without a match": (lambda t: ["list", "samplers", "x*"], "x*"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_told_in_two_lines(case, there, capsys):
    (there / "empty").mkdir()
    arguments, word = REFUSED[case]
    before = sorted(there.rglob("*"))
    command = arguments(there)
    made = sorted(there.rglob("*"))
    status, out, err = run(capsys, *command)
    assert status == 1 and word in err and 1 <= len(err.splitlines()) <= 2 and "tiger" not in err, (out, err)
    left = [path for path in sorted(there.rglob("*")) if path not in made and path not in before]
    assert not left, f"files are left behind: {left}"


def test_wrong_words_are_refused(capsys):
    options = (
        ("--seed", "-1"),
        ("--minutes", "-1"),
        ("--minutes", "soon"),
        ("--trials", "0"),
        ("--trials", "many"),
        ("--image-size", "0"),
        ("--seed", "99999999999"),
    )
    for words in (["serch"], *(["search", "digits", *option] for option in options)):
        with pytest.raises(SystemExit) as refused:
            cli.main(words)
        assert refused.value.code == 2


def test_the_command_is_quiet(tmp_path):
    """No word of TensorFlow's, no colours without a terminal."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, str(ROOT / "keras_optlab_launch.py"), "list", "--json"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stderr == "" and "lion" in json.loads(done.stdout) and "\033" not in done.stdout


def test_a_search_goes_on_for_longer_in_the_space_it_was_begun_with(there, capsys, monkeypatch):
    asked = []

    class Told(Exception):
        pass

    def classifier(*_, **arguments):
        asked.append((arguments["minutes"], arguments["speed"]))
        raise Told

    monkeypatch.setattr("keras_optlab.search.ImageClassifier", classifier)
    data = stripes(there)
    for options in (["--minutes", 3], ["--minutes", 8], ["--minutes", 8, "--overwrite"], ["--trials", 2, "--overwrite"]):
        assert run(capsys, "search", data, *options)[0] == 1
    assert [minutes for minutes, _ in asked] == [3, 3, 8, None] and asked[0][1] > 0


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_and_the_same_command_goes_on(tmp_path):
    data = stripes(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "keras_optlab_launch.py"), "search", str(data), "--trials", "4", "--sampler", "random"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=tmp_path) as child:
        for line in child.stdout:
            lines.append(line)
            if line.startswith("Trial 0001"):
                time.sleep(1)
                child.send_signal(signal.SIGINT)
    said = "".join(lines)
    assert child.returncode == 130 and "Interrupted" in said and "Test accuracy" in said and "Traceback" not in said, said
    assert (tmp_path / "saved_models" / "stripes.keras").exists() and (tmp_path / "saved_models" / "stripes.html").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and "Test accuracy" in done.stdout, done.stderr
    told = done.stdout + done.stderr
    assert "Trial 0002" in told and "Trial 0003" in told and "Trial 0000" not in told and "Trial 0001:" not in told


def test_nothing_that_was_made_is_lost_to_a_command_that_is_refused(there, capsys):
    kept = there / "out" / "stripes_search" / "result.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    status, _, err = run(capsys, "search", stripes(there), "--output", there / "out", "--overwrite", "--minutes", 0.01)
    assert status == 1 and "--minutes" in err and kept.exists()
    status, _, err = run(capsys, "search", stripes(there), "--output", there / "out", "--minutes", 1)
    assert status == 1 and "result.json is damaged" in err


def test_a_report_replaces_reports_only(there, capsys, monkeypatch):
    class Parabola(Tuner):
        def run_trial(self, trial, verbose):
            return trial.hyperparameters.Float("x", 0.0, 1.0)

    Parabola(objective=keras_tuner.Objective("loss", "min"), max_trials=1, project_name="mine", directory=there).search(verbose=0)
    page = there / "mine.html"
    page.write_text("my own page")
    status, _, err = run(capsys, "report", there / "mine")
    assert status == 1 and "no report" in err and page.read_text() == "my own page"
    page.unlink()
    monkeypatch.chdir(there / "mine")
    for _ in range(2):
        assert run(capsys, "report", ".")[0] == 0 and "<!doctype html>" in page.read_text()
    assert "too few finished trials" in page.read_text()


def test_lists_take_a_pattern_alone(capsys):
    assert set(json.loads(run(capsys, "list", "*adamw", "--json")[1])) == {"adamw", "nadamw", "schedulefreeadamw"}
