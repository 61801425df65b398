"""The tables of optimizers in README.md and of rules in docs/diagnosis.md, from declarations, docstrings and the reference trajectories of the tests.

python docs/tables.py          writes them
python docs/tables.py --check  exits with 1 where one is not current
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from goldens import problem  # noqa: E402

from keras_optlab import optimizers  # noqa: E402
from keras_optlab.diagnosis.rules import RULES  # noqa: E402

BEGIN, END = "<!-- {}: docs/tables.py -->", "<!-- end -->"


def proof(name: str) -> str:
    """Whose trajectories an optimizer follows, and to how much."""
    if not (ROOT / "tests" / "goldens" / f"{name}.npz").exists():
        return "its inner optimizer's"
    variants = problem.load(name)[1]["variants"].values()
    oracles = sorted({v["oracle"].split(" on the CPU")[0].split(", github")[0].split("(")[0].split(", ")[0] for v in variants})
    return f"{', '.join(f'`{oracle}`' for oracle in oracles)}, {max(v['tolerance'] for v in variants):.0e}"


def optimizers_table() -> str:
    rows = ["| name | | paper | follows, within |", "|---|---|---|---|"]
    for name in optimizers.names():
        about = optimizers.describe(name)
        rows.append(f"| `{about['name']}` | {about['summary']} | {(about['reference'] or '').split(';')[0]} | {proof(name)} |")
    return "\n".join(rows)


def rules_table() -> str:
    rows = ["| code | what | needs | threshold |", "|---|---|---|---|"]
    for code, rule in sorted(RULES.items()):
        numbers = lambda match: f"{getattr(rule, match[0], match[0])}"
        text = re.sub(r"\b[A-Z][A-Z_]{2,}\b", numbers, " ".join(rule.__doc__.split()))
        what, needs, threshold, _ = re.split(r" (?:Needs:|Thresholds?[:,]|Not to be confused with:) ", text)
        rows.append(f"| `{code}` | {what} | {needs} | {threshold} |")
    return "\n".join(rows)


TABLES = {"README.md": ("optimizers", optimizers_table), "docs/diagnosis.md": ("rules", rules_table)}


def current(file: str) -> str:
    """The text of a file with its table as it should be."""
    name, table = TABLES[file]
    text, begin = (ROOT / file).read_text(), BEGIN.format(name)
    start = text.index(begin) + len(begin)
    return f"{text[:start]}\n{table()}\n{text[text.index(END, start) :]}"


def main() -> int:
    old = {file: (ROOT / file).read_text() for file in TABLES}
    new = {file: current(file) for file in TABLES}
    if "--check" in sys.argv:
        return int(new != old)
    for file, text in new.items():
        (ROOT / file).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
