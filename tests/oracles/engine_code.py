"""Files of an engine's own code, run without the engine: those that are named are real, the rest of its package is hollow.

`make oracles` unpacks the sources beside its other packages; ENGINE_SOURCES may name another folder with `vllm/` and the
like in it.
"""

import importlib.machinery
import importlib.metadata
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


def version(distribution):
    """The version of what is unpacked: what the tests speak of."""
    (folder,) = (path for path in SOURCES.glob(f"{distribution}-*") if path.is_dir())
    return folder.name.partition("-")[2].removesuffix(".dist-info")


def bears(consumer, *claims):
    """The mark of a test that bears out claims about the version that is installed."""
    try:
        found = importlib.metadata.version(consumer)
    except importlib.metadata.PackageNotFoundError:
        found = ""  # the tests are skipped
    release = found.removesuffix(".0") if found.count(".") == 3 else found  # 2026.4.1.0 is the release 2026.4.1
    return pytest.mark.bears(consumer, release, *claims)


def llama_cpp():
    """The folder of llama.cpp with its converters, which llama-cpp-python's source holds."""
    found = next(SOURCES.glob("llama_cpp_python-*/vendor/llama.cpp"), None)
    if found is None:
        pytest.skip("the source of llama.cpp is unpacked by `make oracles` only", allow_module_level=True)
    return found


def use(package, *real):
    """From here on these modules of the package are its own code; the tests of the file are skipped where it is not there."""
    if not (SOURCES / package).is_dir():
        pytest.skip(f"the source of {package} is unpacked by `make oracles` only", allow_module_level=True)
    if not any(isinstance(finder, _Finder) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(package, real))
