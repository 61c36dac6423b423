"""What a reviewer would otherwise have to look for, read out of the source.

Each rule is a function from one parsed module to the lines that break it; each is also shown to find what it is for.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("services", "serving", "training", "lesionlens")
#: Where frameworks come in: entry points, adapters, composition roots. Everything else is domain code.
FRAMEWORKS = {"flask", "flask_smorest", "flask_babel", "flask_limiter", "celery", "gunicorn", "kombu"}
MAY_USE_FRAMEWORKS = (
    "services/gateway/",
    "services/preprocessor/worker.py",
    "services/stacker/beat.py",
    "services/stacker/worker.py",
    "services/analysis/acknowledging.py",
    "services/analysis/doorbell.py",
)
#: Modules without any I/O at all.
PURE = (
    "services/preprocessor/imaging/",
    "services/stacker/stacking.py",
    "services/stacker/out_of_distribution.py",
    "services/analysis/states.py",
    "services/analysis/results.py",
)
IO_LIBRARIES = {"sqlalchemy", "psycopg2", "redis", "grpc", "obstore", "requests", "socket", "subprocess", "threading"}
#: What opens a connection, or would at the first use in the wrong process.
CONNECTS = {
    "create_engine", "make_engine", "BlobStore", "Redis", "from_url", "insecure_channel", "RemoteEnsemble", "Doorbell",
    "connect", "AnalysisRecord", "Leases", "Upkeep", "FeedbackRecord", "make_parts",
}  # fmt: skip

Rule = Callable[[str, ast.Module], Iterator[int]]


def modules() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
    )


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def nothing_is_printed(path: str, tree: ast.Module) -> Iterator[int]:
    yield from (call.lineno for call in calls(tree) if isinstance(call.func, ast.Name) and call.func.id == "print")


def no_bare_except(path: str, tree: ast.Module) -> Iterator[int]:
    yield from (node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is None)


def only_the_doorbell_enqueues(path: str, tree: ast.Module) -> Iterator[int]:
    """So "after commit, the id and nothing else" has one place to be right in."""
    if path == "services/analysis/doorbell.py":
        return
    enqueues = {"delay", "apply_async", "send_task", "delay_on_commit"}
    yield from (call.lineno for call in calls(tree) if called(call) in enqueues)


def every_task_has_both_limits(path: str, tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in {"task", "shared_task"}:
                given = {keyword.arg for keyword in decorator.keywords} if isinstance(decorator, ast.Call) else set()
                if not {"soft_time_limit", "time_limit"} <= given:
                    yield node.lineno


def domain_code_knows_no_framework(path: str, tree: ast.Module) -> Iterator[int]:
    if not path.startswith(MAY_USE_FRAMEWORKS):
        yield from (line for name, line in imported(tree) if name.split(".")[0] in FRAMEWORKS)


def pure_modules_do_no_io(path: str, tree: ast.Module) -> Iterator[int]:
    if path.startswith(PURE):
        yield from (line for name, line in imported(tree) if name.split(".")[0] in IO_LIBRARIES | FRAMEWORKS)


def only_training_knows_tensorflow(path: str, tree: ast.Module) -> Iterator[int]:
    if not path.startswith("training/"):
        heavy = {"tensorflow", "keras", "sklearn", "pandas", "tensorflow_serving"}
        yield from (line for name, line in imported(tree) if name.split(".")[0] in heavy)


def nothing_connects_at_import(path: str, tree: ast.Module) -> Iterator[int]:
    """Statements of the module itself and of its classes; what stands in functions runs when it is called."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(statement, ast.ClassDef):
            level = [part for part in statement.body if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))]
        elif isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test):
            continue
        else:
            level = [statement]
        for part in level:
            yield from (call.lineno for call in calls(part) if called(call) in CONNECTS and not _signal(call))


def _signal(call: ast.Call) -> bool:
    """`signal.connect(...)` of Celery or blinker registers a function; it opens nothing."""
    return (
        called(call) == "connect"
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id.startswith(("worker_", "setup_", "beat_", "task_", "celeryd_"))
    )


