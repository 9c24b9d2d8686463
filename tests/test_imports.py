"""Who imports whom, read from the source; and what starting a command loads, seen from a process of its own."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import unet_jax

ROOT = Path(unet_jax.__file__).parent
PATHS = {
    ".".join(("unet_jax", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
    for p in sorted(ROOT.rglob("*.py"))
}
"""Module to file."""

ROOMS = ("models", "training", "scoring", "data")
HALLS = (
    *("workdir", "predictor", "prediction", "prediction_output", "prediction_table"),
    *("evaluation", "fit", "run", "folds", "compile_cache"),
)
SHARED = ("config", "cli", "mesh")
DOORS = tuple(
    p.stem for p in sorted(ROOT.glob("*.py")) if p.stem not in (*HALLS, *SHARED, "__init__")
)  # so a new module at the top is a door, unless it is named above
HEAVY = (
    "jax",
    "flax",
    "optax",
    "orbax",
    "tensorflow",
    "tensorflow_datasets",
    "matplotlib",
    "h5py",
    "PIL",
    "tensorboardX",
)
TFDS_BUILDER = "unet_jax.data.brain_tumor_figshare.brain_tumor_figshare_dataset_builder"
"""The one module that cannot be without TensorFlow Datasets, and is imported by who needs it."""


class Import(NamedTuple):
    module: str
    line: int
    at_top: bool
    """When the module is imported, rather than when one of its functions runs."""


def imports_of(path: Path) -> list[Import]:
    """What a file imports; `from a import b` is a.b where that is a module of the project, else a."""
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the module's whole name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append(Import(whole if whole in PATHS else node.module, node.lineno, at_top))
        inner = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(path.read_text()), True)
    return found


IMPORTS = {module: imports_of(path) for module, path in PATHS.items()}


def part(module: str) -> str:
    """The room of a module, or its own name at the top level."""
    return module.split(".")[1] if "." in module else "__init__"


def own(module: str) -> list[Import]:
    """Imports of the project's modules from other parts of it. `unet_jax` itself holds only the version."""
    named = [i for i in IMPORTS[module] if i.module.startswith("unet_jax.")]
    return [i for i in named if part(i.module) != part(module)]


def standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def may_import(importer: str, imported: str) -> bool:
    a, b = part(importer), part(imported)
    if a == "config":
        return False
    if a in ("cli", "mesh"):
        return b == "config"
    if a in DOORS:
        return b not in DOORS
    if a == "workdir":
        return b in ("config", "data")
    if a in HALLS:
        return b in (*HALLS, *ROOMS, "config", "mesh")
    return {
        "models": b == "config",
        "scoring": b in ("config", "models"),
        "training": b in ("config", "models", "mesh") or imported == "unet_jax.scoring.metrics",
        "data": b == "config" or (b == "mesh" and importer == "unet_jax.data.pipeline"),
    }[a]


def test_the_rules_are_about_what_is_there():
    assert {"train", "eval", "predict", "convert", "download", "phantom"} <= set(DOORS)
    assert {part(m) for m in PATHS} == {"__init__", *ROOMS, *HALLS, *SHARED, *DOORS}
    for room in ROOMS:
        assert any(m.startswith(f"unet_jax.{room}.") for m in PATHS), room


def test_imports_are_found_wherever_they_stand(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(
        "import os.path, json\nfrom unet_jax.data import arrays, nothing\n"
        "if True:\n    import gzip\n\nclass A:\n    import bz2\n\n    def f(self):\n        from unet_jax import cli\n"
    )
    assert imports_of(path) == [
        Import("os.path", 1, True),
        Import("json", 1, True),
        Import("unet_jax.data.arrays", 2, True),
        Import("unet_jax.data", 2, True),
        Import("gzip", 4, True),
        Import("bz2", 7, True),
        Import("unet_jax.cli", 10, False),
    ]


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("scoring.summary", "models.unet", True),
        ("models.unet", "scoring.metrics", False),
        ("training.steps", "scoring.metrics", True),
        ("training.steps", "scoring.summary", False),
        ("data.arrays", "models.unet", False),
        ("data.arrays", "workdir", False),
        ("scoring.report", "train", False),
        ("fit", "workdir", True),
        ("fit", "train", False),
        ("workdir", "training.steps", False),
        ("workdir", "predictor", False),
        ("train", "fit", True),
        ("train", "eval", False),
        ("config", "cli", False),
    ],
)
def test_the_rules_themselves(importer, imported, allowed):
    assert may_import(f"unet_jax.{importer}", f"unet_jax.{imported}") is allowed


