"""`StampCallback`: every checkpoint that a `transformers.Trainer` saves is checked against the live base and stamped."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from adapterfit.errors import AdapterfitError, AdapterMisfit
from adapterfit.guard.plain import merged
from adapterfit.guard.stamp import changes_base, write_stamp

_CONFIG = "adapter_config.json"


class StampCallback:
    """`Trainer(…, callbacks=[StampCallback()])`.

    It has the methods a `TrainerCallback` has without being one, so that nothing of transformers is imported before the
    Trainer does it itself.

    Args:
        full: Take a digest of all numbers of the touched modules; reads them once per checkpoint.
        strict: Stop the training where a checkpoint could not be loaded again. Otherwise a warning says so.
    """

    def __init__(self, *, full: bool = False, strict: bool = False) -> None:
        self.full = full
        self.strict = strict

    def on_save(self, args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
        """Stamp what was just saved, by the main process only."""
        if not state.is_world_process_zero or model is None:
            return
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        for config in sorted(folder.rglob(_CONFIG)):
            self._stamp(config.parent, model)

    def _stamp(self, folder: Path, model: Any) -> None:
        try:
            write_stamp(folder, model, full=self.full, changed=changes_base(model) or merged(model))
        except AdapterMisfit as misfit:
            if self.strict:
                raise
            warnings.warn(f"this checkpoint could not be loaded again: {misfit}", stacklevel=2)
        except AdapterfitError as error:
            warnings.warn(f"not stamped: {error}", stacklevel=2)

    def __getattr__(self, name: str) -> Any:
        """Every other event of the Trainer, now and in later versions, is let pass."""
        if name.startswith("on_"):
            return _pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _pass(*_: Any, **__: Any) -> None:
    """Nothing to do at this event."""
