"""The house: who imports whom, what an import costs, what must not stand in the code."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BACKEND

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "keras_optlab"
MODULES = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in PACKAGE.rglob("*.py")}
# a room may import the rooms named here, and itself
GROUND = {"report", "diagnosis", "data", "image_arrays", "image_files", "problems", "layers", "schedules"}
BELOW = {
    "keras_optlab": {"layers", "optimizers", "schedules"},
    **{room: set() for room in GROUND},
    "data": {"image_arrays", "image_files"},
    "image_arrays": {"image_files"},
    "optimizers": {"schedules"},
    "training": {"optimizers", "diagnosis", "schedules", "layers"},
    "callbacks": {"training", "optimizers", "diagnosis", "report", "schedules"},
    "search": {"callbacks", "training", "optimizers"} | GROUND,
    "results": GROUND,
    "testing": {"training", "optimizers", "search"} | GROUND,
    "cli": {"results", "callbacks", "training", "optimizers", "search"} | GROUND,
}
LIGHT = {"keras", "numpy"} | set(sys.stdlib_module_names)
EXTRA = {"search": {"keras_tuner", "optuna", "scipy"}, "data": {"tensorflow"}}
BACKEND_FILES = {"keras_optlab.optimizers.shell.run", "keras_optlab.training.instrument", "keras_optlab.training.attach"}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(file: Path, everywhere: bool):
    """Imported module names; those at the top only, or also those inside functions."""
    tree = ast.parse(file.read_text())
    nodes = ast.walk(tree) if everywhere else (n for top in tree.body for n in (ast.walk(top) if isinstance(top, (ast.If, ast.Try)) else [top]))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    for name in imports(MODULES[module], everywhere=True):
        if name.startswith("keras_optlab.") and room(name) != room(module):
            assert room(name) in BELOW[room(module)], f"{module} imports {name}: {room(module)} may import {sorted(BELOW[room(module)])}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_imports_stand_inside_functions(module):
    allowed = LIGHT | EXTRA.get(room(module), set()) | {"keras_optlab"}
    for name in imports(MODULES[module], everywhere=False):
        package = name.split(".")[0]
        backend = package in ("tensorflow", "jax", "torch") and module in BACKEND_FILES
        assert package in allowed or backend, f"{module} imports {name} at its top: put it inside the function that needs it"


@pytest.mark.parametrize("module", MODULES)
def test_only_public_apis(module):
    text = MODULES[module].read_text()
    for word in ("keras.src", "keras_tuner.src", "allow_pickle=True", "pickle.load"):
        assert word not in text, f"{module} contains {word}"


def test_an_upward_import_is_found(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from keras_optlab.search import tuner\n")
    assert "keras_optlab.search" in list(imports(planted, everywhere=True))
    assert "search" not in BELOW["optimizers"]


def test_an_optimizer_file_is_short():
    assert len((PACKAGE / "optimizers" / "lion.py").read_text().splitlines()) <= 25


def test_import_is_light():
    """Neither the search nor what it needs is loaded by `import keras_optlab`."""
    heavy = ("keras_tuner", "optuna", "scipy.stats", "sklearn", "PIL", "keras_optlab.search", "keras_optlab.cli")
    code = f"import sys, keras_optlab; print([m for m in {heavy} if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": BACKEND}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    loaded = out.stdout.strip().splitlines()[-1]
    assert loaded == "[]" or BACKEND == "tensorflow" and "keras_optlab" not in loaded and "optuna" not in loaded, loaded + out.stderr[-500:]


def test_every_class_is_registered():
    import keras

    import keras_optlab

    for name in keras_optlab.optimizers.CLASSES.values():
        assert keras.saving.get_registered_object(f"keras_optlab>{name.__name__}") is name
    for name in keras_optlab.schedules.CLASSES.values():
        assert keras.saving.get_registered_object(f"keras_optlab>{name.__name__}") is name


def test_seams_have_the_members_they_stand_for():
    """The members of Keras that are not public, with their signatures."""
    import inspect

    import keras

    from keras_optlab.optimizers.shell import keras_seams as seams

    optimizer, v = keras.optimizers.SGD(0.5), keras.Variable([1.0], name="w")
    optimizer.build([v])
    assert seams.all_variables(optimizer)[0] is v
    assert int(seams.micro_steps(optimizer)) == 0
    assert float(seams.rate(optimizer)) == 0.5
    assert seams.index(optimizer, v) == 0 and seams.index(optimizer, keras.Variable([1.0])) is None
    assert list(inspect.signature(keras.optimizers.Optimizer._var_key).parameters) == ["self", "variable"]
    seams.layout(v)


def test_the_tables_in_the_documents_are_current():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for file in tables["TABLES"]:
        assert tables["current"](file) == (ROOT / file).read_text(), "run `python docs/tables.py`"
