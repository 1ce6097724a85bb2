"""A LoRA on parameters (`target_parameters`): which one each pair of tensors is for, and which of its sides is the input.

Two parameters of one module are wrapped one around the other, the first inside: its pair lies below `.base_layer`. For a
parameter (E, d1, d2) lora_A is (E r, in), expert after expert, lora_B (out, r E), rank after rank. PEFT before 0.19.0 takes d1
for the input; 0.19.1 and later d2, unless the module says `is_transposed`; 0.19.0 the other way round (`tuners/lora/layer.py`:
`ParamWrapper`). The sizes show which it was, except for square matrices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes.names._experts_turned import MARKED_SINCE_5
from adapterfit.consumers.versions import version_range
from adapterfit.conversion.neutral import Layer, Parameter
from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.peft_rules import resolved
from adapterfit.errors import CannotConvert
from adapterfit.expect.targets import ends_with_any
from adapterfit.read import peft_facts
from adapterfit.records import AdapterConfig, Module
from adapterfit.text import quote, shorten

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Pairs = Mapping[str, Mapping[str, Tensor]]
_INNER = ".base_layer"
_PREFIX = "base_model.model."


def of_parameters(opened: Opened, config: AdapterConfig, found: Pairs) -> dict[str, Parameter]:
    """The path of a pair in the file → the parameter that it is for.

    Args:
        opened: The adapter with its base, whose modules say which parameters there are.
        config: It targets parameters.
        found: Path → its tensors by their role, `a` and `b`.

    Raises:
        CannotConvert: The base is not at hand, or the tensors are not those of its parameters.
    """
    tree = opened.tree()
    if tree is None:
        raise CannotConvert(
            "target_parameters: which parameters these are, and their sizes, only the base says: give it with --base",
            ("target_parameters",),
        )
    parameters: dict[str, Parameter] = {}
    doubtful: list[tuple[str, Module]] = []
    for module, name, path in _places(tree.modules, frozenset(config.values["target_parameters"])):
        if path not in found:
            continue
        parameters[path], square = _parameter(module, name, found[path], config)
        if square:
            doubtful.append((path, module))
    marked_later = tree.model_type in MARKED_SINCE_5
    for path, module in doubtful:
        turned = _turned(module, parameters, {each for each, _ in doubtful}, config, marked_later=marked_later)
        parameters[path] = dataclasses.replace(parameters[path], turned=turned)
    return parameters


def pairs(opened: Opened) -> dict[str, dict[str, Tensor]]:
    """Path → A and B, of all pairs of the file."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in opened.tensors().items():
        for role, leaf in (("a", ".lora_A.weight"), ("b", ".lora_B.weight")):
            if name.startswith(_PREFIX) and name.endswith(leaf):
                found.setdefault(name[len(_PREFIX) : -len(leaf)], {})[role] = tensor
    return found


def _places(modules: tuple[Module, ...], wanted: frozenset[str]) -> Iterator[tuple[Module, str, str]]:
    """Every parameter that is targeted, with the path of its pair: the last one of a module is the outermost."""
    for module in modules:
        hits = [name for name in module.params if ends_with_any(f"{module.name}.{name}", wanted)]
        for at, name in enumerate(hits):
            yield module, name, module.name + _INNER * (len(hits) - 1 - at)


def _parameter(module: Module, name: str, pair: Mapping[str, Tensor], config: AdapterConfig) -> tuple[Parameter, bool]:
    """The parameter, and whether its sides are alike, so that nothing shows which is the input."""
    whole, shape = f"{module.name}.{name}", module.params[name]
    rank = int(resolved(config.values, whole, "rank_pattern", "r"))
    alpha = float(resolved(config.values, whole, "alpha_pattern", "lora_alpha"))
    if set(pair) != {"a", "b"} or len(shape) not in (2, 3):
        raise CannotConvert(f"{quote(whole)} has more than a pair of A and B, or less", (whole,))
    experts, first, second = shape if len(shape) == 3 else (1, *shape)
    sizes = pair["a"].shape, pair["b"].shape
    for turned in (False, True) if len(shape) == 3 else (False,):
        width, height = (first, second) if turned else (second, first)
        if sizes == ((rank * experts, width), (height, rank * experts)):
            one = Parameter(
                module.name,
                name,
                shape,
                pair["a"],
                pair["b"],
                alpha,
                rank,
                rslora=bool(config.values.get("use_rslora")),
                turned=turned,
            )
            return one, len(shape) == 3 and first == second
    raise CannotConvert(
        f"{quote(whole)} is {shape} in the base; lora_A {sizes[0]} and lora_B {sizes[1]} of rank {rank} are not for it",
        (whole,),
    )


