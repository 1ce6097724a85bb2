"""The base as PEFT leaves it after the injection: which modules are wrapped, and what every parameter is called then.

Pure bookkeeping on names: `Wrapped.expected()` lists the slots and the base's own parameters in the order of the
model's state dict, which is the order in which torch reports mismatches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from adapterfit.expect.methods._layer import ADAPTER, LayerSlot
from adapterfit.records import Module, ModuleTree, Shape, Slot

#: In place of a number of rows: they are another module's.
SHARED_ROWS = -1


@dataclass
class Wrapped:
    """`prefix` is what PEFT puts before every path: `base_model.model.` for tuners, `base_model.` for prompts."""

    tree: ModuleTree
    prefix: str
    #: Module → one list of slots per wrapper around it, innermost first.
    tuned: dict[str, list[tuple[LayerSlot, ...]]] = field(default_factory=dict)
    #: Modules with a copy of their own (`modules_to_save`), and those whose copy shares the embedding's weight.
    saved: dict[str, bool] = field(default_factory=dict)
    #: Embedding-like modules with trainable tokens → rows, or `SHARED_ROWS`.
    tokens: dict[str, int] = field(default_factory=dict)
    #: What PEFT does about a tensor of its own that the file lacks.
    if_missing: str = "warns"
    #: … and about a whole copy of a module, or a row, that the file lacks.
    if_missing_saved: str = "raises"
    #: What a wrapper calls the module it wraps; empty where it is that module itself, with more in it (before 0.7).
    inner: str = "base_layer"
    #: Tensors that hang on the tuner, not on a module.
    shared: tuple[Slot, ...] = ()
    _paths: dict[str, str] = field(default_factory=dict)

    def expected(self) -> tuple[tuple[Slot, ...], dict[str, Shape]]:
        """Every tensor PEFT will look for; and every parameter of the wrapped model by the name it has now, the base's own too."""
        self._paths.clear()
        walked = list(self._walk())
        state = dict((item.model_key, item.shape) if isinstance(item, Slot) else item for item in walked)
        for second, first in self.tree.aliases.items():
            module = next((m for m in self.tree.modules if m.name == first), None)
            if module is not None and first not in self.tuned:
                state.update((f"{self.prefix}{second}.{name}", shape) for name, shape in module.params.items())
        return tuple(item for item in walked if isinstance(item, Slot)), state

    def _walk(self) -> Iterator[Slot | tuple[str, Shape]]:
        """State-dict order: a module's own parameters, its children, then what a wrapper adds after them."""
        pending: list[str] = []
        for module in self.tree.modules:
            while pending and not module.name.startswith(pending[-1] + "."):
                yield from self._after(pending.pop())
            path = self._path(module.name)
            if self.inner not in ("base_layer", ""):
                yield from self._tuner_slots(module.name)
            for name, shape in module.params.items():
                yield f"{path}.{name}" if module.name else f"{self.prefix}{name}", shape
            if module.name in self.tuned or module.name in self.saved or module.name in self.tokens:
                pending.append(module.name)
        while pending:
            yield from self._after(pending.pop())
        yield from self.shared

    def _after(self, name: str) -> Iterator[Slot]:
        if self.inner in ("base_layer", ""):
            yield from self._tuner_slots(name)
        if name in self.saved:
            yield from self._saved_slots(name)
        if self.tokens.get(name, SHARED_ROWS) != SHARED_ROWS:
            module = next(m for m in self.tree.modules if m.name == name)
            shape = (self.tokens[name], module.params["weight"][1])
            key = f"{self.prefix}{name}.token_adapter.trainable_tokens_delta"
            yield Slot(key, f"{key}.{ADAPTER}", shape, name, role="tokens", if_missing=self.if_missing_saved)

    def _tuner_slots(self, name: str) -> Iterator[Slot]:
        wrappers = self.tuned.get(name, [])
        outer = self._path(name, inside=False)
        for depth, slots in enumerate(wrappers):
            path = outer + self._inward(len(wrappers) - 1 - depth)
            for slot in slots:
                yield Slot(
                    key=f"{path}.{slot.key}",
                    model_key=f"{path}.{slot.model_key}",
                    shape=slot.shape,
                    module=name,
                    if_missing="silent" if slot.optional or slot.silent else self.if_missing,
                    optional=slot.optional,
                    shares=slot.shares,
                    still=slot.still,
                )

    def _saved_slots(self, name: str) -> Iterator[Slot]:
        path = f"{self.prefix}{name}"
        for module in self._inside(name):
            inner = module.name[len(name) + 1 :]
            for param, shape in module.params.items():
                leaf = f"{inner}.{param}" if inner else param
                model_key = f"{path}.modules_to_save.{ADAPTER}.{leaf}"
                yield Slot(
                    f"{path}.{leaf}", model_key, shape, name, role="saved-module", if_missing=self.if_missing_saved
                )

    def _inside(self, name: str) -> list[Module]:
        return [m for m in self.tree.modules if m.name == name or m.name.startswith(name + ".")]

    def _inward(self, depth: int) -> str:
        return f".{self.inner}" * depth if self.inner else ""

    def _path(self, name: str, *, inside: bool = True) -> str:
        """Where a module of the base lives now; with `inside` false, where the wrapper around it lives."""
        if not name:
            return self.prefix
        parent, _, last = name.rpartition(".")
        path = f"{self._kept(parent)}.{last}" if parent else f"{self.prefix}{last}"
        if not inside:
            return path
        path += self._inward(len(self.tuned.get(name, ())))
        if name in self.saved:
            return path + ".original_module"
        return path + ".token_adapter.base_layer" if name in self.tokens else path

    def _kept(self, name: str) -> str:
        """`_path` of a module that others are in, found once."""
        if name not in self._paths:
            self._paths[name] = self._path(name)
        return self._paths[name]
