"""Reads the modules a kernel is built from and refuses, in one sentence each, what cannot be inlined.

All modules end up in one scope of one script. So project imports must bind a name as it is defined
(`from common.x import NAME` at the top), one name must mean one thing everywhere, and nothing may ask
which module it is in.
"""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

ENTRY = "infer.kernel"
ROOMS = ("common", "infer")

# Names that Python sets for each module: one script has only one of each.
OF_THE_MODULE = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__path__", "__loader__"}
NEW_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NAMED_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class BuildError(Exception):
    """Sources that cannot be inlined faithfully. The message names the module, the line and the way out."""


@dataclass(frozen=True)
class Module:
    name: str
    source: str
    tree: ast.Module

    def refuse(self, line: int, found: str, instead: str) -> NoReturn:
        raise BuildError(f"{self.name}, line {line}: {found}; {instead}.")


@dataclass(frozen=True)
class Section:
    """A stretch of the kernel: `about` is prose, `source` Python without a newline at the end."""

    name: str
    about: str
    source: str

    def marked(self) -> str:
        """As a cell of the script: a mark, the prose as comments, the source."""
        comments = "\n".join(f"# {line}".rstrip() for line in self.about.split("\n") if self.about)
        return f"# %% {self.name}\n" + "\n\n".join(part for part in (comments, self.source) if part) + "\n"


def find(root: Path, name: str) -> Path | None:
    """The file of a module, `a/b.py` or `a/b/__init__.py`."""
    base = root.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def read(root: Path, name: str) -> Module:
    path = find(root, name)
    if path is None:
        raise BuildError(f"{name}: no file {name.replace('.', '/')}.py under {root}; fix the import or create it.")
    source = path.read_text(encoding="utf-8")
    try:
        return Module(name, source, ast.parse(source))
    except SyntaxError as error:
        raise BuildError(f"{name}, line {error.lineno}: not valid Python ({error.msg}); fix it.") from error


def is_inlined(root: Path, module: Module, line: int, name: str) -> bool:
    """Whether the import is from common or infer; other rooms of the project are refused."""
    room = name.split(".")[0]
    if room not in ROOMS and any((root / room).rglob("*.py")):
        found = f"imports {name}, which is in the project but not in the kernel"
        module.refuse(line, found, "move what both need to common")
    return room in ROOMS


def check_form(module: Module, node: ast.ImportFrom) -> None:
    """A project import can be dropped only if the name it binds is the one the other module defines."""
    for alias in node.names:
        if alias.name == "*":
            found = f"takes everything from {node.module}"
            module.refuse(node.lineno, found, f"write `from {node.module} import NAME` with its names")
        if alias.asname:
            found = f"imports {alias.name} as {alias.asname}"
            module.refuse(node.lineno, found, f"use {alias.name} under its own name")
    if node not in module.tree.body:
        found = f"imports {node.module} inside a function or block"
        module.refuse(node.lineno, found, "import it at the top of the module")