def _turned(
    module: Module, all_of: Mapping[str, Parameter], doubtful: set[str], config: AdapterConfig, *, marked_later: bool
) -> bool:
    """For square matrices: as the others of this file have it, else as the release has it that wrote the config.

    `marked_later`: whether `is_transposed` came to these modules with a release of transformers, which no config records.

    Raises:
        CannotConvert: Neither tells; both readings are said.
    """
    told = {
        one.turned
        for path, one in all_of.items()
        if path not in doubtful
        and one.module.rpartition(".")[2] == module.name.rpartition(".")[2]
        and len(one.shape) == 3
    }
    if not told:
        marks = {module.transposed_experts, module.transposed_experts and not marked_later}
        releases = _releases(config)
        told = {laid_out(release, transposed=mark) for release in releases for mark in marks}
    if len(told) == 1:
        return told.pop()
    if marked_later and len(_releases(config)) == 1:
        raise CannotConvert(
            f"the matrices of {quote(module.name)} are square, so no size shows which side the adapter took for their input: the "
            "one if it was trained with transformers 4, the other with transformers 5, and no file records which",
            (module.name,),
        )
    raise CannotConvert(
        f"the matrices of {quote(module.name)} are square, so no size shows which side the adapter took for their input, and "
        f"the config does not tell the release that wrote it ({config.oldest} to {config.newest}): PEFT 0.17 to 0.19.0 took "
        "the one, 0.19.1 and later the other. Set peft_version in adapter_config.json to the one of the training",
        (module.name,),
    )


def _releases(config: AdapterConfig) -> tuple[str, ...]:
    """The release that wrote the config, or the first and the last that may have."""
    told = config.raw.get("peft_version")
    known = isinstance(told, str) and told in peft_facts.versions()
    return (str(told),) if known else (config.oldest, config.newest)


def laid_out(release: str, *, transposed: bool) -> bool:
    """Whether that release of PEFT takes d1 for the input of a parameter (E, d1, d2). `transposed`: the module says `is_transposed`."""
    if release in version_range("<0.19"):
        return True
    return transposed != (release in version_range("<0.19.1"))


def exchanged(one: Parameter) -> tuple[Tensor, Tensor]:
    """A and B of the same change for the other side as input: A'[e, r, :] = B[:, r, e] and B'[:, r, e] = A[e, r, :]."""
    experts, rank, width, height = one.experts, one.rank, one.a.shape[1], one.b.shape[0]

    def new_a(array: Array) -> Array:
        turned: Array = array.reshape(height, rank, experts).transpose(2, 1, 0).reshape(experts * rank, height)
        return turned

    def new_b(array: Array) -> Array:
        turned: Array = array.reshape(experts, rank, width).transpose(2, 1, 0).reshape(width, rank * experts)
        return turned

    return one.b.changed(new_a, (experts * rank, height)), one.a.changed(new_b, (width, rank * experts))


def is_layer(one: Parameter) -> bool:
    """Whether it is a module's weight matrix: a LoRA on it is one on the module."""
    return len(one.shape) == 2 and one.parameter == "weight"


def as_layer(one: Parameter) -> Layer:
    """The same on the module."""
    return Layer(one.module, "linear", one.a, one.b, one.alpha, one.rslora, parameter=True)


def check_all_used(found: Pairs, parameters: Mapping[str, Parameter]) -> None:
    """Refuse pairs below `.base_layer` that are for no parameter.

    Raises:
        CannotConvert: There are any.
    """
    lost = [path for path in found if path.endswith(_INNER) and path not in parameters]
    if lost:
        raise CannotConvert(f"the config targets no parameter for {shorten(map(quote, lost))}", tuple(lost))
