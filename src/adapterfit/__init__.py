"""adapterfit: does this PEFT adapter fit this base model - and if not, exactly why?

The public names are loaded when they are first used, so that `import adapterfit` stays free of everything heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public name → the module of ours that holds it.
_PUBLIC = {
    "check": "adapterfit.pipeline",
    "read_base": "adapterfit.pipeline",
    "why": "adapterfit.pipeline",
    "match": "adapterfit.matching",
    "fix": "adapterfit.fixing",
    "convert": "adapterfit.conversion.convert",
    "load": "adapterfit.guard.load",
    "save": "adapterfit.guard.save",
    "stamp": "adapterfit.guard.stamp",
    "StampCallback": "adapterfit.guard.callback",
    "load_ipython_extension": "adapterfit.guard.notebook",
    "unload_ipython_extension": "adapterfit.guard.notebook",
    "AdapterMisfit": "adapterfit.errors",
    "BadInput": "adapterfit.errors",
    "CannotCheck": "adapterfit.errors",
    "CannotWrite": "adapterfit.errors",
    "NotProven": "adapterfit.errors",
    "CannotConvert": "adapterfit.errors",
    "Base": "adapterfit.records",
    "Diagnosis": "adapterfit.records",
    "Finding": "adapterfit.records",
    "Plan": "adapterfit.plans",
    "Receipt": "adapterfit.plans",
    "Report": "adapterfit.records",
}

if TYPE_CHECKING:
    from adapterfit.conversion.convert import convert
    from adapterfit.errors import AdapterMisfit, BadInput, CannotCheck, CannotConvert, CannotWrite, NotProven
    from adapterfit.fixing import fix
    from adapterfit.guard.callback import StampCallback
    from adapterfit.guard.load import load
    from adapterfit.guard.notebook import load_ipython_extension, unload_ipython_extension
    from adapterfit.guard.save import save
    from adapterfit.guard.stamp import stamp
    from adapterfit.matching import match
    from adapterfit.pipeline import check, read_base, why
    from adapterfit.plans import Plan, Receipt
    from adapterfit.records import Base, Diagnosis, Finding, Report

__all__ = [
    "AdapterMisfit",
    "BadInput",
    "Base",
    "CannotCheck",
    "CannotConvert",
    "CannotWrite",
    "Diagnosis",
    "Finding",
    "NotProven",
    "Plan",
    "Receipt",
    "Report",
    "StampCallback",
    "__version__",
    "check",
    "convert",
    "fix",
    "load",
    "load_ipython_extension",
    "match",
    "read_base",
    "save",
    "stamp",
    "unload_ipython_extension",
    "why",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adapterfit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
