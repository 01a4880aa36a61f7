"""The arrows of the design: which part of geomprobe may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import geomprobe

ROOT = Path(geomprobe.__file__).parent

GROUND = frozenset(
    {"analyzer", "clouds", "evidence", "exceptions", "findings"}
    | {"isolation", "jacobians", "landmarks", "memory", "named_objects", "points", "processes"}
    | {"progress", "random_walk", "resampling", "storage", "threads", "values", "weights"}
)
WINGS = frozenset(
    {"topology", "information", "representation"}
    | {"tropical", "algebraic", "landscape", "dynamics"}
)
SERVICE = frozenset({"estimators", "callbacks", "auditing", "zoos"})
BELOW_SERVICE = GROUND | WINGS | {"hooks", "sampling", "diagnostics"}

#: Which parts each part may import, besides itself. `geomprobe` is the package's own __init__.
ARROWS: dict[str, frozenset[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "hooks": GROUND,
    "sampling": GROUND | {"hooks"},
    **dict.fromkeys(WINGS, GROUND | {"hooks"}),
    "diagnostics": GROUND | WINGS | {"hooks"},
    "sweeps": GROUND,
    **dict.fromkeys(SERVICE, BELOW_SERVICE | {"sweeps", "geomprobe"}),
    "doctor": GROUND,
    "cli": BELOW_SERVICE | SERVICE | {"doctor", "geomprobe"},
    "__main__": frozenset({"cli"}),
    # What it loads at once; the rest is reached lazily, by name.
    "geomprobe": GROUND,
}

VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})
LONGEST_FILE = 600
HEAVY = {"sklearn", "ripser", "gtda", "matplotlib", "pandas", "numba", "jinja2", "typer", "scipy"}
FRAMEWORKS = frozenset(
    {"lightning", "pytorch_lightning", "transformers", "skorch", "ignite", "keras"}
    | {"tensorboard", "mlflow", "wandb"}
)


@dataclass(frozen=True)
class Arrow:
    """One import: `source` imports `target`, both dotted module names."""

    source: str
    target: str
    line: int


def module_names(root: Path) -> dict[str, Path]:
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, str, int]]:
    """Every import below a node, in functions too: (module, name within it or "", line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            relative = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*relative, *([node.module] if node.module else [])])
            for alias in node.names:
                yield base, alias.name, node.lineno
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value), "", node.lineno


