"""The command line: every command is a few lines over the public API."""

import argparse
import contextlib
import fnmatch
import inspect
import json
import logging
import math
import signal
import sys
import time
import warnings
import zipfile
from pathlib import Path

import keras

from keras_optlab import data, layers, optimizers, report, results, schedules

RESERVE = 10.0  # seconds of a search's minutes that are kept for saving, testing and the report


def main(arguments: list[str] | None = None, started: float | None = None) -> int:
    """Runs a command.

    Args:
        arguments: what stands behind the command's name. Defaults to `sys.argv`.
        started: `time.monotonic()` when the process started. Defaults to now.

    Returns:
        The exit status: 0, or 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
    """
    args = parser().parse_args(arguments)
    args.started = time.monotonic() if started is None else started
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    try:
        return args.command(args) or 0
    except KeyboardInterrupt:
        return tell("Interrupted.", 130)
    except Exception as error:  # a command never ends in a traceback, unless it is asked for
        if args.debug:
            raise
        if isinstance(error, (ValueError, OSError, RuntimeError)):
            return tell(f"keras-optlab: {short(error)}", 1)
        return tell(f"keras-optlab: {type(error).__name__}: {short(error)}\n`keras-optlab --debug ...` shows where.", 1)


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser("keras-optlab", description="Search, train and explain image classifiers with Keras.")
    main_parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = main_parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name, command, help):
        one = commands.add_parser(name, help=help, description=help)
        one.set_defaults(command=command)
        one.add_argument("--json", action="store_true", help="print JSON and nothing else")
        return one

    def on_data(one):
        one.add_argument("data", metavar="DATA", help='"digits", a folder of class folders, an .npz, or the name of a keras.datasets set')
        one.add_argument("--output", default="saved_models", metavar="FOLDER", help="where the model and the report go (default: %(default)s)")
        one.add_argument("--seed", type=whole, default=0, help="seed of the split, the search and the training (default: %(default)s)")
        one.add_argument("--image-size", type=count, metavar="PIXELS", help="side of the images the model sees (default: from the data)")
        one.add_argument("--overwrite", action="store_true", help="start anew, replacing what is there")

    one = add("search", search, "search optimizer, rate, schedule, regularization and architecture of an image classifier")
    on_data(one)
    one.add_argument("--minutes", type=positive, help="wall clock of the whole command (default: 4, or unlimited where --trials is given)")
    one.add_argument("--trials", type=count, help="most configurations to train (default: as many as fit into the time)")
    one.add_argument("--sampler", default="gp", help="see `keras-optlab list samplers` (default: %(default)s)")
    one.add_argument("--pruner", help="what stops weak trainings early, see `keras-optlab list pruners` (default: nothing)")
    one = add("train", train, "train one image classifier with a named optimizer and schedule")
    on_data(one)
    one.add_argument("--optimizer", default="adamw", help="see `keras-optlab list optimizers` (default: %(default)s)")
    one.add_argument("--learning-rate", type=float, help="peak rate (default: the optimizer's)")
    one.add_argument("--schedule", choices=["cosine", "one_cycle", "constant"], default="cosine", help="default: %(default)s, after a warm-up")
    one.add_argument("--epochs", type=count, help="default: from the number of images")
    one = add("predict", predict, "name what is on images")
    one.add_argument("model", help="a .keras file made by search or train")
    one.add_argument("images", nargs="+", metavar="IMAGE")
    one = add("list", list_names, "list what there is")
    one.add_argument("what", nargs="?", default="optimizers", metavar="optimizers|schedules|samplers|pruners", help="default: %(default)s")
    one.add_argument("pattern", nargs="?", default="*", help="wildcards are allowed")
    one = add("show", show, "describe an optimizer, a schedule, a sampler or a pruner")
    one.add_argument("name")
    one = add("report", write_report, "write the report page of a search again, also while it runs")
    one.add_argument("project", metavar="PROJECT", help="the folder of a search, such as saved_models/digits_search")
    one.add_argument("--storage", metavar="ADDRESS", help="the storage of a search that several workers share; PROJECT is its name")
    return main_parser


def positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, received {text}")
    return float(text)


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0 and below 2**32, received {text}")
    return int(text)


def count(text: str) -> int:
    if not whole(text):
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, received {text}")
    return int(text)


def tell(text: str, status: int = 0) -> int:
    print(text, file=sys.stderr if status else sys.stdout, flush=True)
    return status


def short(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[:2]) if lines else type(error).__name__


