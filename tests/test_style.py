"""House rules that no linter knows, checked on the syntax tree."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("ibs_core", "adapters") for path in (ROOT / package).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = [
    *SOURCES,
    *TESTS,
    *sorted((ROOT / "docs").rglob("*.*")),
    *sorted((ROOT / "bench").rglob("*.py")),
    *(path for path in sorted(ROOT.iterdir()) if path.suffix in {".md", ".toml", ".yml"}),
    ROOT / "Makefile",
]
NO_INDICATORS = {
    "_jit",
    "_store",
    "aggregate",
    "aggregate_pages",
    "forest",
    "graph",
    "inside",
    "nodes",
    "operations",
    "pages",
    "ring",
    "timetable",
    "unpack",
}
NOTES = ("Formula:", "Source:", "Warm-up:", "Edges:")
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\s*$", re.MULTILINE)
MODULE_LINES, FUNCTION_LINES = 400, 60

# Written as pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"/(?:home|root|Users|work|tmp)" + r"/[\w.]+")
SECRETS = [
    re.compile(pattern)
    for pattern in (
        r"\bdb-[A-Za-z0-9]{20,}",
        r"webhooks\.traderspost\.io/trading/webhook/" + r"[0-9a-f-]{8,}",
        r"\b(?:AKIA|ghp_|xox[bp]-|sk-)[A-Za-z0-9_-]{16,}",
        r"-----BEGIN [A-Z ]*PRIVATE " + r"KEY-----",
        r"(?i)\b(?:password|secret|token|api_?key)\s*[:=]\s*[\"'][^\"'$<{]{8,}[\"']",
    )
]


@dataclass(frozen=True)
class Definition:
    """A function or class, with the name under which the outside knows it."""

    path: Path
    node: ast.FunctionDef | ast.ClassDef
    name: str
    public: bool

    @property
    def place(self):
        return f"{self.path.relative_to(ROOT)}:{self.node.lineno} {self.name}"

    @property
    def docstring(self):
        return ast.get_docstring(self.node) or ""


def tree_of(path):
    return ast.parse(path.read_text("utf-8"), str(path))


def definitions(path):
    """Yield functions, classes and methods; those inside functions are private."""
    tree = tree_of(path)
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )

    def below(node, prefix, *, public):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            name = f"{prefix}{child.name}"
            seen = public and not child.name.startswith("_")
            if not prefix and exported is not None:
                seen = child.name in exported
            yield Definition(path, child, name, seen)
            in_class = isinstance(child, ast.ClassDef)
            yield from below(child, f"{name}.", public=seen and in_class)

    yield from below(tree, "", public=True)


ALL = [each for path in SOURCES for each in definitions(path)]
FUNCTIONS = [each for each in ALL if not isinstance(each.node, ast.ClassDef)]
CLASSES = {each.name: each for each in ALL if isinstance(each.node, ast.ClassDef)}


def section(docstring, title):
    """Return the lines of one numpydoc section."""
    heads = list(SECTION.finditer(docstring))
    for head, after in itertools.zip_longest(heads, heads[1:]):
        if head[1] == title:
            return docstring[head.end() : after.start() if after else None].splitlines()
    return None


def documented(lines):
    """List the names that head an entry: `a, b : type` or `a`."""
    names = []
    for line in lines:
        if line and not line.startswith(" "):
            names += [name.strip().lstrip("*") for name in line.partition(" : ")[0].split(",")]
    return names


def signature(node):
    """List the parameters that a caller passes."""
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)]
    names += [given.vararg.arg] if given.vararg else []
    names += [each.arg for each in given.kwonlyargs]
    names += [given.kwarg.arg] if given.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


def decorated(node, *words):
    return any(word in ast.unparse(each) for each in node.decorator_list for word in words)


def test_documented_parameters_are_those_of_the_signature():
    wrong = []
    for each in FUNCTIONS:
        lines = section(each.docstring, "Parameters")
        if lines is None or not each.public:
            continue
        names, given = documented(lines), signature(each.node)
        if names != given:
            wrong.append(f"{each.place}: documents {names}, takes {given}")
    assert wrong == []


def test_who_documents_what_it_returns_documents_what_it_takes():
    wrong = [
        each.place
        for each in FUNCTIONS
        if each.public
        and signature(each.node)
        and section(each.docstring, "Returns") is not None
        and section(each.docstring, "Parameters") is None
    ]
    assert wrong == []


def test_documented_fields_of_a_class_are_its_fields_or_its_arguments():
    wrong = []
    for each in CLASSES.values():
        lines = [
            line
            for title in ("Parameters", "Attributes")
            for line in section(each.docstring, title) or []
        ]
        if not each.public or not lines:
            continue
        fields = [
            node.target.id
            for node in each.node.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ]
        makers = [
            node
            for node in each.node.body
            if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        ]
        known = {*fields, *(name for maker in makers for name in signature(maker))}
        if decorated(each.node, "dataclass"):
            missing = {name for name in fields if not name.startswith("_")} - set(documented(lines))
            wrong += [f"{each.place}: says nothing of {name}" for name in sorted(missing)]
        unknown = set(documented(lines)) - known
        wrong += [f"{each.place}: has no {name}" for name in sorted(unknown) if known]
    assert wrong == []


def test_everything_public_has_a_docstring():
    modules = [
        str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(tree_of(path))
    ]
    bare = [
        each.place
        for each in ALL
        if each.public and not each.docstring and not decorated(each.node, "overload", "setter")
    ]
    assert modules + bare == []


def test_docstrings_begin_with_one_sentence():
    wrong = [
        each.place
        for each in ALL
        if each.public
        and each.docstring
        and not each.docstring.splitlines()[0].endswith((".", "…"))
    ]
    assert wrong == []


def indicators():
    return [
        each
        for each in FUNCTIONS
        if each.path.parent.name == "kernels"
        and each.path.stem not in NO_INDICATORS
        and each.public
        and decorated(each.node, "jit")
        and each.name != "shift"
    ]


def test_indicator_kernels_state_formula_source_warm_up_and_edges():
    kernels = indicators()
    assert len(kernels) >= 20
    wrong = [
        f"{each.place}: lacks {note}"
        for each in kernels
        for note in NOTES
        if note not in "\n".join(section(each.docstring, "Notes") or [])
    ]
    assert wrong == []


def test_modules_are_at_most_400_lines():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    long = [f"{path.relative_to(ROOT)}: {n}" for path, n in lengths.items() if n > MODULE_LINES]
    assert long == []


def test_functions_are_at_most_60_lines_after_their_docstring():
    long = []
    for each in FUNCTIONS:
        body = each.node.body[1:] if each.docstring else each.node.body
        n = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if n > FUNCTION_LINES:
            long.append(f"{each.place}: {n}")
    assert long == []


def test_nothing_prints_but_the_command_line():
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "pprint", "breakpoint")
    ]
    assert calls == []


def test_no_module_bears_a_name_that_says_nothing():
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "core"}
    names = [part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts]
    assert empty.isdisjoint(names)


def test_the_adapters_are_ours():
    assert importlib.import_module("adapters").__project__ == "ibs"


def test_tests_never_sleep():
    calls = [
        f"{path.name}:{node.lineno}"
        for path in TESTS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("sleep")
    ]
    assert calls == []


def test_tests_are_named_as_sentences():
    short = [
        f"{path.name}: {node.name}"
        for path in TESTS
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and node.name.count("_") < 3
    ]
    assert short == []


@pytest.mark.parametrize("what", ["machine paths", "secrets"])
def test_no_file_holds(what):
    patterns = [MACHINE_PATHS] if what == "machine paths" else SECRETS
    found = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}: {match[0]}"
        for path in TEXTS
        if path.is_file()
        for text in [path.read_text("utf-8", errors="replace")]
        for pattern in patterns
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_no_linter_is_silenced_for_a_whole_file_without_a_code():
    bare = re.compile(
        r"#\s*(?:ruff: noqa\s*$|mypy: ignore-errors)|#\s*type: ignore\s*$", re.MULTILINE
    )
    found = [
        str(path.relative_to(ROOT)) for path in SOURCES if bare.search(path.read_text("utf-8"))
    ]
    assert found == []
