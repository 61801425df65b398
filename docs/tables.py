"""The table of optimizers in README.md, from their declarations and the reference trajectories of the tests.

python docs/tables.py          writes it
python docs/tables.py --check  exits with 1 where it is not current
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from goldens import problem  # noqa: E402

from keras_optlab import optimizers  # noqa: E402

BEGIN, END = "<!-- optimizers: docs/tables.py -->", "<!-- end -->"


def proof(name: str) -> str:
    """Whose trajectories an optimizer follows, and to how much."""
    if not (ROOT / "tests" / "goldens" / f"{name}.npz").exists():
        return "its inner optimizer's"
    variants = problem.load(name)[1]["variants"].values()
    oracles = sorted({v["oracle"].split(" on the CPU")[0].split(", github")[0].split("(")[0].split(", ")[0] for v in variants})
    return f"{', '.join(f'`{oracle}`' for oracle in oracles)}, {max(v['tolerance'] for v in variants):.0e}"


def table() -> str:
    rows = ["| name | | paper | follows, within |", "|---|---|---|---|"]
    for name in optimizers.names():
        about = optimizers.describe(name)
        rows.append(f"| `{about['name']}` | {about['summary']} | {(about['reference'] or '').split(';')[0]} | {proof(name)} |")
    return "\n".join(rows)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = f"{text[:start]}\n{table()}\n{text[end:]}"
    if "--check" in sys.argv:
        return int(new != text)
    readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
