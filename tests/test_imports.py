"""Who may import whom: arrows go down, there are no circles, and the package is cheap to import."""

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import maskrcnn_lib

PACKAGE = Path(maskrcnn_lib.__file__).parent
ROOT_MODULE = "maskrcnn_lib"
ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    p for part in ("benchmarks", "demo", "training") for p in (ROOT / part).glob("*.py")
)
HEAVY = {"torchvision", "cv2", "matplotlib", "pycocotools"}

GROUND = {"utils", "config", "structures", "layers"}
BESIDE = {"solver", "checkpoint", "evaluation", "visualization"}
# Room: the rooms that it may import from.
MAY_IMPORT = {
    "utils": set(),
    "config": {"utils"},
    "structures": {"utils", "layers"},
    "layers": {"utils", "structures"},
    "modeling": GROUND,
    "data": GROUND,
    **{room: GROUND for room in BESIDE},
    "engine": GROUND | BESIDE | {"modeling", "data"},
    "report": GROUND | BESIDE | {"data", "engine"},
    "export": GROUND | BESIDE | {"modeling", "data", "engine"},
    "tools": GROUND | BESIDE | {"modeling", "data", "engine", "export", "report"},
}
# maskrcnn-benchmark's paths: re-exports of things that live in a higher room now.
OLD_PATHS = {"maskrcnn_lib.utils.checkpoint"}


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _imports(tree: ast.AST, *, functions: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run; those inside functions only if ``functions``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif _is_type_checking(node):
            continue
        elif functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(node, functions=functions)


def _targets(module: str) -> set[str]:
    """Modules of this package that ``module`` imports, anywhere in it."""
    targets = set()
    for node in _imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] != ROOT_MODULE:
                continue
            while name not in MODULES:  # the name of something inside a module
                name = name.rpartition(".")[0]
            targets.add(name)
    return targets - {module}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if name != ROOT_MODULE])
def test_arrows_do_not_go_up(module):
    room = _room(module)
    assert room in MAY_IMPORT, f"{module} is in no known room"
    if module in OLD_PATHS:
        return
    rooms = {_room(target) for target in _targets(module)} - {room, ""}
    assert rooms <= MAY_IMPORT[room], f"{module} imports from {sorted(rooms - MAY_IMPORT[room])}"


def test_classes_take_no_config():
    """But for those of maskrcnn-benchmark's interface."""
    takers = {
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        if "cfg" in {argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)}
    }
    assert takers == {"COCODemo", "DetectronCheckpointer"}


def test_there_are_no_circles():
    graph = {name: _targets(name) - {ROOT_MODULE} for name in MODULES if name not in OLD_PATHS}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
    assert set(graph) <= set(order)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_what_exists(path):
    for node in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{ROOT_MODULE}."):
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or f"{node.module}.{name}" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(module):
    names = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in _imports(tree, functions=False):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        else:
            names.add(node.module.split(".")[0])
    assert not names & HEAVY, f"{module} imports {sorted(names & HEAVY)} at its top"


def test_every_directory_is_a_package():
    directories = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [path for path in directories if not (path / "__init__.py").exists()] == []


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    loaded = _loaded_after("import maskrcnn_lib")
    assert not loaded & (HEAVY | {"PIL", "torch"})


def test_importing_the_operators_and_structures_loads_nothing_heavy():
    loaded = _loaded_after("import maskrcnn_lib.layers, maskrcnn_lib.structures.bounding_box")
    assert not loaded & (HEAVY | {"PIL", "torch._dynamo"})


def test_public_names_are_the_promised_ones():
    promised = {"COCODemo", "BoxList", "SegmentationMask", "cfg", "get_cfg"}
    assert promised | {"build_detection_model", "__version__"} <= set(dir(maskrcnn_lib))
