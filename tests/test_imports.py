"""Who imports whom, read from the source; and what starting a command loads, seen from a process of its own."""

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import unet_jax
from tests.helpers.commands import loaded_by, loaded_by_help

ROOT = Path(unet_jax.__file__).parent
PATHS = {
    ".".join(("unet_jax", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
    for p in sorted(ROOT.rglob("*.py"))
}
"""Module to file."""

COMMANDS = sorted(p.stem for p in ROOT.glob("*.py") if "cli.run(main)" in p.read_text())
ROOMS = sorted(p.parent.name for p in ROOT.glob("*/__init__.py"))
ARCHITECTURE = ROOT.parent / "ARCHITECTURE.md"


def levels(text: str) -> list[list[str]]:
    """The rooms by level, from the line of ARCHITECTURE.md that says who may import whom."""
    (line,) = re.findall(r"^`(config <[^`]*< commands)`", text, re.MULTILINE)
    return [[name.strip() for name in level.split(",")] for level in line.split("<")]


LEVELS = levels(ARCHITECTURE.read_text())
LEVEL_OF = {name: number for number, level in enumerate(LEVELS) for name in level}
ALSO = {("reporting", "imaging")}
"""Rooms of one level of which the first may import the second."""

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
    "scipy",
    "tensorboardX",
)
TFDS_BUILDER = "unet_jax.data.tfds.brain_tumor_figshare.brain_tumor_figshare_dataset_builder"
"""The one module that cannot be without TensorFlow Datasets, and is imported by who needs it."""


class Import(NamedTuple):
    module: str
    line: int
    at_top: bool
    """When the module is imported, rather than when one of its functions runs."""


def imports_of(path: Path) -> list[Import]:
    """What a file imports; `from a import b` is a.b, but a where that is a module of the project and a.b is none."""
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the module's whole name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                of_others = not node.module.startswith("unet_jax")
                found.append(Import(whole if whole in PATHS or of_others else node.module, node.lineno, at_top))
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
    """Whether one room or command may import another one."""
    low, high = (LEVEL_OF.get(name, len(LEVELS) - 1) for name in (imported, importer))
    return low < high or (importer, imported) in ALSO


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others."""
    found = []
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph.get(module, ())
        if start in seen:
            found.append(start)
    return found


def test_every_file_at_the_top_is_a_command():
    files = {p.stem for p in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert files == set(COMMANDS) and len(COMMANDS) >= 10


def test_the_rooms_are_those_of_the_plan():
    named = {name for level in LEVELS[:-1] for name in level}
    assert set(ROOMS) == named
    assert not set(ROOMS) & set(COMMANDS), "a package would hide the command"


def test_folders_and_files_keep_their_size():
    for folder in (ROOT, *(p for p in ROOT.rglob("*") if p.is_dir())):
        assert len(list(folder.glob("*.py"))) <= 29, folder
    for path in PATHS.values():
        assert len(path.read_text().splitlines()) <= 400, path


def test_no_module_imports_itself_by_way_of_others():
    graph = {m: {i.module for i in found if i.module in PATHS} - {m} for m, found in IMPORTS.items()}
    # A package's __init__ hands on the names of its modules; what they import of each other has no need of it.
    graph = {m: {i for i in found if not m.startswith(f"{i}.")} for m, found in graph.items()}
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_imports_are_found_wherever_they_stand(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(
        "import os.path, json\nfrom a.b import c\nfrom unet_jax.data.converted import arrays, nothing\n"
        "if True:\n    import gzip\n\nclass A:\n    import bz2\n\n"
        "    def f(self):\n        from unet_jax.shared import cli\n"
    )
    assert imports_of(path) == [
        Import("os.path", 1, True),
        Import("json", 1, True),
        Import("a.b.c", 2, True),
        Import("unet_jax.data.converted.arrays", 3, True),
        Import("unet_jax.data.converted", 3, True),
        Import("gzip", 5, True),
        Import("bz2", 8, True),
        Import("unet_jax.shared.cli", 11, False),
    ]


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("scoring", "config", True),
        ("scoring", "models", False),
        ("models", "reporting", False),
        ("reporting", "imaging", True),
        ("imaging", "reporting", False),
        ("data", "inference", False),
        ("training", "data", True),
        ("inference", "runs", False),
        ("runs", "training", True),
        ("train", "runs", True),
        ("runs", "train", False),
        ("train", "eval", False),
        ("config", "shared", False),
    ],
)
def test_the_rules_themselves(importer, imported, allowed):
    assert may_import(importer, imported) is allowed


@pytest.mark.parametrize("module", [m for m in PATHS if m != "unet_jax"])
def test_a_module_imports_only_what_it_may(module):
    wrong = [f"line {i.line}: {i.module}" for i in own(module) if not may_import(part(module), part(i.module))]
    assert wrong == []


def test_the_package_itself_imports_nothing_of_weight():
    assert [i for i in IMPORTS["unet_jax"] if i.at_top and not standard(i.module)] == []


def test_config_needs_the_standard_library_alone():
    found = [i for m in PATHS if part(m) == "config" for i in IMPORTS[m]]
    assert [i for i in found if not standard(i.module) and part(i.module) != "config"] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_what_is_heavy_inside_main(command):
    light = ("unet_jax.shared.cli", "unet_jax.config")
    at_top = [i for i in IMPORTS[f"unet_jax.{command}"] if i.at_top]
    assert [f"line {i.line}: {i.module}" for i in at_top if i.module not in light and not standard(i.module)] == []


@pytest.mark.parametrize(
    ("library", "places"),
    [
        (
            "jax",
            (
                "unet_jax.models.",
                "unet_jax.training.",
                "unet_jax.inference.programs",
                "unet_jax.inference.exported.stablehlo",
                "unet_jax.runs.",
                "unet_jax.deploy.",
            ),
        ),
        ("onnx", ("unet_jax.deploy.",)),
        ("onnxruntime", ("unet_jax.inference.exported.onnx",)),
        ("flax.linen", ("unet_jax.models.",)),
        ("orbax", ("unet_jax.training.checkpoints.",)),
        ("safetensors", ("unet_jax.runs.model_folder", "unet_jax.models.pretrained", "unet_jax.models.from_torch")),
        ("tensorflow", ("unet_jax.data.tfds.source",)),
        ("tensorflow_datasets", (TFDS_BUILDER, "unet_jax.data.tfds.source")),
    ],
)
def test_a_library_keeps_to_its_place(library, places):
    importers = {m for m, found in IMPORTS.items() if any(f"{i.module}.".startswith(f"{library}.") for i in found)}
    assert importers, f"{library} is imported nowhere"
    assert {m for m in importers if not m.startswith(places)} == set()


def test_tensorflow_is_imported_inside_a_function():
    for module, found in IMPORTS.items():
        at_top = {i.module.split(".")[0] for i in found if i.at_top} & {"tensorflow", "tensorflow_datasets"}
        assert not at_top or module == TFDS_BUILDER, module
        assert module == TFDS_BUILDER or all(i.module != TFDS_BUILDER or not i.at_top for i in found), module


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick(command):
    _, loaded = loaded_by_help(f"unet_jax.{command}")
    assert {"unet_jax", "tyro"} <= loaded
    assert loaded & set(HEAVY) == set()


def test_data_scores_and_plots_are_there_without_jax():
    # Conversion starts processes from these, and a process must not be forked or burdened with a loaded jax.
    rooms = ("config", "shared", "scoring", "imaging", "reporting", "data")
    modules = [m for m in PATHS if part(m) in rooms and m != TFDS_BUILDER]
    _, loaded = loaded_by(f"import {', '.join(modules)}")
    assert {"numpy", "h5py", "matplotlib"} <= loaded
    assert loaded & {"jax", "flax", "tensorflow", "tensorflow_datasets"} == set()


def test_a_model_folder_is_predicted_without_what_takes_long_to_import():
    # Orbax reads checkpoints alone, and SciPy labels components, where that is asked for.
    _, loaded = loaded_by(
        "import unet_jax.runs.load, unet_jax.runs.networks, unet_jax.inference.folder, unet_jax.imaging.formats.picture"
    )
    assert {"jax", "flax", "PIL"} <= loaded
    assert loaded & {"orbax", "optax", "scipy", "matplotlib", "tensorflow"} == set()


def test_an_onnx_file_is_predicted_without_what_a_network_in_jax_takes():
    _, loaded = loaded_by("import unet_jax.runs.load, unet_jax.inference.folder, unet_jax.inference.exported.onnx")
    assert {"numpy", "jaxtyping"} <= loaded
    assert loaded & {"jax", "flax", "safetensors", "scipy", "h5py"} == set()