def search(args) -> int:
    from keras_optlab.callbacks import GradientMonitor
    from keras_optlab.diagnosis import TrainingWarning
    from keras_optlab.search import ImageClassifier, Tuner, pruners, samplers
    from keras_optlab.search.image_classifiers import usual_speed

    samplers.get(args.sampler)
    pruners.get(args.pruner)
    images = data.load(args.data, seed=args.seed, image_size=args.image_size)
    out = Output(args.output, images.name)
    minutes = args.minutes or (None if args.trials else 4.0)
    wanted = {"fingerprint": images.fingerprint(), "minutes": minutes} | {n: getattr(args, n) for n in ("trials", "sampler", "pruner", "seed")}
    if not args.overwrite and out.stored.exists():
        before = results.read(out.stored)
        if before["request"]["fingerprint"] != wanted["fingerprint"]:
            raise ValueError(f"{out.project} holds a search on other images, or on another split of them. Choose another --output, or --overwrite it.")
        if before["finished"] and before["request"] == wanted and out.model.exists():
            return out.show(before, args.json)
    if not args.overwrite and not out.project.exists():
        out.refuse()
    warnings.filterwarnings("ignore", category=TrainingWarning)  # the report tells what was found in the best training
    keras.utils.set_random_seed(args.seed)
    spent = time.monotonic() - args.started + RESERVE
    if minutes and 60 * minutes <= spent:
        raise ValueError(f"`--minutes` must leave time for a training: start, saving and report alone take {spent:.0f} s. Received: {minutes:g}")
    out.prepare()
    if args.overwrite:
        out.stored.unlink(missing_ok=True)
    budget = out.begun_for({"minutes": minutes, "speed": usual_speed()}, args.overwrite)
    hypermodel = ImageClassifier(images.image_shape, len(images.class_names), train_size=sum(images.counts["train"]), **budget)
    tuner = Tuner(
        hypermodel,
        objective="val_accuracy",
        sampler=args.sampler,
        pruner=args.pruner,
        max_trials=args.trials,
        max_minutes=minutes and minutes - spent / 60,
        seed=args.seed,
        overwrite=args.overwrite,
        directory=str(out.folder),
        project_name=out.project.name,
    )
    if not args.json:
        tell(
            f"{images!r}\nSearching"
            + (f" for {minutes:g} minutes" if minutes else "")
            + (f", at most {args.trials} trials" if args.trials else "")
            + "; Ctrl-C saves the best so far."
        )
    interrupted = False
    try:
        with Stop.on_ctrl_c(), tuner.progress.shown(not args.json):
            tuner.search(images, callbacks=[GradientMonitor(), Stop()], verbose=0)
    except KeyboardInterrupt:
        interrupted = True
        finished = tuner.oracle.get_best_trials(1)
        tell(f"\nInterrupted: {'saving the best so far' if finished else 'no training was finished yet'}. The same command goes on.", 130)
        if not finished:
            return 130
    if not tuner.oracle.get_best_trials(1):
        failed = [t["error"] for t in tuner.records() if t["error"]]
        raise ValueError(
            "No training was finished"
            + (f"; the last of {len(failed)} failed with: {failed[-1]}" if failed else "")
            + ". Give more --minutes, or --trials instead."
        )
    model = layers.raw_pixel_model(tuner.get_best_models()[0], images)
    record = results.of_search(tuner, images, model, args.seed) | seen(out.project) | {"request": wanted, "finished": not interrupted}
    out.save(model, record)
    return out.show(record, args.json) or (130 if interrupted else 0)


def train(args) -> int:
    import keras_tuner

    from keras_optlab.callbacks import GradientMonitor
    from keras_optlab.search import ImageClassifier

    images = data.load(args.data, seed=args.seed, image_size=args.image_size)
    out = Output(args.output, images.name)
    if out.project.exists():
        raise ValueError(f"{out.project} holds a search, whose model and report a training would replace. Choose another --output.")
    if not args.overwrite:
        out.refuse()
    cls = optimizers.find(args.optimizer)
    if issubclass(cls, optimizers.Modifier):
        raise ValueError(f"`--optimizer` must name an optimizer; {cls.__name__} modifies one, which takes Python. Received: {args.optimizer}")
    name = cls.__name__.lower()
    keras.utils.set_random_seed(args.seed)
    hypermodel = ImageClassifier(images.image_shape, len(images.class_names), train_size=sum(images.counts["train"]), optimizers=(name,), epochs=args.epochs)
    hp = keras_tuner.HyperParameters()
    hp.values = {"schedule": args.schedule} | ({f"{name}/learning_rate": args.learning_rate} if args.learning_rate is not None else {})
    inner, monitor = hypermodel.build(hp), GradientMonitor()
    out.prepare()
    history = hypermodel.fit(hp, inner, images, callbacks=[monitor], verbose=0 if args.json else 2).history
    model = layers.raw_pixel_model(inner, images)
    record = results.of_training(history, images, model, hypermodel.code(hp.values), monitor, args.seed)
    out.save(model, record)
    return out.show(record, args.json)


