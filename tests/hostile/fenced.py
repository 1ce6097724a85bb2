"""The fenced process: limits, an audit hook, then every row of `tasks.json` twice. Started by `harness.py`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

work, memory, cpu = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, str(Path(__file__).parent))

import actions  # noqa: E402 - after the path that leads to it

actions.warm_up(work)

root: list[str] = []
breaches: list[str] = []
fenced: list[bool] = []
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "shutil.",
    "ctypes.",
)
_WRITES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
)
_FORBIDDEN_EXACT = (
    "pickle.find_class",
    "marshal.loads",
    "compile",
    "exec",
    "mmap.__new__",
    "os.putenv",
    "webbrowser.open",
)


def hook(event: str, args: tuple[Any, ...]) -> None:
    """Record what must not happen while a row is checked."""
    if not fenced:
        return
    if event == "import":
        if args[0] not in sys.modules:
            breaches.append(f"import {args[0]}")
    elif event == "open":
        judge_open(*args)
    elif event.startswith(_FORBIDDEN) or event in (*_FORBIDDEN_EXACT, *_WRITES):
        breaches.append(event)


def judge_open(path: Any, mode: Any, flags: int) -> None:
    """Reading inside the row's folder only. A path relative to a descriptor was judged when that was opened."""
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        breaches.append(f"open for writing: {path!r}")
    if isinstance(path, (str, bytes)):
        text = os.fsdecode(path)
        inside = not text.startswith("/") and ".." not in text.split("/")
        if not inside and not (os.path.realpath(text) + "/").startswith(root[0]):
            breaches.append(f"open {text!r}")


def answer(name: str, action: str, folder: str) -> dict[str, Any]:
    """One row, run twice."""
    root[:] = [os.path.realpath(folder) + "/"]
    breaches.clear()
    start = time.perf_counter()
    first = attempt(action, folder)
    seconds = time.perf_counter() - start
    again = attempt(action, folder)
    same = json.dumps(first, sort_keys=True) == json.dumps(again, sort_keys=True)
    return {"name": name, "seconds": seconds, "same_twice": same, "breaches": list(breaches), **first}


def attempt(action: str, folder: str) -> dict[str, Any]:
    """The action's flaws and facts, or the error it ended with."""
    result: dict[str, Any] = {"flaws": [], "facts": None, "error": "", "traceback": ""}
    fenced.append(True)
    try:
        result["flaws"], result["facts"] = getattr(actions, action)(folder)
    except actions.CannotCheck as error:
        result["error"] = f"CannotCheck: {error}"
    except BaseException:  # the whole point: nothing else may escape
        fenced.clear()
        result["traceback"] = traceback.format_exc()
    finally:
        fenced.clear()
    return result


resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
sys.addaudithook(hook)
for task in json.loads((work / "tasks.json").read_text()):
    print(json.dumps(answer(*task)), flush=True)
