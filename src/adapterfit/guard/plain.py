"""The base inside a model that already carries an adapter, as if nothing had been put on it.

Training leaves the base wrapped: `q_proj` is a LoRA layer whose `base_layer` is the Linear, `lm_head` a wrapper whose
`original_module` is the head. The view here names and shows the modules as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.read.live import base_from_module
from adapterfit.records import Base

#: What a wrapper of PEFT calls the module it wraps, by the full name of a class among its ancestors.
_INNER = {
    "peft.tuners.tuners_utils.BaseTunerLayer": "base_layer",
    "peft.utils.other.AuxiliaryTrainingWrapper": "original_module",
    "peft.tuners.adaption_prompt.layer._BaseAdaptedAttention": "model",
    "peft.tuners.adaption_prompt.layer.AdaptedAttention": "model",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
}
_PEFT_MODEL = "peft.peft_model.PeftModel"


def plain_model(model: Any) -> Any:
    """The model itself, or a view of the base inside it."""
    core = _core(model)
    wrapped = any(_peeled(module) is not module for module in core.modules())
    if core is model and not wrapped:
        return model
    kind = type(core)
    view = type(kind.__name__, (_View,), {"__module__": kind.__module__})
    return view(core)


def plain_base(model: Any) -> Base:
    """A live model's base as the check reads it, whatever adapter is on it."""
    return base_from_module(plain_model(model))


def merged(model: Any) -> bool:
    """Whether an adapter is merged into the base's weights right now, so that they are not the base's own."""
    return any(getattr(module, "merged", False) is True for module in model.modules() if _peeled(module) is not module)


def _core(model: Any) -> Any:
    """Without the wrappers around the whole model."""
    while True:
        model = _peeled(model)
        if _PEFT_MODEL not in _ancestors(model):
            return model
        model = model.get_base_model()


def _ancestors(module: Any) -> set[str]:
    return {f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__}


def _peeled(module: Any) -> Any:
    """The module that a wrapper, or several on one another, was put on."""
    while True:
        ancestors = _ancestors(module)
        inner = next((attribute for name, attribute in _INNER.items() if name in ancestors), None)
        if inner is None or not hasattr(module, inner):
            return module
        module = getattr(module, inner)


class _View:
    """What `read/live.py` asks of an `nn.Module`, answered without the wrappers."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.config = getattr(core, "config", None)
        self.base_model_prefix = getattr(core, "base_model_prefix", "")

    def named_modules(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """`(path, module)`, the root first."""
        seen: set[int] = set()
        for path, module in _walk(self._core, ""):
            if not remove_duplicate or id(module) not in seen:
                seen.add(id(module))
                yield path, (self if module is self._core else module)

    def named_parameters(self, recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """The root's own parameters, or every module's."""
        if not recurse:
            yield from self._core.named_parameters(recurse=False)
            return
        for path, module in self.named_modules(remove_duplicate):
            for name, parameter in module.named_parameters(recurse=False):
                yield (f"{path}.{name}" if path else name), parameter

    def children(self) -> Iterator[Any]:
        """The modules directly below."""
        return iter(self._core.children())

    def get_input_embeddings(self) -> Any:
        """The embedding, unwrapped."""
        return _peeled(self._core.get_input_embeddings())

    def get_output_embeddings(self) -> Any:
        """The head, unwrapped; None where there is none."""
        found = self._core.get_output_embeddings()
        return found if found is None else _peeled(found)


def _walk(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, module
    for name, child in module.named_children():
        yield from _walk(_peeled(child), f"{path}.{name}" if path else name)
