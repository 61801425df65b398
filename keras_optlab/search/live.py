"""What one sees of a search while it runs: a table that follows it on a terminal, elsewhere a line per trial in the log."""

import contextlib
import io
import logging
import math
import statistics
import sys
import textwrap
import time
from collections.abc import Iterator

from keras_optlab.report.text import clip, duration, finite, score, setting
from keras_optlab.search.log import logger
from keras_optlab.search.pruning import plain

PER_SECOND = 2  # how often the table is drawn anew
ROWS = 16  # most trials in the table
BEST = 4  # of which these are the best ones, where not all fit
BLOCKS = "▁▂▃▄▅▆▇█"
STATES = {"STOPPED": "stopped", "FAILED": "failed", "INVALID": "failed"}


class Progress:
    """What runs now, and how it is shown.

    Args:
        tuner: the tuner, whose oracle holds the trials.
    """

    def __init__(self, tuner):
        self.tuner, self.table = tuner, False
        self._curves: dict[str, list] = {}
        self._epochs: dict[str, tuple] = {}
        self._since: dict[str, float] = {}
        self._above: list[_Above] = []

    def epoch(self, trial_id: str, epoch: int, epochs: int | None, value: float | None) -> None:
        """Takes the end of an epoch of a trial that runs.

        Args:
            trial_id: id of the trial.
            epoch: its number, from 0.
            epochs: how many there will be, if that is known.
            value: the objective.
        """
        self._epochs[trial_id] = epoch + 1, epochs
        self._curves[trial_id] = [*(self._curves.get(trial_id, []) if epoch else []), value]

    @contextlib.contextmanager
    def shown(self, verbose) -> Iterator[None]:
        """Shows the search until the end of the block; not at all if `verbose` is 0. A block inside another one leaves it as it is."""
        if self.table:
            yield
            return
        level = logger.level
        lines = logging.StreamHandler()
        self.table = bool(verbose) and _is_terminal()
        try:
            if self.table:
                with self._drawn():
                    yield
            else:
                if verbose:
                    logger.setLevel(logging.INFO)
                    if not logger.hasHandlers():
                        logger.addHandler(lines)
                yield
        finally:
            self.table = False
            logger.setLevel(level)
            logger.removeHandler(lines)

    @contextlib.contextmanager
    def _drawn(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        draw = lambda: self.picture(*console.size)
        live = Live(console=console, get_renderable=draw, refresh_per_second=PER_SECOND, redirect_stdout=False, redirect_stderr=False)
        with _printing_above(console) as self._above:
            live.start()
            console.show_cursor(True)  # else it would stay hidden after a kill
            try:
                yield
            finally:
                live.stop()

    def picture(self, width: int = 100, height: int = 40):
        """The table as a rich renderable, at most `width` columns wide and `height` lines high."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        objectives = _names(self.tuner.oracle.objective)
        records = self.tuner.oracle.records.copy()
        ended = [records[trial_id] for trial_id in list(self.tuner.oracle.end_order) if trial_id in records]
        running = [record for record in records.values() if record["status"] == "RUNNING"]
        best = [trial.trial_id for trial in self.tuner.oracle.get_best_trials(ROWS)]
        room = max(1, min(ROWS, height - 7))
        running = running[-max(1, room // 2) :]
        room -= len(running)
        top = [] if len(ended) <= room else best[: min(BEST, room // 2)]
        rest = [record for record in ended if record["trial_id"] not in top]
        last = rest[max(0, len(rest) - room + len(top)) :]
        table = Table(box=None, padding=(0, 2, 0, 0), width=max(20, width - 3), header_style="dim", pad_edge=False)
        table.add_column("trial", no_wrap=True)
        table.add_column("epoch", justify="right", no_wrap=True)
        table.add_column(clip(", ".join(objectives), 24), justify="right", no_wrap=True)
        spark = 12 if width >= 80 else 6 if width >= 48 else 0
        if spark:
            table.add_column("", no_wrap=True, min_width=spark)
        if width >= 64:
            table.add_column("time", justify="right", no_wrap=True)
        table.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
        varying = _varying(list(records.values()))
        wanted = True, True, True, spark, width >= 64, True
        for record in [*(records[trial_id] for trial_id in top), None, *last, *running]:
            if record is None:
                if top:
                    table.add_row("⋯", style="dim")
                continue
            style = "bold" if best[:1] == [record["trial_id"]] else "cyan" if record in running else "dim" if record["status"] in STATES else ""
            table.add_row(*(Text(cell, style) for cell, shown in zip(self._row(record, objectives, spark, varying), wanted) if shown))
        tail = [_plain(stream.rest, width) for stream in self._above if stream.rest]
        return Group(Text(self._headline(ended, best, objectives)), table, *tail)

    def _row(self, record: dict, objectives: list[str], spark: int, varying: list[str]) -> list[str]:
        trial_id, status = record["trial_id"], record["status"]
        runs = status == "RUNNING"
        curve = (record.get("curve") or {}).get(objectives[0]) or self._curves.get(trial_id, [])
        done, of = self._epochs.get(trial_id, (0, None)) if runs else (len(curve), None)
        epoch = f"{done}/{of}" if of else str(done or "")
        value = _score(record, objectives) or (score(curve[-1], objectives[0]) if curve and finite(curve[-1]) is not None else "")
        now = time.monotonic()
        seconds = now - self._since.setdefault(trial_id, now) if runs else record.get("seconds")
        state = STATES.get(status, "")
        what = clip(record.get("error") or "", 120) if state == "failed" else brief(record["values"], varying)
        value = state if state == "failed" else f"{state} {value}".strip()
        return [clip(trial_id, 12), epoch, value, sparkline(curve, spark), _time(seconds), what]

    def _headline(self, ended: list[dict], best: list[str], objectives: list[str]) -> str:
        oracle = self.tuner.oracle
        done = f"{oracle.max_trials - oracle.remaining_trials()} of {oracle.max_trials} trials" if oracle.max_trials else ""  # what goes on counts once
        count = done or f"{len(ended)} trial{'' if len(ended) == 1 else 's'}"
        parts = [clip(self.tuner.project_name, 40), count]
        failed = sum(record["status"] in ("FAILED", "INVALID") for record in ended)
        parts += [f"{failed} failed"] if failed else []
        if best:
            parts.append(f"best {objectives[0]} {_score(oracle.records[best[0]], objectives)} in {best[0]}")
        parts.append(_time(oracle.elapsed))
        if left := self._left():
            parts.append(left)
        return " · ".join(parts)

    def _left(self) -> str:
        """The time left: what `max_minutes` leaves, or what as many trials as are left usually take."""
        oracle, now = self.tuner.oracle, time.monotonic()
        usual = [record["seconds"] for record in list(oracle.records.values()) if record["status"] in ("COMPLETED", "STOPPED") and record.get("seconds")]
        by_clock = self.tuner.deadline - now
        by_count = math.inf
        if oracle.max_trials and usual:
            one = statistics.median(usual)
            spent = sum(min(one, now - self._since.get(trial.trial_id, now)) for trial in list(oracle.ongoing_trials.values()))
            by_count = max(0.0, (oracle.remaining_trials() or 0) * one - spent)
        if min(by_clock, by_count) in (0.0, math.inf):
            return ""
        return f"about {_time(by_count)} left" if by_count < by_clock else f"{_time(max(0.0, by_clock))} left"


def line(record: dict, goals: list, best: list) -> str:
    """A finished trial in one line.

    Args:
        record: its record.
        goals: the objectives of the search.
        best: its best trials so far.
    """
    scores = record.get("scores", {goals[0].name: record["score"]})
    if record["status"] == "STOPPED":
        result = f"stopped after epoch {record['stopped']}"
    elif record["score"] is None:
        result = f"failed with {textwrap.shorten(record['error'] or '', 120)}"
    else:
        result = ", ".join(f"{name} {score:.5g}" for name, score in scores.items()) + (", which breaks `constraints`" if record.get("excess") else "")
    so_far = f" (best {best[0].score:.5g} in {best[0].trial_id}{f', {len(best)} on the front' if len(goals) > 1 else ''})" if best else ""
    named = [(name.rsplit("/", 1)[-1], value) for name, value in plain(record["values"]).items()]
    values = [f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in named]
    return f"Trial {record['trial_id']}: {result}{so_far}, {record['seconds']:.1f} s: {textwrap.shorten(', '.join(values), 100, placeholder=' ...')}"


def sparkline(values, width: int) -> str:
    """The course of some values in `width` characters; a blank is what is not finite."""
    numbers = [finite(value) for value in values]
    if len(numbers) > width > 0:
        numbers = [numbers[round(i * (len(numbers) - 1) / max(1, width - 1))] for i in range(width)]  # the first and the last among them
    known = [number for number in numbers if number is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    places = [None if number is None else round((number - low) / span * 7) if 0 < span < math.inf else 3 for number in numbers]
    return "".join(" " if place is None else BLOCKS[place] for place in places) if width else ""


def brief(values: dict, names: list[str] | None = None) -> str:
    """A configuration in one line, without what KerasTuner keeps among the values for itself.

    Args:
        values: hyperparameters by name.
        names: which of them; by default all.
    """
    shown = [name for name in (values if names is None else names) if name in values and not name.startswith("tuner/")]
    return clip(" ".join(f"{name.rsplit('/', 1)[-1]}={setting(values[name])}" for name in shown), 300)


def _varying(records: list[dict]) -> list[str]:
    """The hyperparameters that differ between the trials, or all of one."""
    seen: dict[str, set] = {}
    for record in records:
        for name, value in record["values"].items():
            seen.setdefault(name, set()).add(str(value))
    return [name for name, values in seen.items() if len(values) > 1] or list(seen)


def _names(objective) -> list[str]:
    return [one.name for one in getattr(objective, "objectives", [objective])]


def _score(record: dict, objectives: list[str]) -> str:
    scores = record.get("scores") or {objectives[0]: record.get("score")}
    known = [score(scores[name], name) for name in objectives if finite(scores.get(name)) is not None]
    return ", ".join(known).replace("\u00a0", " ")


def _time(seconds) -> str:
    return "" if finite(seconds) is None else duration(seconds if seconds < 10 else math.floor(seconds)).replace("\u00a0", " ").replace(".0 s", " s")


def _is_terminal() -> bool:
    """Whether a table can be drawn that stands while other things are printed: not in notebooks, files, and inside another table."""
    from rich.console import Console

    if isinstance(sys.stderr, _Above) or not sys.stderr.isatty() or not (sys.stderr.encoding or "").lower().startswith("utf"):
        return False
    console = Console(file=sys.stderr)
    return console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter


class _Above(io.TextIOBase):
    """Stands for stdout or stderr: whole lines are printed above the table, a line that is not ended (a progress bar) is its last row."""

    def __init__(self, console, stream):
        self.console, self.stream, self.rest = console, stream, ""

    def write(self, text: str) -> int:
        *whole, rest = (self.rest + text).split("\n")
        self.rest = rest.rsplit("\r", 1)[-1]
        if whole:
            from rich.text import Text

            self.console.print(Text("\n").join(_plain(line.rstrip("\r").rsplit("\r", 1)[-1]) for line in whole), soft_wrap=True)
        return len(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self):
        return self.stream.encoding


def _plain(line: str, width: int | None = None):
    """A printed line with its colours, without what moves the cursor."""
    from rich.ansi import AnsiDecoder

    text = AnsiDecoder().decode_line(line)
    if width:
        text.truncate(width - 1, overflow="crop")
    return text


@contextlib.contextmanager
def _printing_above(console) -> Iterator[list[_Above]]:
    """Sends what is printed or logged to the terminal through `console`."""
    before = {name: stream for name in ("stdout", "stderr") if (stream := getattr(sys, name)).isatty()}
    instead = {name: _Above(console, stream) for name, stream in before.items()}
    loggers = [logging.getLogger(), *(one for one in list(logging.root.manager.loggerDict.values()) if isinstance(one, logging.Logger))]
    handlers = [(handler, name) for one in loggers for handler in one.handlers for name in before if getattr(handler, "stream", None) is before[name]]
    for name, stream in instead.items():
        setattr(sys, name, stream)
    for handler, name in handlers:
        handler.setStream(instead[name])
    try:
        yield list(instead.values())
    finally:
        for handler, name in handlers:
            handler.setStream(before[name])
        for name, stream in instead.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, before[name])
