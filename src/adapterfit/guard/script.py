"""Run a script as `python script.py` would, and explain under the traceback when an adapter fails to load.

Started by `adapterfit run` in an interpreter of its own: `python -m adapterfit.guard.script -- SCRIPT ARGS…`, or `-m MODULE ARGS…`.
"""

from __future__ import annotations

import atexit
import builtins
import os
import signal
import sys
from types import CodeType, TracebackType
from typing import Callable

_INTERRUPTED = 130


def run(script: str, arguments: list[str], tell: Callable[[str], None], *, as_module: bool = False) -> None:
    """Run a script; what it raises ends the process as it would have ended by itself.

    One thing differs from `python SCRIPT`: `sys.argv[0]` is the absolute path.

    Args:
        script: The user's own file, a folder or a zip with `__main__.py`, as Python takes it.
        arguments: What the script finds in `sys.argv[1:]`.
        tell: Prints the explanation.
        as_module: `script` is the name of a module, which is run as `python -m` does.

    Raises:
        SystemExit: The script raised something, or left by itself.
    """
    interrupted: list[bool] = []
    atexit.register(_end_by_signal, interrupted)  # first to come, last to run
    path = "" if as_module else os.path.abspath(script)  # noqa: PTH100 - as Python itself names the main script
    sys.argv[:] = [script, *arguments]
    if path and not getattr(sys.flags, "safe_path", False):
        sys.path[0] = path if os.path.isdir(path) else os.path.dirname(os.path.realpath(path))  # noqa: PTH112, PTH120
    try:
        if as_module:
            _run_module(script)
        else:
            _run(path)
    except SystemExit:
        raise
    except KeyboardInterrupt as error:
        _show(error, path)
        interrupted.append(True)
        raise SystemExit(_INTERRUPTED) from None
    except BaseException as error:  # noqa: BLE001 - whatever ends a script ends this process the same way
        _show(error, path)
        _explain(error, tell)
        raise SystemExit(1) from None


def _run(path: str) -> None:
    """Run the file as the module `__main__`, which stays: threads and exit handlers of the script outlive it."""
    import pkgutil
    import runpy
    from importlib.machinery import SourceFileLoader
    from types import ModuleType

    class Script(SourceFileLoader):
        """Reads a script as Python does, without leaving a compiled copy behind."""

        def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 - the name is the interface's
            return self.source_to_code(self.get_data(path), path)

    if not os.path.isfile(path) or path.endswith(".pyc") or pkgutil.get_importer(path) is not None:  # noqa: PTH113
        runpy.run_path(path, run_name="__main__")  # a folder, a zip
        return
    loader = Script("__main__", path)
    main = ModuleType("__main__")
    main.__dict__.update({"__file__": path, "__loader__": loader, "__builtins__": builtins, "__cached__": None})
    if "__annotations__" in vars(sys.modules["__main__"]):  # before Python 3.14
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    loader.exec_module(main)


def _run_module(name: str) -> None:
    """What `python -m` itself calls, in a module `__main__` of its own."""
    import runpy
    from types import ModuleType

    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    runpy._run_module_as_main(name)  # type: ignore[attr-defined] # noqa: SLF001 - the same frames in a traceback, and messages


def _show(error: BaseException, path: str) -> None:
    """The traceback, printed by whoever prints it in this process, without the frames that brought us here."""
    trace = _of_script(error.__traceback__, path)
    error.__traceback__ = trace
    sys.excepthook(type(error), error, trace)


def _of_script(trace: TracebackType | None, path: str) -> TracebackType | None:
    """The traceback from the script's own first frame on; None for a script that could not even be compiled.

    Of a module (`path` is empty) from the first frame on that is not ours: Python shows its own two as well.
    """
    while not path and trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    if not path:
        return trace
    own = (path, os.path.join(path, ""))  # noqa: PTH118 - a prefix of file names, for a folder or a zip
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name == own[0] or name.startswith(own[1]):
            return trace
        trace = trace.tb_next
    return None


def _explain(error: BaseException, tell: Callable[[str], None]) -> None:
    from adapterfit.guard.explain import explanation

    text = explanation(error)
    if text:
        tell(text)


def _end_by_signal(interrupted: list[bool]) -> None:
    """After everything else, end by the signal, so that a shell knows that its user pressed Ctrl-C."""
    if interrupted and os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """The process that `adapterfit run` becomes."""
    from adapterfit.cli import _screen

    kind, script, *arguments = sys.argv[1:]
    run(script, arguments, _screen.tell, as_module=kind == "-m")


if __name__ == "__main__":
    main()