@pytest.mark.parametrize("module", [m for m in PATHS if m != "unet_jax"])
def test_a_module_imports_only_what_it_may(module):
    wrong = [f"line {i.line}: {i.module}" for i in own(module) if not may_import(module, i.module)]
    assert wrong == []


def test_the_package_itself_imports_nothing_of_weight():
    assert [i for i in IMPORTS["unet_jax"] if i.at_top and not standard(i.module)] == []


def test_config_needs_the_standard_library_alone():
    assert [i for i in IMPORTS["unet_jax.config"] if not standard(i.module)] == []


@pytest.mark.parametrize("door", [*DOORS, "cli"])
def test_a_door_imports_what_is_heavy_inside_main(door):
    light = ("unet_jax.cli", "unet_jax.config")
    at_top = [i for i in IMPORTS[f"unet_jax.{door}"] if i.at_top]
    assert [f"line {i.line}: {i.module}" for i in at_top if i.module not in light and not standard(i.module)] == []


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("flax.linen", ("unet_jax.models.",)),
        ("orbax", ("unet_jax.training.checkpoint",)),
        ("tensorflow", ("unet_jax.data.pipeline", "unet_jax.data.tfds_source")),
        ("tensorflow_datasets", (TFDS_BUILDER, "unet_jax.data.tfds_source")),
    ],
)
def test_a_library_keeps_to_its_place(library, places):
    importers = set()
    for module, path in PATHS.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(f"{name}.".startswith(f"{library}.") for name in names):
                importers.add(module)
    assert importers, f"{library} is imported nowhere"
    assert {m for m in importers if not m.startswith(places)} == set()


def test_tensorflow_is_imported_inside_a_function():
    for module, found in IMPORTS.items():
        at_top = {i.module.split(".")[0] for i in found if i.at_top} & {"tensorflow", "tensorflow_datasets"}
        assert not at_top or module == TFDS_BUILDER, module
        assert module == TFDS_BUILDER or all(i.module != TFDS_BUILDER or not i.at_top for i in found), module


def loaded_by(code: str, *argv: str) -> tuple[int, set[str]]:
    """Exit code of a process that runs `code`, and the top-level modules it has loaded by its end."""
    guarded = f"import sys\ncode = 0\ntry:\n    {code}\nexcept SystemExit as left:\n    code = left.code\n"
    whole = f"{guarded}print('\\n' + ' '.join({{name.split('.')[0] for name in sys.modules}}))\nsys.exit(code)\n"
    done = subprocess.run([sys.executable, "-c", whole, *argv], capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("door", DOORS)
def test_help_is_quick(door):
    run = f"import runpy; sys.argv = ['{door}', '--help']; runpy.run_module('unet_jax.{door}', run_name='__main__')"
    code, loaded = loaded_by(run)
    assert code == 0 and {"unet_jax", "tyro"} <= loaded
    assert loaded & set(HEAVY) == set()


def test_data_and_plots_are_there_without_jax():
    # Conversion starts processes from these, and a process must not be forked or burdened with a loaded jax.
    modules = [m for m in PATHS if part(m) == "data" and m not in ("unet_jax.data.pipeline", TFDS_BUILDER)]
    code, loaded = loaded_by(f"import {', '.join([*modules, 'unet_jax.workdir', 'unet_jax.scoring.report'])}")
    assert code == 0 and {"numpy", "h5py", "matplotlib"} <= loaded
    assert loaded & {"jax", "flax", "tensorflow", "tensorflow_datasets"} == set()
