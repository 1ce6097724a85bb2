"""The two ways a check can end without an answer, plus the misfit that `load` raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapterfit.records import Flaw, Report


class AdapterfitError(Exception):
    """Root of all our errors; its text is one line, safe to print."""


class BadInput(AdapterfitError):
    """The artefact's fault: carries the flaw that names it. Never escapes `check`; it becomes a finding."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


class CannotCheck(AdapterfitError):
    """The environment's fault: a path that is not there, a file that changed while it was read, no permission."""


class CannotWrite(CannotCheck):
    """A repaired copy cannot be written there: the place is taken, forbidden or full. Nothing was left behind."""


class NotProven(AdapterfitError):
    """A repaired copy was written, looked at again, and was not what the plan said. Nothing of it was left behind."""


class BadEdit(AdapterfitError):
    """An edit that cannot be carried out on these tensors: a name that is not there or is taken, sizes that do not add up."""


class AdapterMisfit(AdapterfitError):
    """What `load`, `save` and `stamp` raise instead of going on with an adapter that does not fit.

    `report` is the check it follows from; None where nothing could be checked yet. `names` are the tensors concerned.
    """

    def __init__(self, message: str, report: Report | None = None, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.report = report
        self.names = names


class CannotConvert(AdapterfitError):
    """An adapter holds something that the wanted format cannot express, or the files do not say enough.

    `names` are the tensors, modules or config fields concerned. Nothing was written.
    """

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names