@cache
def project_imports(root: Path, module: Module) -> list[ast.ImportFrom]:
    """The imports that inlining replaces. Every import of the module is checked on the way."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_inlined(root, module, node.lineno, alias.name):
                    instead = f"write `from {alias.name} import NAME`"
                    module.refuse(node.lineno, f"`import {alias.name}` imports a module", instead)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module in ("__future__", "__main__"):
                module.refuse(node.lineno, "a relative, __future__ or __main__ import", "write without it")
            if is_inlined(root, module, node.lineno, node.module or ""):
                check_form(module, node)
                found.append(node)
        elif isinstance(node, ast.Name) and node.id in OF_THE_MODULE:
            found_name = f"uses {node.id}, which is another one in the kernel"
            module.refuse(node.lineno, found_name, "pass the value in, or move the line to infer/__main__.py")
    return sorted(found, key=lambda node: node.lineno)


def own_scope(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs in the module's own scope, so not the insides of functions and classes."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, NEW_SCOPE + NAMED_SCOPE):
            waiting[:0] = ast.iter_child_nodes(node)


@cache
def definitions(module: Module) -> dict[str, int]:
    """Top-level name -> line of what the module defines itself."""
    names: dict[str, int] = {}
    for node in own_scope(module.tree):
        if isinstance(node, NAMED_SCOPE) or (isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name):
            names.setdefault(str(node.name), node.lineno)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, node.lineno)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            names |= {name: node.lineno for name in node.names if name not in names}
    return names


def outside_imports(module: Module) -> list[tuple[str, int, str]]:
    """(name, line, what it stands for) of the imports from the standard library and packages."""
    found = []
    for node in own_scope(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.split(".")[0]  # `import a.b` binds a
                found.append((alias.asname or package, node.lineno, alias.name if alias.asname else package))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in ROOMS:
            for alias in node.names:
                if alias.name == "*":
                    instead = f"write `from {node.module} import NAME` with its names"
                    module.refuse(node.lineno, f"takes everything from {node.module}", instead)
                found.append((alias.asname or alias.name, node.lineno, f"{node.module}.{alias.name}"))
    return found


def collect(root: Path) -> list[Module]:
    """The entry and all it imports, dependencies first."""
    done: dict[str, Module] = {}

    def visit(name: str, road: list[str]) -> Module:
        if name in road:
            circle = " -> ".join([*road[road.index(name) :], name])
            raise BuildError(f"{circle}: a circle of imports; move what both need to a module of its own.")
        if name not in done:
            module = read(root, name)
            for node in project_imports(root, module):
                check_names_exist(module, node, visit(str(node.module), [*road, name]))
            done[name] = module
        return done[name]

    entry = visit(ENTRY, [])
    if "run_kernel" not in definitions(entry):
        raise BuildError(f"{ENTRY}: no `def run_kernel(root: Path, blend_json: str) -> None`; define it.")
    return list(done.values())


def check_names_exist(module: Module, node: ast.ImportFrom, source: Module) -> None:
    for alias in node.names:
        if alias.name not in definitions(source):
            found = f"{source.name} does not define {alias.name}"
            module.refuse(node.lineno, found, "import it from the module that does")


def check_one_meaning(modules: list[Module]) -> None:
    """All modules will share one scope: a name must stand for one thing in all of them."""
    seen: dict[str, tuple[str, str]] = {}  # name -> (meaning, where)
    for module in modules:
        own = [(name, line, f"defined in {module.name}") for name, line in definitions(module).items()]
        outside = [(name, line, f"{origin} from outside") for name, line, origin in outside_imports(module)]
        for name, line, meaning in own + outside:
            if hasattr(builtins, name):
                found = f"{name} hides Python's own {name} from all modules after it"
                module.refuse(line, found, "choose another name")
            first, where = seen.setdefault(name, (meaning, f"{module.name}, line {line}"))
            if first != meaning:
                found = f"{name} is {meaning}, but {first} in {where}"
                module.refuse(line, found, "one name has one meaning in the kernel, so rename one")


def section(root: Path, module: Module) -> Section:
    """The module's docstring, and its source without that and the project imports."""
    body = module.tree.body
    docstring = ast.get_docstring(module.tree)
    cut: list[ast.stmt] = [*(body[:1] if docstring is not None else []), *project_imports(root, module)]
    lines: list[str | None] = list(module.source.split("\n"))  # not splitlines: \f and \u2028 end no line
    for statement in cut:
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        if any(s is not statement and s.lineno <= last and (s.end_lineno or 0) >= first for s in body):
            module.refuse(first, "two statements on one line", "give each its own, one of them is cut out")
        lines[first - 1 : last] = [None] * (last - first + 1)
        if last < len(lines) and lines[last] == "":  # a gap after: close the gap before
            gap = first - 2
            while gap >= 0 and not lines[gap]:
                lines[gap] = None
                gap -= 1
    source = "\n".join(line for line in lines if line is not None).strip("\n")
    return Section(module.name, docstring or "", source)
