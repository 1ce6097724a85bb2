"""A whole model: the base with the adapter in it, shard by shard, at most one tensor in memory, as `merge_and_unload` makes it.

Experts that lie one by one in the checkpoint get each its own part of a LoRA on the fused parameter, and the other way round a LoRA
on each expert's own matrix, as transformers 4 had them, goes to that tensor.

Where the base ties its embedding to its output layer and the adapter acts on either, the two are written apart, and config.json
says so: PEFT adds to the one shared tensor there, after which the model computes something else than the adapter did.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterfit.conversion import merging_parameters
from adapterfit.conversion.base_model import Copied, Model, json_bytes, opened_model, with_more
from adapterfit.conversion.merging import changed, merged, moved, rescaled
from adapterfit.conversion.neutral import Neutral, Rest, folded, parts, refuse_layers, refuse_rest
from adapterfit.conversion.numbers import FLOATS, Tensor
from adapterfit.conversion.output import Package, Stream, Wanted
from adapterfit.errors import CannotConvert
from adapterfit.text import quote, shorten

NAME = "a merged model"
CONFIG = "config.json"


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The base with the adapter in it.

    Raises:
        CannotConvert: Something of the adapter cannot be merged, or has no place in the base.
    """
    refuse_rest(Neutral((), rest=tuple(rest for rest in neutral.rest if not rest.whole)), NAME)
    if len(parts(neutral)) > 1:
        raise CannotConvert(f"this adapter is for {shorten(parts(neutral))}: merge one component at a time")
    model = opened_model(wanted.opened)
    _check_told(neutral, wanted)
    turned = _conv1d(wanted)
    apart = _apart(neutral, wanted, model)
    new: dict[str, Tensor] = {}
    whole, of_pieces = merging_parameters.merged(model, neutral.parameters)
    new.update(whole)
    for layer in neutral.layers:
        name = f"{layer.module}.weight"
        expert = model.expert(name) if name not in model.named and name not in apart else None
        if expert is not None:
            of_pieces[name] = merged(model.piece(expert), layer, turned=False)
            continue
        new[name] = merged(_weight(model, layer.module, apart), layer, turned=layer.module in turned)
        if layer.bias is not None:
            new[f"{layer.module}.bias"] = moved(_own(model, f"{layer.module}.bias"), layer)
    for change in neutral.changes:
        weight = changed(_weight(model, change.module, apart), change, turned=change.module in turned)
        new[f"{change.module}.weight"] = weight
        bias = model.tensor(f"{change.module}.bias")
        if change.method == "IA3" and not change.feedforward and bias is not None:
            new[f"{change.module}.bias"] = rescaled(bias, change)
    for rest in neutral.rest:
        new.update(_taken_over(rest, model, apart))
    notes = (*neutral.notes, *folded((*neutral.layers, *neutral.changes, *neutral.parameters)))
    return _package(model, new, of_pieces, apart, notes)


def _check_told(neutral: Neutral, wanted: Wanted) -> None:
    """Refuse what only the base's modules can tell, where they are not known: no shape shows it.

    Raises:
        CannotConvert: There is any of it.
    """
    if wanted.opened.class_known():
        return
    square = (layer for layer in neutral.layers if layer.kind == "linear" and layer.a.shape[1] == layer.b.shape[0])
    refuse_layers(
        square if neutral.config.get("fan_in_fan_out") else (),
        NAME,
        "fan_in_fan_out of square weights of an unknown model",
    )
    if not wanted.opened.ties_known():
        ends = (layer for layer in neutral.layers if layer.kind == "embedding")
        refuse_layers(ends, NAME, "LoRA on an embedding of an unknown model, which may be tied to its output")


def _conv1d(wanted: Wanted) -> frozenset[str]:
    """Modules whose weight stands as (in, out)."""
    tree = wanted.opened.tree()
    return (
        frozenset(module.name for module in tree.modules if module.kind == "Conv1D")
        if tree is not None
        else frozenset()
    )


# --------------------------------------------------------------------------------------------------- tied weights


def _apart(neutral: Neutral, wanted: Wanted, model: Model) -> Mapping[str, str]:
    """Tied parameters that are to be written apart: each → the one the checkpoint holds. Empty where none is touched."""
    tree = wanted.opened.tree()
    modules = [*(layer.module for layer in neutral.layers), *(change.module for change in neutral.changes)]
    touched = {f"{module}.weight" for module in modules}
    touched |= {name for rest in neutral.rest for name in rest.whole}
    found: dict[str, str] = {}
    for group in tree.tied if tree is not None else ():
        if touched.isdisjoint(group):
            continue
        held = [name for name in group if name in model.named]
        if not held or "tie_word_embeddings" in _inner_fields(model) or len(group) > 2:
            raise CannotConvert(
                f"{shorten(group)} are one tensor in this base, in a way that is not taken apart here", group
            )
        found.update(dict.fromkeys(group, held[0]))
    return found


def _inner_fields(model: Model) -> set[str]:
    """Fields of the configs inside the base's config."""
    config = model.base.config or {}
    return {field for value in config.values() if isinstance(value, Mapping) for field in value}


def _weight(model: Model, module: str, apart: Mapping[str, str]) -> Tensor:
    name = f"{module}.weight"
    return _own(model, apart.get(name, name))


def _own(model: Model, parameter: str) -> Tensor:
    tensor = model.tensor(parameter)
    if tensor is None:
        raise CannotConvert(
            f"the base has no tensor that becomes {quote(parameter)} as it is: it is another base, or its checkpoint stores "
            "this weight joined with others",
            (parameter,),
        )
    return tensor


def _taken_over(rest: Rest, model: Model, apart: Mapping[str, str]) -> dict[str, Tensor]:
    """Whole parameters that the adapter holds a trained copy of, in the base's type."""
    found: dict[str, Tensor] = {}
    for name, tensor in rest.whole.items():
        held = _own(model, apart.get(name, name))
        if held.shape != tensor.shape:
            raise CannotConvert(
                f"{quote(name)} has shape {tensor.shape} in the adapter, {held.shape} in the base", (name,)
            )
        if held.dtype not in FLOATS or tensor.dtype not in FLOATS:
            raise CannotConvert(f"{quote(name)} holds numbers that are not merged", (name,))
        found[name] = tensor.cast(held.dtype)
    return found


# --------------------------------------------------------------------------------------------------- the folder


def _package(
    model: Model,
    new: Mapping[str, Tensor],
    of_pieces: Mapping[str, Tensor],
    apart: Mapping[str, str],
    notes: tuple[str, ...],
) -> Package:
    more: dict[str, tuple[str, Tensor]] = {}
    for name, other in apart.items():
        if name not in model.named:
            more[name] = (model.named[other].file, new.get(name) or _own(model, other))
    held = {name: tensor for name, tensor in new.items() if name in model.named}
    streams: list[Stream] = model.written(held, of_pieces, more)
    files: dict[str, bytes] = {}
    for name in model.indexes():
        files[name] = json_bytes(with_more(model.json(name), more)) if more else b""
    if more:
        files[CONFIG] = json_bytes({**model.json(CONFIG), "tie_word_embeddings": False})
    kept = [name for name in (*model.others(), *model.indexes()) if not files.get(name)]
    files = {name: data for name, data in files.items() if data}
    streams += [Copied(name, model.source) for name in kept]
    said = (
        [f"{shorten(sorted(apart))} were one tensor and are two now; config.json says tie_word_embeddings: false."]
        if apart
        else []
    )
    left = model.left_out()
    said += [f"Not carried over: {shorten(left)}."] if left else []
    return Package(files, tuple(streams), (*notes, *said))
