"""A live `nn.Module` → `Base`, without importing torch: only what every module offers is asked for.

Classes are told apart by their names and those of their ancestors, so a subclass of `nn.Linear` is one here too.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.read.base_config import quantisation
from adapterfit.records import Base, Flaw, Module, ModuleTree
from adapterfit.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from adapterfit.records import Shape

_KINDS = {
    "torch.nn.modules.linear.Linear": "Linear",
    "torch.nn.modules.sparse.Embedding": "Embedding",
    "torch.nn.modules.conv.Conv1d": "Conv1d",
    "torch.nn.modules.conv.Conv2d": "Conv2d",
    "torch.nn.modules.conv.Conv3d": "Conv3d",
    "torch.nn.modules.activation.MultiheadAttention": "MultiheadAttention",
    "transformers.pytorch_utils.Conv1D": "Conv1D",
    "transformers.modeling_utils.Conv1D": "Conv1D",
}
#: Classes of packed Linear layers, by name or by that of an ancestor, and how they are packed. Most are no `nn.Linear`.
_PACKED = {
    "bitsandbytes.nn.modules.Linear4bit": "bitsandbytes-4bit",
    "bitsandbytes.nn.modules.Linear8bitLt": "bitsandbytes-8bit",
    "gptqmodel.nn_modules.qlinear.GPTQQuantLinear": "gptq",
    "gptqmodel.nn_modules.qlinear.AWQuantLinear": "awq",
    "hqq.core.quantize.HQQLinear": "hqq",
    "optimum.quanto.nn.qlinear.QLinear": "quanto",
    "transformers.integrations.finegrained_fp8.FP8Linear": "fp8",
}
#: The same by the beginning of a class's name: AutoGPTQ's, AutoAWQ's, EETQ's, AQLM's, VPTQ's, SpQR's.
_PACKED_NAMES = {
    "QuantLinear": "gptq", "WQLinear": "awq", "QuantizedLinear": "aqlm", "EetqLinear": "eetq", "VQuantLinear": "vptq",
    "SpQRLinear": "spqr",
}  # fmt: skip
_SIZES = (("in_features", "out_features"), ("infeatures", "outfeatures"))
_ENCODER_LAYER = "torch.nn.modules.transformer.TransformerEncoderLayer"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_PEFT_MODEL = "peft.peft_model.PeftModel"
_PEFT_LAYER = "peft.tuners.tuners_utils.BaseTunerLayer"
#: Measured on PEFT 0.21.2, for a PeftModel and for a model that `get_peft_model` changed in place alike.
_SECOND_TIME = (
    "UserWarning: Already found a `peft_config` attribute in the model. This will lead to having multiple adapters in "
    "the model. Make sure to know what you are doing!"
)
#: Config values that are handed on as they are; anything else (a dtype, a nested object) becomes text.
_PLAIN = (str, int, float, bool, type(None))


def is_live(thing: object) -> bool:
    """Whether `thing` looks like an `nn.Module`."""
    return all(callable(getattr(thing, name, None)) for name in ("named_modules", "named_parameters"))


def base_from_module(model: object) -> Base:
    """Read a live model: its modules as they are now, after whatever was done to it in memory.

    Raises:
        CannotCheck: `model` is no `nn.Module`, or has more modules than `limits.MODULES`.
    """
    if not is_live(model):
        raise CannotCheck(f"a model is due (an nn.Module), not a {show(type(model).__name__)}")
    config = _config(model)
    wrapped = _wrapped(model)
    tree = _tree(model, config, tuple(flaw.message for flaw in wrapped))
    return Base(
        label=f"the live {show(type(model).__name__)}",
        config=config or None,
        complete=True,
        quantisation=quantisation(config),
        remote_code=type(model).__module__.startswith("transformers_modules."),
        flaws=wrapped,
        tree=tree,
    )


def _tree(model: Any, config: Mapping[str, Any], doubts: tuple[str, ...]) -> ModuleTree:
    found = list(model.named_modules())
    if len(found) > limits.MODULES:
        raise CannotCheck(f"the live model has {len(found):,} modules; more than {limits.MODULES:,} are not looked at")
    paths = {id(module): name for name, module in found}
    own = {name: dict(module.named_parameters(recurse=False)) for name, module in found}
    model_type = config.get("model_type")
    return ModuleTree(
        class_name=type(model).__name__,
        model_type=model_type if isinstance(model_type, str) else "",
        modules=tuple(_module(name, module, own[name]) for name, module in found),
        known="live",
        prefix=_text(getattr(model, "base_model_prefix", "")),
        aliases=_aliases(model, paths),
        tied=_tied(own),
        input_embeddings=_path_of(model, "get_input_embeddings", paths),
        output_embeddings=_path_of(model, "get_output_embeddings", paths),
        unembedded=_unembedded(model),
        config=config,
        doubts=(*doubts, *_empty(own)),
    )


# ------------------------------------------------------------------------------------------------ one module


def _module(name: str, module: Any, own: Mapping[str, Any]) -> Module:
    kind = _kind(module)
    groups = getattr(module, "groups", 1)
    return Module(
        name=name,
        kind=kind,
        params=_params(module, kind, own),
        class_name=type(module).__name__,
        groups=groups if kind.startswith("Conv") and isinstance(groups, int) else 1,
        transposed_experts=getattr(module, "is_transposed", False) is True,
        fused=_ENCODER_LAYER in _ancestors(module) and _is_fused(module),
        packing=_packing(module) if kind == "Linear" else "",
    )


def _is_fused(layer: Any) -> bool:
    """Whether an `nn.TransformerEncoderLayer` computes with its parts' weights itself, as torch 1.12 and later do in eval mode.

    The conditions are those of its `forward` that do not depend on the input; a hook on any part keeps it off.
    """
    attention, torch = layer.self_attn, sys.modules.get("torch")
    enabled = getattr(getattr(torch, "backends", None), "mha", None)
    hooked = any(getattr(part, name, None) for part in layer.modules() for name in _HOOKS)
    return bool(
        type(layer).forward.__module__ == _ENCODER_LAYER.rpartition(".")[0]
        and (enabled is None or enabled.get_fastpath_enabled())
        and attention.batch_first
        and attention.in_proj_bias is not None
        and layer.activation_relu_or_gelu
        and layer.norm1.eps == layer.norm2.eps
        and attention.num_heads % 2 == 0
        and not hooked
    )


def _kind(module: Any) -> str:
    name = type(module).__name__
    for ancestor in _ancestors(module):
        if ancestor in _KINDS:
            return _KINDS[ancestor]
    if _packing(module) and _features(module):
        return "Linear"
    if any(True for _ in module.children()):
        return "container"
    return "norm" if "Norm" in name else "other"


def _packing(module: Any) -> str:
    """How a quantiser packed the weight of a Linear layer; empty where it holds plain numbers."""
    found = next((_PACKED[ancestor] for ancestor in _ancestors(module) if ancestor in _PACKED), "")
    own = type(module).__module__.startswith("transformers.models.")  # I-BERT's QuantLinear is none that PEFT adapts
    names = {} if own else _PACKED_NAMES
    named = next((how for name, how in names.items() if type(module).__name__.startswith(name)), "")
    # torchao leaves the module as it is, and puts a tensor of its own class into it.
    inside = type(getattr(module, "weight", None)).__module__.partition(".")[0]
    return found or named or ("torchao" if inside == "torchao" else "")


def _ancestors(module: object) -> tuple[str, ...]:
    """Full names of the class of `module` and of all it inherits from."""
    return _names_of(type(module).__mro__)


@lru_cache(maxsize=1024)
def _names_of(order: tuple[type, ...]) -> tuple[str, ...]:
    return tuple(f"{cls.__module__}.{cls.__qualname__}" for cls in order)


def _params(module: Any, kind: str, own: Mapping[str, Any]) -> dict[str, Shape]:
    shapes = {name: _shape(parameter) for name, parameter in own.items()}
    features = _features(module) if kind == "Linear" else None
    # A packed weight (bitsandbytes, GPTQ …) has another shape than the matrix it stands for, or another name.
    if features and shapes.get("weight") != features:
        bias = (("bias", features[:1]),) if getattr(module, "bias", None) is not None else ()
        return {"weight": features, **dict(bias)}
    return shapes


def _shape(parameter: Any) -> Shape:
    # DeepSpeed's ZeRO-3 leaves an empty tensor here and keeps the real shape in `ds_shape`.
    return tuple(int(size) for size in getattr(parameter, "ds_shape", parameter.shape))


def _features(module: Any) -> tuple[int, int] | None:
    """`(out, in)` as the module itself states it."""
    for inward, outward in _SIZES:
        sizes = (getattr(module, outward, None), getattr(module, inward, None))
        if all(isinstance(size, int) for size in sizes):
            return sizes  # type: ignore[return-value]
    return None


# ------------------------------------------------------------------------------------------------ the whole


def _aliases(model: Any, paths: Mapping[int, str]) -> dict[str, str]:
    everything: Iterable[tuple[str, object]] = model.named_modules(remove_duplicate=False)
    return {name: paths[id(module)] for name, module in everything if paths[id(module)] != name}


def _tied(own: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    groups: dict[object, list[str]] = {}
    for path, parameters in own.items():
        for name, parameter in parameters.items():
            groups.setdefault(_identity(parameter), []).append(f"{path}.{name}" if path else name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _identity(parameter: Any) -> object:
    """Equal for parameters on one storage. On the meta device, and under ZeRO-3, there is no address: the object counts."""
    address = parameter.data_ptr() if _shape(parameter) == tuple(parameter.shape) else 0
    return (str(parameter.device), address, tuple(parameter.shape)) if address else id(parameter)


def _path_of(model: Any, getter: str, paths: Mapping[int, str]) -> str:
    call = getattr(model, getter, None)
    if not callable(call):
        return ""
    try:
        return paths.get(id(call()), "")
    except (NotImplementedError, AttributeError, TypeError):  # models without such a layer say so in several ways
        return ""


def _unembedded(model: Any) -> str:
    """The class that cannot say which its input embeddings are, of a model with ties of its own, which PEFT asks."""
    tying = getattr(getattr(model, "config", None), "tie_word_embeddings", None)
    if not isinstance(getattr(model, "_tied_weights_keys", None), dict) or tying is False:
        return ""
    try:
        model.get_input_embeddings()
    except NotImplementedError:
        return type(getattr(model, "base_model", model)).__name__
    except (AttributeError, TypeError):
        return ""
    return ""


def _config(model: Any) -> dict[str, Any]:
    found = getattr(model, "config", None)
    to_dict = getattr(found, "to_dict", None)
    table = to_dict() if callable(to_dict) else found
    config = _plain(table) if isinstance(table, dict) else {}
    name = getattr(found, "_name_or_path", None) or getattr(found, "name_or_path", None)
    return {**config, "_name_or_path": name} if isinstance(name, str) else config


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if callable(getattr(value, "to_dict", None)):
        return _plain(value.to_dict())
    return value if isinstance(value, _PLAIN) else str(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _empty(own: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    empty = [path for path, parameters in own.items() if any(0 in _shape(p) for p in parameters.values())]
    if not empty:
        return ()
    return (
        f"{len(empty)} modules of the live model hold empty parameters, such as {show(empty[0])}: a sharded model?",
    )


def _wrapped(model: Any) -> tuple[Flaw, ...]:
    if _PEFT_MODEL in _ancestors(model):
        found = f"the live model is already a {type(model).__name__}"
        problem = "another adapter loaded on top is looked for under doubled names, which no file has"
        remedy = "give the plain base: model.unload() returns it; or add the second adapter by model.load_adapter(...)"
    else:
        layers = [name for name, module in model.named_modules() if _PEFT_LAYER in _ancestors(module)]
        if not layers:
            return ()
        found = f"the live model already carries an adapter ({len(layers)} layers, such as {show(layers[0])})"
        problem = "get_peft_model changed it in place, and what is loaded now comes on top"
        remedy = "load the base again before you put an adapter on it"
    return (
        Flaw(
            "wrapped-twice",
            f"{found}: {problem}",
            found=type(model).__name__,
            expected="the plain base model",
            refused=False,
            predicted="warns",
            raised=_SECOND_TIME,
            remedy=remedy,
        ),
    )