def predict(args) -> int:
    from keras_optlab.image_files import read_image

    model = classifier(args.model)
    names, found, status = layers.class_names(model), [], 0
    for path in args.images:
        try:
            pixels = read_image(path, model.input_shape[-1])
        except ValueError as error:
            status = tell(f"keras-optlab: {short(error)}", 1)
            continue
        probabilities = model.predict_on_batch(pixels[None])[0]
        found.append({"path": path, "label": names[probabilities.argmax()], "probability": float(probabilities.max())})
        if not args.json:
            tell(f"{path}: {found[-1]['label']} ({found[-1]['probability']:.1%})")
    if args.json:
        tell(json.dumps(found))
    return status


def classifier(path: str) -> keras.Model:
    reason = "" if Path(path).is_file() else ", which is no file" if Path(path).exists() else ", which does not exist"
    if not reason and Path(path).suffix == ".keras" and not zipfile.is_zipfile(path):
        reason = ", which is damaged"
    if reason or Path(path).suffix != ".keras":
        raise ValueError(f"`MODEL` must be a .keras file made by `keras-optlab search` or `train`. Received: {path}{reason}.")
    try:
        return keras.models.load_model(path, compile=False)
    except KeyError as error:  # a zip without Keras' files in it
        raise ValueError(f"`MODEL` must be a .keras file made by `keras-optlab search` or `train`. Received: {path}: {error.args[0]}") from error


def named() -> dict[str, dict[str, type]]:
    """What there is under names, apart from optimizers."""
    from keras_optlab.search import pruners, samplers

    return {"schedules": schedules.CLASSES, "samplers": samplers.SAMPLERS, "pruners": pruners.PRUNERS}


def list_names(args) -> int:
    if args.what not in ("optimizers", *named()):
        args.what, args.pattern = "optimizers", args.what
    if args.what == "optimizers":
        found = {name: optimizers.find(name) for name in optimizers.names(args.pattern)}
    else:
        classes = named()[args.what]
        found = {name: classes[name] for name in fnmatch.filter(sorted(classes), args.pattern.lower())}
    summaries = {name: (cls.__doc__ or "").strip().split("\n")[0] for name, cls in found.items()}
    if not args.json and not summaries:
        raise ValueError(f"No {args.what} match {args.pattern!r}: `keras-optlab list {args.what}` shows all.")
    return tell(json.dumps(summaries) if args.json else "\n".join(f"{name:20s}{text}" for name, text in summaries.items()))


def show(args) -> int:
    plain = args.name.lower().replace("_", "")
    if cls := next((classes[plain] for classes in named().values() if plain in classes), None):
        text = inspect.getdoc(cls)
        return tell(json.dumps({"name": cls.__name__, "doc": text}) if args.json else f"{cls.__name__}: {text}")
    about = optimizers.describe(args.name)
    if args.json:
        for h in about["hyperparameters"].values():
            h["within"] = h["within"] and [x if math.isfinite(x) else None for x in h["within"]]
        return tell(json.dumps(about, allow_nan=False))
    lines = [f"{about['name']}: {about['summary']}"]
    lines += ["Needs `keras_optlab.training.attach(model)`."] if about["needs_attach"] else []
    for name, h in about["hyperparameters"].items():
        lines.append(f"  {name} = {h['default']}: {h['doc']}" + (f" Searched: {h['tune'][0]}, {', '.join(map(str, h['tune'][1:]))}." if h["tune"] else ""))
    return tell("\n".join(lines) + (f"\nReference: {about['reference']}" if about["reference"] else ""))


def seen(project: Path, storage: str | None = None) -> dict:
    """What the store of a search tells the report."""
    from keras_optlab.search import store
    from keras_optlab.search.importance import importance

    found = store.read(storage, project.name) if storage else store.read(project)
    return {n: found[n] for n in ("objective", "direction", "trials", "space", "best_mean") if n in found} | {"importance": importance(found)}