def every_route_states_who_may_call_it_and_how_often(path: str, tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        decorators = [part for part in node.decorator_list if isinstance(part, ast.Call)]
        if not any(called(part) in {"route", "get", "post", "put", "patch", "delete"} for part in decorators):
            continue
        stated = [part for part in decorators if called(part) == "route_policy"]
        if not stated or {keyword.arg for keyword in stated[0].keywords} != {"auth", "limit"}:
            yield node.lineno


def every_remote_call_has_a_deadline(path: str, tree: ast.Module) -> Iterator[int]:
    """HTTP calls name a timeout; sockets are opened with one; gRPC has its own test of the client."""
    for call in calls(tree):
        name = ast.unparse(call.func)
        keywords = {keyword.arg for keyword in call.keywords}
        if name.startswith("requests.") or name in {"urlopen", "urllib.request.urlopen", "http.client.HTTPConnection"}:
            if "timeout" not in keywords:
                yield call.lineno
        elif name == "socket.create_connection" and len(call.args) < 2 and "timeout" not in keywords:
            yield call.lineno


def nothing_is_left_for_later(path: str, tree: ast.Module) -> Iterator[int]:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    for number, line in enumerate((ROOT / path).read_text().splitlines() if (ROOT / path).exists() else [], 1):
        if any(mark in line for mark in marks):
            yield number
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.dump(node.exc):
            yield node.lineno


RULES: list[Rule] = [
    nothing_is_printed,
    no_bare_except,
    only_the_doorbell_enqueues,
    every_task_has_both_limits,
    domain_code_knows_no_framework,
    pure_modules_do_no_io,
    only_training_knows_tensorflow,
    nothing_connects_at_import,
    every_route_states_who_may_call_it_and_how_often,
    every_remote_call_has_a_deadline,
    nothing_is_left_for_later,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps(rule: Rule) -> None:
    broken = [f"{path}:{line}" for path in modules() for line in rule(path, ast.parse((ROOT / path).read_text(), path))]

    assert broken == []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (nothing_is_printed, "services/x.py", "print('hello')"),
        (no_bare_except, "services/x.py", "try:\n    pass\nexcept:\n    pass"),
        (only_the_doorbell_enqueues, "services/x.py", "task.delay(1)"),
        (only_the_doorbell_enqueues, "services/x.py", "app.send_task('t')"),
        (every_task_has_both_limits, "services/x.py", "@app.task\ndef t(): ..."),
        (every_task_has_both_limits, "services/x.py", "@app.task(time_limit=3)\ndef t(): ..."),
        (domain_code_knows_no_framework, "services/stacker/stacking.py", "from flask import g"),
        (domain_code_knows_no_framework, "serving/client.py", "import celery.app"),
        (pure_modules_do_no_io, "services/preprocessor/imaging/x.py", "import sqlalchemy"),
        (only_training_knows_tensorflow, "services/x.py", "def f():\n    import tensorflow as tf"),
        (nothing_connects_at_import, "services/x.py", "engine = make_engine('url')"),
        (nothing_connects_at_import, "services/x.py", "class A:\n    blobs = BlobStore('url')"),
        (every_route_states_who_may_call_it_and_how_often, "services/gateway/x.py", "@pages.get('/')\ndef f(): ..."),
        (
            every_route_states_who_may_call_it_and_how_often,
            "services/gateway/x.py",
            "@api.route('/')\n@route_policy(auth='public')\ndef f(): ...",
        ),
        (every_remote_call_has_a_deadline, "services/x.py", "requests.get('http://a')"),
        (nothing_is_left_for_later, "services/x.py", "def f():\n    raise NotImplementedError"),
    ],
)
def test_a_rule_finds_what_it_is_for(rule: Rule, path: str, source: str) -> None:
    assert list(rule(path, ast.parse(source)))


@pytest.mark.parametrize(
    "module",
    [
        "services.gateway.wsgi",
        "services.preprocessor.worker",
        "services.stacker.worker",
        "services.stacker.beat",
        "lesionlens.cli",
    ],
)
def test_an_entry_point_can_be_imported_without_any_server(module: str) -> None:
    """Even a wrong address does no harm before something is asked for."""
    nowhere = {"DATABASE_URL": "postgresql://nobody@192.0.2.1:1/none", "REDIS_URL": "redis://192.0.2.1:1/0"}
    script = (
        "import socket\n"
        "def refuse(*_): raise SystemExit('connected at import')\n"
        "socket.socket.connect = refuse\n"
        f"import {module}"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