class WithoutTypes(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def loaded_at_once(path: Path) -> ast.Module:
    """The statements that importing the module runs: nothing in functions or for type checkers."""
    tree = WithoutTypes().visit(ast.parse(path.read_bytes()))
    waits = ast.FunctionDef | ast.ClassDef
    return ast.Module([node for node in tree.body if not isinstance(node, waits)], [])


def arrows(root: Path, *, types: bool = True) -> list[Arrow]:
    """All imports of the package at `root`, in functions too; third parties keep their own names.

    Only the package's own __init__ may name for type checkers what it reaches lazily.
    """
    modules = module_names(root)
    found = []
    for source, path in modules.items():
        tree = ast.parse(path.read_bytes())
        if source == root.name:
            tree = loaded_at_once(path)
        elif not types:
            tree = WithoutTypes().visit(tree)
        for base, name, line in imported(tree, source, path.name == "__init__.py"):
            inner = f"{base}.{name}"
            found.append(Arrow(source, inner if inner in modules else base, line))
    return found


def part(module: str) -> str:
    """`geomprobe.topology.rips` belongs to `topology`; the package's __init__ to `geomprobe`."""
    return module.split(".")[1] if "." in module else module


def is_own(module: str) -> bool:
    return module.split(".")[0] == "geomprobe"


def forbidden(root: Path) -> list[str]:
    complaints = [
        f"{module} is in no part that ARROWS names"
        for module in module_names(root)
        if part(module) not in ARROWS
    ]
    for arrow in arrows(root):
        source, target = part(arrow.source), part(arrow.target)
        if not is_own(arrow.target) or source == target or source not in ARROWS:
            continue
        if target not in ARROWS[source]:
            complaints.append(f"{arrow.source}:{arrow.line} imports {arrow.target}")
    return complaints


def circle(root: Path) -> list[str]:
    """Modules that need each other to run, in functions too; for their types alone they may."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows(root, types=False):
        if is_own(arrow.target):
            graph.setdefault(arrow.source, set()).add(arrow.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def badly_kept_files(root: Path) -> list[str]:
    complaints = []
    for path in root.rglob("*.py"):
        if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES:
            complaints.append(f"{path.relative_to(root)} has a name that says nothing")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE:
            complaints.append(f"{path.relative_to(root)} has {lines} lines")
    return complaints


def test_arrows_run_one_way():
    assert forbidden(ROOT) == []


def test_there_are_no_circles():
    assert circle(ROOT) == []


def test_files_have_a_name_and_a_measure():
    assert badly_kept_files(ROOT) == []


def test_ground_floor_loads_only_numpy_and_torch():
    allowed = {"numpy", "torch", "geomprobe", "__future__"} | sys.stdlib_module_names
    for name in GROUND:
        path = ROOT / f"{name}.py"
        at_once = loaded_at_once(path)
        roots = {base.split(".")[0] for base, _, _ in imported(at_once, f"geomprobe.{name}", False)}
        assert roots <= allowed, name


def test_ground_floor_knows_few_other_libraries():
    allowed = {"numpy", "torch", "safetensors", "tqdm", "geomprobe"} | sys.stdlib_module_names
    libraries = {
        arrow.target.split(".")[0] for arrow in arrows(ROOT) if part(arrow.source) in GROUND
    }
    assert libraries <= allowed


def test_importing_geomprobe_loads_nothing_heavy():
    script = f"import sys, geomprobe; print(*sorted(set(sys.modules) & {HEAVY}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_no_file_loads_a_framework_before_it_is_asked_for():
    for module, path in module_names(ROOT).items():
        at_once = imported(loaded_at_once(path), module, path.name == "__init__.py")
        assert not {base.split(".")[0] for base, _, _ in at_once} & FRAMEWORKS, module


def test_every_heavy_module_is_installed_so_that_its_absence_means_something():
    required = HEAVY - {"gtda"}
    script = f"for name in {sorted(required)}: __import__(name)"
    subprocess.run([sys.executable, "-c", script], check=True)


# --- the checker itself ---------------------------------------------------------------------------


def plant(root: Path, files: dict[str, str]) -> Path:
    package = root / "geomprobe"
    for name, source in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return package


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("clouds.py", "from geomprobe.hooks import tap"),
        ("clouds.py", "def f():\n    import geomprobe.auditing.report"),
        ("clouds.py", "from geomprobe import topology"),
        ("hooks/tap.py", "from geomprobe.sampling.reservoir import Reservoir"),
        ("sampling/store.py", "from ..auditing.run import auditing"),
        ("topology/rips.py", "from ..information import fisher"),
        ("topology/rips.py", "class A:\n    def f(self):\n        from geomprobe import auditing"),
        ("topology/rips.py", "from geomprobe import Probe"),
        (
            "information/fisher.py",
            "import importlib\nimportlib.import_module('geomprobe.auditing')",
        ),
        ("diagnostics/card.py", "from geomprobe.callbacks import Monitor"),
        ("callbacks/monitor.py", "import geomprobe.auditing"),
        ("__init__.py", "from geomprobe.topology import rips_persistence"),
        ("hooks/tap.py", "if TYPE_CHECKING:\n    from geomprobe.topology import Diagram"),
        ("odds.py", "import numpy"),
    ],
)
def test_checker_sees_a_planted_violation(tmp_path, name, source):
    sound = {
        "__init__.py": "if TYPE_CHECKING:\n    from geomprobe.topology import Diagram",
        "clouds.py": "import numpy",
        "topology/__init__.py": "",
        "auditing/__init__.py": "",
    }
    assert forbidden(plant(tmp_path / "sound", sound)) == []
    assert len(forbidden(plant(tmp_path / "planted", {**sound, name: source}))) == 1


def test_checker_sees_a_planted_circle(tmp_path):
    one_way = {
        "hooks/__init__.py": "from geomprobe.hooks.tap import Tap",
        "hooks/tap.py": "from geomprobe.hooks import names",
        "hooks/names.py": "",
    }
    assert circle(plant(tmp_path / "one_way", one_way)) == []
    types = {**one_way, "hooks/names.py": "if TYPE_CHECKING:\n    from . import tap"}
    assert circle(plant(tmp_path / "types", types)) == []
    there_and_back = {**one_way, "hooks/names.py": "def f():\n    from . import tap"}
    assert len(circle(plant(tmp_path / "circle", there_and_back))) > 0


@pytest.mark.parametrize(
    ("name", "source"),
    [("hooks/utils.py", ""), ("common/tap.py", ""), ("hooks/tap.py", "x = 1\n" * 601)],
)
def test_checker_sees_a_badly_kept_file(tmp_path, name, source):
    assert len(badly_kept_files(plant(tmp_path, {name: source}))) == 1
