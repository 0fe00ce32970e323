"""A job: one heavy step, described so completely that its result can be reused."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

PACKAGE = "ser_kedro"


# What a job makes, by name: a ``TypedDict`` of references.
Outputs = TypeVar("Outputs", bound=Mapping[str, object])
# What a rank returns that is not the first: only what rank 0 returns counts.
NOT_MINE: Any = {}


class Job(BaseModel, Generic[Outputs]):
    """Base of all jobs: what to do, on which inputs, with which parameters.

    A subclass adds fields and ``work``. Two jobs with one fingerprint give one result.
    The launcher is no field: how a job is run must not change what it makes.

    Attributes:
        stage: Its folder in the store.
        libraries: Packages whose versions are part of what it is.
        distributed: Whether all ranks of a launcher can do its work together. Then
            ``work`` runs in each of them, and what rank 0 returns counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    distributed: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """What it does, for the log; no part of the fingerprint."""
        return self.stage

    def work(self, workspace: Path) -> Outputs:
        """Do it. Begun work found in ``workspace`` is resumed.

        Args:
            workspace: A folder of this job alone; what is left in it is kept.

        Returns:
            What was made, by name: references with paths relative to the workspace.
        """
        raise TypeError(f"{type(self).__name__} does not say how to do its work")

    @property
    def fingerprint(self) -> str:
        """Hash of the job, its inputs, our code that it runs, and its libraries."""
        identity = {
            "stage": self.stage,
            "job": self.model_dump(mode="json", context={"identity": True}),
            "code": code_hash(type(self).__module__),
            "libraries": {name: version(name) for name in self.libraries},
        }
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def code_hash(module: str) -> str:
    """Hash the source of a module of ours and of all of ours that it imports.

    Imports inside functions count too. Comments, docstrings and layout do not, so
    that a better comment costs nobody a training run.
    """
    known = code_modules(module)
    text = "\n".join(f"{name} {ast.dump(known[name])}" for name in sorted(known))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_modules(module: str) -> dict[str, ast.Module]:
    """Return the modules of ours behind a module, itself among them, as syntax trees.

    Whoever adds one to those of a job makes every stored result of that job stale once
    it changes; ``tests/store/test_code_modules.json`` says which they are.
    """
    seen: dict[str, ast.Module] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        tree = ast.parse(_source(name))
        seen[name] = _without_docstrings(tree)
        waiting.extend(_own_imports(tree))
    return seen


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"no source for {module}")
    return Path(spec.origin).read_text("utf-8")


def _own_imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # ``from package import module`` and ``from module import name`` look alike.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module, *filter(_is_module, inner)]
    return [name for name in names if name.split(".")[0] == PACKAGE]


def _is_module(name: str) -> bool:
    if not name.startswith(f"{PACKAGE}."):
        return False
    # Asking for what is inside a plain module would import it, and torch with it.
    parent = importlib.util.find_spec(name.rpartition(".")[0])
    if parent is None or parent.submodule_search_locations is None:
        return False
    return importlib.util.find_spec(name) is not None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
