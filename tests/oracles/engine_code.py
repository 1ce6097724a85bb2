"""Files of an engine's own code, run without the engine: those that are named are real, the rest of its package is hollow.

`make oracles` unpacks the sources beside its other packages; ENGINE_SOURCES may name another folder with `vllm/` and the
like in it.
"""

import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import types
from pathlib import Path

import pytest

SOURCES = Path(os.environ.get("ENGINE_SOURCES") or Path(sysconfig.get_path("purelib"), "engine_sources"))


class _Anything(type):
    """A class whose attributes are further classes: enough for annotations, base classes and imports."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)


def _anything(name):
    body = {"__init__": lambda self, *args, **kwargs: None, "__getattr__": lambda self, name: lambda *a, **k: None}
    return _Anything(name, (), body)


class _Hollow(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, _anything(name))
        return self.__dict__[name]


class _Finder:
    """Finds the modules of one package."""

    def __init__(self, package, real):
        self.package, self.real = package, frozenset(real)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != self.package:
            return None
        if name in self.real:
            return importlib.util.spec_from_file_location(name, SOURCES / f"{name.replace('.', '/')}.py")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = _Hollow(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        """Nothing is in it."""


def use(package, *real):
    """From here on these modules of the package are its own code; the tests of the file are skipped where it is not there."""
    if not (SOURCES / package).is_dir():
        pytest.skip(f"the source of {package} is unpacked by `make oracles` only", allow_module_level=True)
    if not any(isinstance(finder, _Finder) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(package, real))
