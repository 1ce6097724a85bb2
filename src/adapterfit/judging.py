"""Start the judge (`exact/judge.py`) in the Python you name, bounded in time and memory, and read its one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.records import Case, Exact, Report
from adapterfit.text import quote, show

_SCRIPT = Path(__file__).parent / "exact" / "judge.py"
#: What each of our words is to the judge, who does not run the model and so cannot tell a part from nothing.
_SAME = {"loads-differently": "loads", "loads-without-effect": "loads-partly"}


def judge(case: Case, class_name: str, python: str | None = None) -> Exact:
    """Ask the PEFT installed for `python` (this one by default). Never raises: `cannot` says why there is no answer."""
    config, base = case.adapter.config, case.base
    if base is None or base.config is None or config is None or case.adapter.weights is None:
        return Exact(cannot="the real PEFT needs the base's config.json, the adapter's config and its weights' header")
    question = {
        "base_config": dict(base.config),
        "class_name": class_name,
        "adapter_config": dict(config.raw),
        "pickled": not case.adapter.weights.file.endswith(".safetensors"),
        "tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in case.adapter.tensors],
    }
    try:
        line = _run(python or sys.executable, json.dumps(question))
    except (OSError, subprocess.SubprocessError) as error:
        return Exact(cannot=_why(error, python or sys.executable))
    return _answer(line)


def beside(report: Report) -> str:
    """Our answer beside the judge's: `same`, `different`, `undecided` (ours), `other versions` than ours, or `unasked`."""
    exact, who = report.exact, report.case.consumer
    if exact is None or exact.cannot:
        return "unasked"
    ours = {"peft": who.peft, "transformers": who.transformers}
    if any(exact.versions.get(name) != version for name, version in ours.items()):
        return "other versions"
    if report.predicted == "cannot-tell":
        return "undecided"
    return "same" if _SAME.get(report.predicted, report.predicted) == exact.outcome else "different"


def _run(python: str, question: str) -> bytes:
    import tempfile

    environment = {
        key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT") if key in os.environ
    }
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Into a file, not a pipe: neither an answer without an end nor a child that it leaves behind can hold us up.
    with tempfile.TemporaryFile() as answer:
        subprocess.run(  # noqa: S603 - the caller names the Python; our own script, no shell
            [python, "-I", str(_SCRIPT)],
            input=question.encode(),
            stdout=answer,
            stderr=subprocess.DEVNULL,
            timeout=limits.JUDGE_SECONDS,
            env=environment,
            preexec_fn=_bounded if os.name == "posix" else None,
            check=False,
        )
        answer.seek(0)
        return answer.read(limits.JUDGE_ANSWER_BYTES + 1)


def _bounded() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (limits.JUDGE_SECONDS, limits.JUDGE_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.JUDGE_MEMORY, limits.JUDGE_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.JUDGE_ANSWER_BYTES + 1, limits.JUDGE_ANSWER_BYTES + 1))


def _answer(line: bytes) -> Exact:
    """The judge's line, trusted as little as any other input."""
    if len(line) > limits.JUDGE_ANSWER_BYTES:
        return Exact(cannot=f"the process that asks the real PEFT said more than {limits.JUDGE_ANSWER_BYTES:,} bytes")
    if not line.strip():
        return Exact(cannot="the process that asks the real PEFT ended without an answer")
    try:
        found = strictjson.loads(line.strip(), what="the answer of the real PEFT")
    except BadInput as bad:
        return Exact(cannot=bad.flaw.message)
    if not isinstance(found, Mapping):
        return Exact(cannot="the answer of the real PEFT is not an object")
    versions = found.get("versions")
    return Exact(
        cannot=_text(found, "cannot"),
        outcome=_text(found, "outcome"),
        raised=_text(found, "raised"),
        missing=_names(found, "missing"),
        unexpected=_names(found, "unexpected"),
        warnings=_names(found, "warnings"),
        versions={str(key): str(value) for key, value in versions.items()} if isinstance(versions, Mapping) else {},
    )


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _names(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = found.get(key)
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _why(error: Exception, python: str) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the real PEFT had no answer after {limits.JUDGE_SECONDS} s"
    return f"{quote(python)} cannot be started: {show(getattr(error, 'strerror', None) or error)}"
