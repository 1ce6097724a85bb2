"""`%load_ext adapterfit`: under the traceback of a cell in which an adapter fails to load stands why."""

from __future__ import annotations

from typing import Any

from adapterfit.guard.explain import explanation

_EVENT = "post_run_cell"


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext adapterfit`. Tracebacks stay as they are; something may stand below them."""
    unload_ipython_extension(shell)
    shell.events.register(_EVENT, after_cell)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext adapterfit`."""
    if after_cell in shell.events.callbacks[_EVENT]:
        shell.events.unregister(_EVENT, after_cell)


def after_cell(result: Any) -> None:
    """Look at how a cell ended. IPython prints tracebacks to standard output, so that is where this goes too."""
    error = result.error_in_exec or result.error_before_exec
    text = explanation(error) if isinstance(error, Exception) else ""
    if text:
        from adapterfit.cli import _screen

        _screen.emit(text)
