"""Many model types, each in a process of its own with limits: the libraries are imported once and then forked."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable

Work = Callable[[str], Any]


def farm(work: Work, names: Iterable[str], workers: int, seconds: int) -> Iterator[tuple[str, Any, str, float]]:
    """`(name, what work returned, why it failed, CPU seconds)` as they end; what is returned must be JSON."""
    with TemporaryDirectory() as folder:
        running: dict[int, tuple[str, float]] = {}
        waiting = list(names)
        while waiting or running:
            while waiting and len(running) < workers:
                name = waiting.pop(0)
                running[_start(work, name, Path(folder), seconds)] = (name, time.time())
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                for late, (_, since) in running.items():
                    if time.time() - since > 20 * seconds:
                        os.kill(late, signal.SIGKILL)
                time.sleep(0.05)
                continue
            name, _ = running.pop(pid)
            yield (name, *_answer(Path(folder) / f"{pid}.json", status), used.ru_utime + used.ru_stime)


def _start(work: Work, name: str, folder: Path, seconds: int) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            answer = {"value": work(name), "why": ""}
    except BaseException as problem:  # whatever it is, the parent is to hear of it
        where = traceback.extract_tb(problem.__traceback__)[-1]
        told = f"{type(problem).__name__}: {problem}".splitlines()[0][:300]
        answer = {"value": None, "why": f"{told} ({Path(where.filename).name}:{where.lineno})"}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(answer))
    os._exit(0)


def _answer(path: Path, status: int) -> tuple[Any, str]:
    if path.exists():
        answer = json.loads(path.read_text())
        path.unlink()
        return answer["value"], answer["why"]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGKILL}:
        return None, "takes too long"
    return None, f"the process ended with status {status}"
