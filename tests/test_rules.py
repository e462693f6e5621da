"""The design rules: who may import whom, how long things may be, what the command line takes, what an import costs."""

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from opsin.families.golden import load_families
from opsin.registry import BUILDERS

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "opsin"

# A module imports only what stands before it. Those of one line know nothing of each other's insides either way.
ORDER = """
    errors progress
    width
    conditions registry convert
    kernels
    layers
    channels mixers
    operators
    blocks
    families
    adapter
    build
    weights
    factory
    bodies
    data
    heads
    generate
    train
    pretrain
    compress
    search
    evaluate
    deploy
    papers
    runs
    verbs
    cli
"""
RANK = {name: rank for rank, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}
ENTRY = {"__init__", "__main__"}  # the public face and the command may name anything

EXTRAS = {
    "onnx",
    "onnxruntime",
    "onnxscript",
    "simplejpeg",
    "pyarrow",
    "tifffile",
    "sklearn",
    "scipy",
    "matplotlib",
    "numba",
    "llvmlite",
}
HEAVY = {"PIL", "rich", "typer", "yaml", "huggingface_hub", "safetensors", "timm", "torchvision", *EXTRAS}
BANNED = {"torchvision", "timm", "transformers", "albumentations", "fvcore", "thop"}

# All of them are written for an extra, and imported where that is installed.
COMPILED = {Path("kernels/scan_numba.py"), Path("kernels/vector.py")}
HANDED_OVER = Path("evaluate/memory.py")  # reads what its own parent process wrote for it

LONGEST_FILE = 310
LONGEST_BUILDER = 40
MOST_ARGUMENTS = 8

HOSTS = {"127.0.0.1", "arxiv.org", "doi.org", "github.com", "huggingface.co", "www.apache.org", "www.w3.org"}

OPTIONS = {
    "benchmark": "model --batch --json --seconds --size --threads",
    "diff": "first second --json",
    "doctor": "--json",
    "evaluate": "data run --json --label --seed",
    "explain": "images run --json --method --out",
    "fit": "data --json --licence --minutes --model --out --resume --seed --set --under",
    "info": "name --json",
    "list": "pattern --arxiv --family --json --licence --macs --params --size --stride --weights",
    "papers": "query --category --json --state",
    "predict": "images run --json --top",
    "weights bundle": "names --licence --out",
    "weights list": "pattern --json --licence",
    "weights pull": "names --licence",
    "weights unbundle": "source",
    "weights verify": "names",
}


@cache
def trees() -> dict[Path, ast.Module]:
    return {path.relative_to(SRC): ast.parse(path.read_text()) for path in sorted(SRC.rglob("*.py"))}


def top(path: Path) -> str:
    """The package (or module) of ours that a file belongs to."""
    return path.with_suffix("").parts[0]