def write_report(args) -> int:
    from keras_optlab.search.checkpoints import record_of

    if ":/" in args.project:
        raise ValueError("`PROJECT` must be the folder of a search. Received: an address. Give it as --storage, and the name of the search as PROJECT.")
    project = Path(args.project)
    project = (project.parent if project.is_file() else project).resolve()
    found, finished = seen(project, args.storage), project / "result.json"
    record = (results.read(finished) if finished.exists() else {"title": project.name.removesuffix("_search"), "kind": "search"}) | found
    if not finished.exists() and (best := report.best_trial(record)):
        record |= {"winner": {n: best[n] for n in ("trial_id", "values")}, "history": best["curve"]}
        if best.get("checkpoint") and (monitored := record_of(project / best["checkpoint"])).exists():
            record |= results.monitored(json.loads(monitored.read_text()))
    page = project.with_name(f"{project.name.removesuffix('_search')}.html")
    if page.exists() and not report.is_page(page):
        raise ValueError(f"{page} exists and is no report. Rename it, or the project.")
    report.save(record, page, overwrite=True)
    return tell(json.dumps({"report": str(page)}) if args.json else f"Wrote {page}")


class Stop(keras.callbacks.Callback):
    """Ends a training between two batches after Ctrl-C. An exception that is raised wherever the program happens to be may be lost there."""

    asked = False

    @classmethod
    @contextlib.contextmanager
    def on_ctrl_c(cls):
        def ask(*_):
            cls.asked = True
            signal.signal(signal.SIGINT, before)  # a second one ends it at once

        cls.asked, before = False, signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_batch_begin(self, batch, logs=None):
        if Stop.asked:
            raise KeyboardInterrupt

    on_test_batch_begin = on_train_batch_begin


class Output:
    """The files of one result."""

    def __init__(self, folder: str, name: str):
        self.folder = Path(folder)
        self.model, self.page, self.project = self.folder / f"{name}.keras", self.folder / f"{name}.html", self.folder / f"{name}_search"
        self.stored = self.project / "result.json"

    def prepare(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(f"`--output` must be a folder that can be written. Received: {self.folder} ({error.strerror}). Choose another one.") from error

    def begun_for(self, budget: dict, overwrite: bool) -> dict:
        """What the space follows from: the time and speed that the search was begun with, so that it can go on for longer and elsewhere."""
        file = self.project / "budget.json"
        if overwrite or not file.exists():
            self.project.mkdir(exist_ok=True)
            file.write_text(json.dumps(budget))
        return json.loads(file.read_text())

    def refuse(self) -> None:
        if existing := [file for file in (self.model, self.page, self.project) if file.exists()]:
            raise ValueError(f"{existing[0]} exists already. Choose another --output, or --overwrite it.")

    def save(self, model, record: dict) -> None:
        """Each file appears whole or not at all."""
        draft = self.model.with_name(f".{self.model.stem}.part.keras")
        record["load"] = (
            f'import keras\nimport keras_optlab\n\nmodel = keras.models.load_model("{self.model.as_posix()}")\nprint(keras_optlab.layers.class_names(model))'
        )
        record["files"] = {"model": str(self.model), "report": str(self.page)}
        try:
            model.save(draft)
            draft.replace(self.model)
            report.save(record, self.page, overwrite=True)
            if self.project.exists():
                results.write(record, self.stored)
        except OSError as error:
            raise ValueError(
                f"{self.folder} could not take the model and its report: {error.strerror or error}. Make room, or choose another --output."
            ) from error
        finally:
            draft.unlink(missing_ok=True)

    def show(self, record: dict, as_json: bool) -> int:
        result = record["result"]
        if as_json:
            short_result = {n: result[n] for n in ("test_accuracy", "majority")} | {"values": record["winner"]["values"], **record["files"]}
            return tell(json.dumps(short_result))
        worst = min((c for c in result["per_class"] if c["count"]), key=lambda c: c["accuracy"])
        beside = f"always the largest class: {result['majority']:.4f}; weakest class {worst['name']!r}: {worst['accuracy']:.4f}"
        tell(f"\nTest accuracy {result['test_accuracy']:.4f} ({beside})")
        tell(f"\nThe winning configuration as Python:\n\n{record['winner']['code']}" if record["kind"] == "search" else "")
        if skipped := record["data"]["skipped"]:
            tell(f"{len(skipped)} files could not be read and were skipped: {', '.join(name for name, _ in skipped[:3])}{', ...' if len(skipped) > 3 else ''}")
        tell(f"Model:  {self.model}\nReport: {self.page}\n\nNext: keras-optlab predict {self.model} IMAGE...")
        return 0