def imports(path: Path, lazy: bool = True) -> set[str]:
    """Dotted names that a file imports; without `lazy`, not those inside functions and TYPE_CHECKING."""
    here = ("opsin", *path.with_suffix("").parts)[:-1]
    found = set()
    for node in ast.walk(trees()[path]) if lazy else eager(trees()[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def eager(tree: ast.Module):
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from ast.walk(node)


def ours(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("opsin.")} & RANK.keys()


def functions():
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield path, node


# ---------------------------------------------- who imports whom ----------------------------------------------


def test_every_module_has_a_place():
    assert {top(path) for path in trees()} - ENTRY <= RANK.keys()


@pytest.mark.parametrize("path", [p for p in trees() if top(p) not in ENTRY], ids=str)
def test_imports_point_down(path):
    here = top(path)
    if here == "papers":
        assert ours(imports(path)) <= {"errors", "papers"}
    upward = {name for name in ours(imports(path)) if name != here and RANK[name] >= RANK[here]}
    assert not upward, f"{path} imports {upward}, which stand behind {here}"


def test_families_are_imported_by_their_children_only():
    who = {path for path in trees() if top(path) != "families" and "families" in ours(imports(path))}
    assert not who, "networks are reached by name, through the registry"
    for path in (p for p in trees() if top(p) == "families" and p.stem not in ("__init__", "golden")):
        assert "golden" not in {name.rpartition(".")[2] for name in imports(path)}, path


def test_families_are_named_in_three_places():
    said = re.compile(r"opsin\.families")
    assert {str(p) for p in trees() if said.search((SRC / p).read_text())} == {
        "convert.py",
        "registry.py",
        "families/golden.py",
    }


def test_no_package_that_is_replaced_here():
    for path in trees():
        if str(path) != "adapter.py":  # which is there to speak with timm
            assert not {name.split(".")[0] for name in imports(path)} & BANNED, path


def test_nothing_is_unpickled_unsafely():
    for path, tree in trees().items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec"), path
            if name == "torch.load" and path != HANDED_OVER:
                assert "weights_only=True" in ast.unparse(call), path


def test_extras_are_imported_where_they_are_used():
    for path in trees():
        used = {name.split(".")[0] for name in imports(path, lazy=False)}
        assert path in COMPILED or not used & EXTRAS, path


@pytest.mark.parametrize("path", [p for p in trees() if p.parts[0] == "cli"], ids=str)
def test_the_command_line_starts_light(path):
    assert ours(imports(path, lazy=False)) <= {"cli"}


# ------------------------------------------------- size and form -------------------------------------------------


@pytest.mark.parametrize("path", trees(), ids=str)
def test_files_are_short(path):
    assert len((SRC / path).read_text().splitlines()) <= LONGEST_FILE


def test_builders_are_short():
    load_families()
    for build, _ in BUILDERS.values():
        lines = inspect.getsource(build).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        assert len(lines) - start <= LONGEST_BUILDER, build


def test_builders_share_the_fields_keywords():
    """Every builder takes them with the same meaning; not every network has residual branches to drop."""
    load_families()
    for build, _ in BUILDERS.values():
        defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
        assert isinstance(defaults["num_classes"], int), build
        assert defaults["in_chans"] == 3, build
        assert defaults["drop_rate"] == defaults.get("drop_path_rate", 0.0) == 0.0, build


def test_constructors_take_few_arguments_and_swallow_none():
    for path, node in functions():
        if node.name in ("__init__", "__new__"):
            taken = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - 1
            assert taken <= MOST_ARGUMENTS, f"{path}: line {node.lineno}"
            assert node.args.kwarg is None, f"{path}: line {node.lineno}"


def test_modules_and_public_classes_say_what_they_are():
    for path, tree in trees().items():
        assert ast.get_docstring(tree), path
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


def test_no_network_method_is_written_in_a_family():
    """The ecosystem's names are given once, in blocks.network."""
    from opsin.blocks import Network

    shared = {name for name in vars(Network) if not name.startswith("_")} - {"forward"}
    for path, node in functions():
        if top(path) == "families":
            assert node.name not in shared, f"{path}: {node.name}"


def test_nothing_inherits_from_network():
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                heirs = [node.name] if "Network" in {ast.unparse(base) for base in node.bases} else []
                assert heirs in ([], ["TheirNetwork"]), f"{path}: {node.name}"


# ------------------------------------------------- the command line -------------------------------------------------


def commands() -> dict[str, str]:
    import typer

    from opsin.cli.app import app

    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        for below, leaf in getattr(command, "commands", {"": command}).items():
            takes = [p.opts[0] if p.param_type_name == "option" else p.name for p in leaf.params if p.name != "help"]
            found[f"{name} {below}".strip()] = " ".join(sorted(takes, key=lambda t: (t.startswith("-"), t)))
    return found


def test_commands_take_exactly_these():
    """A new option is a decision: write it down here too."""
    assert commands() == OPTIONS


def test_a_command_is_the_call_of_the_same_name_and_arguments():
    from opsin import verbs, weights

    for name, takes in commands().items():
        place, _, leaf = name.rpartition(" ")
        call = getattr(weights if place else verbs, "listing" if name == "weights list" else leaf)
        given = {t.lstrip("-") for t in takes.split()} - {"json"}
        assert {{"set": "settings"}.get(t, t) for t in given} <= set(inspect.signature(call).parameters), name


# ---------------------------------------------------- the import ----------------------------------------------------


def test_import_is_light_and_facts_build_nothing():
    code = """
import sys
import torch
before = set(sys.modules)
import opsin
opsin.list_models("resnet*"), opsin.facts("resnet50"), opsin.capabilities("resnet50")
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin"},
    )
    loaded = set(done.stdout.split())
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not {name for name in loaded if name.startswith("opsin.families.")}
    assert not ours(loaded) & {"data", "weights", "runs", "verbs", "cli"}
    assert done.stderr == ""


# --------------------------------------------- what is in the repository ---------------------------------------------


def texts():
    """Every tracked file that holds text; all files where there is no repository, as in an unpacked archive."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    folders = [ROOT / part for part in ("src", "tests", "docs", "benchmarks")]
    paths = [ROOT / line for line in done.stdout.splitlines()] or [p for d in folders for p in d.rglob("*")]
    for path in (p for p in paths if p.is_file()):
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue


def test_addresses_are_public_ones():
    for path, text in texts():
        if path.name != "LICENSE":
            hosts = {host.partition(":")[0] for host in re.findall(r"https?://([^/\s\"'`)>\]]+)", text)}
            assert {h for h in hosts if "{" not in h and not h.startswith("[")} <= HOSTS, path


def test_no_path_of_somebodys_machine():
    folders = re.compile(r"(?<![\w.~/])/(?:work|home|root|Users|mnt)/\w")
    for path, text in texts():
        hits = folders.findall(text)
        assert not hits, path


def test_classes_of_families_are_modules():
    """Families define modules and functions, no specifications."""
    load_families()
    for name in {path.stem for path in trees() if top(path) == "families"} - {"__init__", "golden"}:
        module = sys.modules[f"opsin.families.{name}"]
        for found in vars(module).values():
            if inspect.isclass(found) and found.__module__ == module.__name__:
                assert issubclass(found, nn.Module), found
