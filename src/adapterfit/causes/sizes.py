"""Sizes that do not fit, read from a log alone: one ordered procedure, in which shapes and names decide, not words.

Each step either answers, and then no later one is asked, or passes. A cause takes from the answer what bears its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from adapterfit.causes.evidence import TUNER_PREFIXES
from adapterfit.causes.heard import ALIKE, once
from adapterfit.causes.tensor_names import diffusion, module_leaf, rank_axis, side, tuner
from adapterfit.records import Shape

if TYPE_CHECKING:
    from adapterfit.symptoms import LogShape, Symptoms

#: Last or last but one segments of embeddings and output heads, in the names of all common architectures.
ENDS = frozenset(
    {
        "embed_tokens", "lm_head", "wte", "word_embeddings", "embeddings", "embed_out", "shared", "tok_embeddings", "token_embd",
        "embed_in", "output_layer", "embedding", "embed", "word_embedding", "embed_tokens_per_layer", "unembed",
    }
)  # fmt: skip
HEADS = frozenset({"score", "classifier", "qa_outputs", "classification_head", "v_head", "out_proj_cls", "cls"})
#: Words of a text about image models.
IMAGES = (
    "flux",
    "sdxl",
    "stable diffusion",
    "stable-diffusion",
    "diffusion_model",
    "comfy",
    "forge",
    "diffusers",
    "unet",
    "automatic1111",
    "prompt_embeds",
    "sd-scripts",
    "sd_scripts",
    "onetrainer",
)
_MLP = (
    "gate_proj",
    "up_proj",
    "down_proj",
    "gate_up_proj",
    "fc1",
    "fc2",
    "c_fc",
    "w1",
    "w2",
    "w3",
    "dense_h_to_4h",
    "dense_4h_to_h",
    "wi",
    "wo",
)
PROJECTORS = ("mm_projector", "non_lora", "multi_modal_projector", "visual_projection")
_PROMPTS = ("prompt_encoder", "prefix_encoder", "prompt_embeddings", "prompt_learning")
#: Vocabularies that were published with a number of rows that is no multiple of 64.
_ODD_VOCABULARIES = frozenset(
    {50257, 50265, 30522, 28996, 31002, 119547, 250002, 32100, 21128, 49953, 49954, 51865, 51864, 65025}
)
#: No layer but a head over a vocabulary has more rows, unless its lora_A is of another size too.
_TALLEST = 30_000
#: Rows of the embeddings as families of models are published (their config.json, vocab_size).
_FAMILIES = frozenset(
    {
        30522, 32000, 32064, 32128, 32768, 49152, 50257, 50272, 50280, 50304, 51200, 64000, 65024, 92544, 100352, 102400, 125696, 128256, 129280,
        130528, 131072, 151552, 151936, 152064, 200064, 201088, 202048, 250002, 250880, 256000, 262144, 262208,
    }
)  # fmt: skip
#: Two published vocabularies are those of two families if they differ by more than this factor; else tokens were added.
_OTHER_VOCABULARY = 1.05
#: Rows by which padding to a multiple of 64 or 128 can make a vocabulary longer.
_PADDING = 128


class Reading(NamedTuple):
    """What the sizes say about one cause. `file` and `model` are the two numbers that differ, where one pair stands for all."""

    likelihood: float
    shapes: tuple[LogShape, ...]
    file: int = 0
    model: int = 0
    note: str = ""

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines that say so."""
        return tuple(shape.line for shape in self.shapes)


Readings = Mapping[str, Reading]


#: How likely a cause is at most where nobody knows the program whose words these are.
_READ = 0.89
#: How likely another base is where a config of another run would make the same sizes.
_UNSURE = 0.6
#: Tensors of one element for each input or output of their module.
_WIDTHS = (
    "ia3_l",
    "lora_magnitude_vector",
    "vera_lambda_b",
    "pvera_lambda_b",
    "ln_tuning_",
    "trainable_tokens_delta",
    "modules_to_save",
)
#: Where the name of a module ends in that of a tensor of an adapter's.
_PART = re.compile(r"\.(?:" + "|".join(TUNER_PREFIXES) + ")")


@once
def read_sizes(symptoms: Symptoms) -> Readings:
    """Cause → what the sizes say about it; empty where the log has none."""
    shapes = symptoms.misshapen
    for step in _STEPS if shapes else ():
        found = step(symptoms, shapes)
        if found and all(
            shape.wording == "other" for shape in shapes
        ):  # which of two sizes is whose was read from words
            return {name: one._replace(likelihood=min(one.likelihood, _READ)) for name, one in found.items()}
        if found:
            return found
    return {}


def sizes_of(symptoms: Symptoms, cause: str) -> Reading | None:
    """What the sizes say about one cause."""
    return read_sizes(symptoms).get(cause)


def _whole(shapes: Iterable[LogShape]) -> list[tuple[LogShape, Shape, Shape]]:
    """Those of which both sides are told."""
    return [
        (shape, shape.found, shape.wanted) for shape in shapes if shape.found is not None and shape.wanted is not None
    ]


#: Sums and copies of two matrices that do not fit; no layer is as narrow as the usual ranks, so two small numbers are ranks.
_SUMS = re.compile(
    r"size of tensor a \((\d{1,9})\) must match the size of tensor b \((\d{1,9})\)"
    r"|expanded size of the tensor \((\d{1,9})\) must match the existing size \((\d{1,9})\)"
)
_HIGHEST_RANK = 256


def ranks(symptoms: Symptoms) -> tuple[int, int, int] | None:
    """Position in the text and the two ranks that were added or copied as if they were one; None where there are none."""
    for found in _SUMS.finditer(symptoms.text) if "lora" in symptoms.folded else ():
        one, other = (int(number) for number in found.groups() if number)
        if min(one, other) > 0 and max(one, other) <= _HIGHEST_RANK:
            return found.start(), one, other
    return None


# ------------------------------------------------------------------------------------------- the steps, in order


def _emptied(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """A size of 0 in the file is decisive; matrices that became vectors are parts."""
    empty = tuple(shape for shape in shapes if shape.found is not None and 0 in shape.found)
    if empty:
        return {"zero3-empty-weights": Reading(0.97, empty)}
    flat = tuple(s for s, found, wanted in _whole(shapes) if len(found) == 1 and len(wanted) > 1 and tuner(s.key))
    if flat:
        parts = all(prod(s.wanted or ()) % max(1, prod(s.found or ())) == 0 for s in flat)
        return {
            "fsdp-shard-saved": Reading(0.85 if parts else 0.6, flat),
            "zero3-empty-weights": Reading(0.5, flat),
        }
    return {}


def _base_partitioned(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """A size of 0 in the model: the base was built under ZeRO-3's Init."""
    empty = tuple(s for s in shapes if s.wanted == (0,))
    return {"zero3-empty-weights": Reading(0.6, empty, note="model")} if empty else {}


def _merged_linear(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    third = tuple(
        s for s in shapes if side(s.key) == "B" and s.found is not None and len(s.found) == 3 and s.found[2] == 1
    )
    return {"merged-linear-era": Reading(0.97, third)} if third else {}


def _transposed(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Every matrix has its two sizes in the other order."""
    told = _whole(shapes)
    turned = len(told) == len(shapes) and all(
        tuner(s.key) and len(f) == 2 and f != w and f == w[::-1] for s, f, w in told
    )
    return {"stored-transposed": Reading(0.92 if len(told) > 1 else 0.8, shapes)} if turned else {}


def _packed(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Base weights of one column in the file: four bits each, packed."""
    packed = tuple(
        s for s in shapes if s.found is not None and not tuner(s.key) and len(s.found) == 2 and s.found[1] == 1
    )
    grown = tuple(s for s in packed if s.wanted is not None and prod(s.wanted) != 1)
    return {"quantised-base-packed": Reading(0.93, grown)} if grown and len(grown) * 2 >= len(shapes) else {}


def _packed_model(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Slots made for a layer of four-bit weights, which PEFT took for a matrix of one column: (height x width / 2, 1)."""
    slots = [(s, file, model) for s, file, model in _whole(shapes) if tuner(s.key) and len(file) == len(model) == 2]
    column = [s for s, file, model in slots if model[1] == 1 < file[1]]
    grown = [s for s, file, model in slots if model[0] >= 8 * file[0] and model[1] == file[1]]
    found = (*column, *grown) if column and grown else ()
    return {"quantised-base-unsupported": Reading(0.93, found)} if len(found) * 2 >= len(shapes) and found else {}


def _projector(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    extra = tuple(s for s in shapes if any(mark in s.key for mark in PROJECTORS))
    if not extra or len(extra) < len(shapes):
        return {}
    return {"extra-weights-not-in-adapter": Reading(0.85, extra)}


def _butterfly(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """The first size of every `boft_R` is BOFT's factor, which a machine without a compiler takes for 1."""
    told = _whole(shapes)
    factor = all(".boft_R" in s.key and len(f) == len(w) == 4 and f[0] != w[0] and f[1:] == w[1:] for s, f, w in told)
    return (
        {"butterfly-depends-on-machine": Reading(0.88, shapes)} if told and factor and len(told) == len(shapes) else {}
    )


def _sharded(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Both matrices of a LoRA have the same part of their rows: of A that is a part of the rank, of B it is not."""
    told = [(side(s.key), f, w) for s, f, w in _whole(shapes) if side(s.key) and len(f) == len(w) > 1]
    parts = {w[0] // f[0] if f[1:] == w[1:] and f[0] and w[0] % f[0] == 0 else 0 for _, f, w in told}
    both = {one for one, _, _ in told} == {"A", "B"}
    if not both or len(told) < len(shapes) or len(parts) != 1 or parts & {0, 1}:
        return {}
    return {"fsdp-shard-saved": Reading(0.88, shapes), "wrong-base": Reading(0.4, shapes)}


def _experts(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Fused experts, their two sides exchanged or their ranks counted in another way."""
    expert = tuple(s for s in shapes if ".experts" in s.key and tuner(s.key))
    if not expert or len(expert) * 2 < len(shapes):
        return {}
    return {"moe-layout-changed": Reading(0.92 if _exchanged(expert) else 0.8, expert)}


def _exchanged(expert: tuple[LogShape, ...]) -> bool:
    """Whether somewhere the width of A in the file is that of B in the model, and the other way round."""
    widths = {
        (s.key.replace(f"lora_{side(s.key)}", "lora_"), side(s.key)): _pair((s, f, w)) for s, f, w in _whole(expert)
    }
    return any(one == "A" and widths.get((name, "B")) == (model, file) for (name, one), (file, model) in widths.items())


def _prompt(symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    named = tuple(s for s in shapes if any(mark in s.key for mark in _PROMPTS))
    bare = tuple(
        s
        for s, found, wanted in _whole(shapes)
        if s.key == "weight" and s.wording == "torch" and max(found[0], wanted[0]) < 4096
    )
    if named and len(named) == len(shapes):
        return {"prompt-shape-differs": Reading(0.92, named)}
    if bare and "state_dict for embedding" in symptoms.folded:
        return {"prompt-shape-differs": Reading(0.9, bare)}
    encoders = ("state_dict for prefixencoder", "state_dict for promptencoder", "state_dict for promptembedding")
    if any(encoder in symptoms.folded for encoder in encoders):
        return {"prompt-shape-differs": Reading(0.9, shapes)}
    return {}


def _labels(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Rows of a classifier's head, and nothing else."""
    heads = tuple(s for s, found, wanted in _whole(shapes) if _is_head(s.key) and found[1:] == wanted[1:])
    if heads and len(heads) == len(shapes) and heads[0].found and heads[0].wanted:
        return {"labels-differ": Reading(0.93, heads, heads[0].found[0], heads[0].wanted[0])}
    return {}


def _is_head(key: str) -> bool:
    return bool(set(key.split(".")) & HEADS)


def _image(symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """An image model: 1x1 convolutions beside linear layers, widths of another family, an input made wider."""
    told = _whole(shapes)
    convolved = any(_is_pointwise(found) != _is_pointwise(wanted) for _, found, wanted in told)
    cut = any(frame.library == "safetensors" for frame in symptoms.frames)
    patched = (
        not cut
        and all(s.wording == "comfyui" for s in shapes)
        and (
            "comfy" in symptoms.folded
            or "diffusion_model" in symptoms.folded
            or "webui" in symptoms.folded.replace("text-generation-webui", "")
        )
    )
    if not convolved and not patched and not diffusion(s.key for s in shapes):
        return {}
    same = tuple(s for s, found, wanted in told if len(found) != len(wanted) and _squeezed(found) == _squeezed(wanted))
    other = tuple(s for s in shapes if s not in same)
    if same and not other:
        return {
            "diffusion-key-format": Reading(0.65, same),
            "diffusion-wrong-base": Reading(0.55, same),
        }
    doubled = tuple(
        s for s, found, wanted in told if _is_input(s.key) and wanted[1:] == (found[1] * 2,) and side(s.key) == "A"
    )
    if doubled and len(doubled) == len(other):
        return {"base-mutated": Reading(0.7, doubled), "diffusion-wrong-base": Reading(0.55, doubled)}
    only_input = all(_is_input(s.key) for s in other)
    sure = 0.93 if any(s.found and s.wanted for s in other) and not only_input else 0.85
    readings = {"diffusion-wrong-base": Reading(sure if told else 0.6, other)}
    if not told and all(s.wording == "comfyui" for s in other):
        readings["diffusion-wrong-base"] = Reading(0.75, other)
        readings["wrong-base"] = Reading(0.45, other)
    if only_input:
        readings["base-mutated"] = Reading(0.4, other)
    return readings


def _is_pointwise(shape: Shape) -> bool:
    """Whether it is that of a 1x1 convolution, which language models do not have."""
    return len(shape) == 4 and shape[2:] == (1, 1)


def _is_input(key: str) -> bool:
    return key.startswith(("x_embedder", "img_in")) or ".x_embedder" in key or ".img_in" in key


def _squeezed(shape: Shape) -> Shape:
    """Without the ones at the end: a 1x1 convolution is a matrix."""
    end = len(shape)
    while end > 2 and shape[end - 1] == 1:
        end -= 1
    return shape[:end]


#: How likely rows of an adapter are where no adapter is loaded in the traceback.
_ALONE = 0.6


def _vocabulary(symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Rows of the embedding or the head, and nothing else but ranks; a head may have any name, but only one."""
    rows = [(s, *pair) for s in shapes for pair in [_rows(s)] if pair is not None]
    rest = tuple(s for s in shapes if s not in {row[0] for row in rows})
    if not rows or not all(_only_rank(s) for s in rest):
        return {}
    held = tuple(row[0] for row in rows)
    pairs = [(file, model) for _, file, model in rows if file and model]
    file, model = pairs[0] if pairs else (next((file for _, file, _ in rows if file), 0), 0)
    readings = dict(_three_numbers(symptoms, held, file, model))
    if _is_loaded_alone(symptoms, held):
        readings = {name: one._replace(likelihood=min(one.likelihood, _ALONE)) for name, one in readings.items()}
    if rest:
        readings["rank-mismatch"] = Reading(0.85, rest)
    return readings


def _is_loaded_alone(symptoms: Symptoms, held: tuple[LogShape, ...]) -> bool:
    """Whether transformers fills a model, and no frame of PEFT is above it: then its own config and weights differ."""
    libraries = {frame.library for frame in symptoms.frames}
    return all(shape.wording == "set" for shape in held) and "transformers" in libraries and "peft" not in libraries


def _only_rank(shape: LogShape) -> bool:
    axis = rank_axis(shape.key)
    if shape.found is None or shape.wanted is None or axis is None or len(shape.found) != len(shape.wanted):
        return False
    if len(shape.found) > 2 and not side(shape.key):  # in blocks: another axis, or none
        return False
    return all(a == b for at, (a, b) in enumerate(zip(shape.found, shape.wanted)) if at != axis)


def _rows(shape: LogShape) -> tuple[int, int] | None:
    """Rows of a vocabulary in the file and in the model (0: not told); None for anything else."""
    parts = set(shape.key.split("."))
    named = bool(parts & ENDS)
    anonymous = (
        shape.key in {"weight", "embed_tokens.weight"}
        and min((shape.found or (0,))[0], (shape.wanted or (0,))[0]) > 4096
    )
    tall = "lora_B" in parts and min((shape.found or (0,))[0], (shape.wanted or (0,))[0]) > _TALLEST
    if not (named or anonymous or tall):
        return None
    axis = 1 if "lora_embedding_A" in parts else 0
    if ("lora_A" in parts) or "lora_embedding_B" in parts:
        return None
    found, wanted = shape.found, shape.wanted
    if found is not None and wanted is not None:
        if len(found) != len(wanted) or any(a != b for at, (a, b) in enumerate(zip(found, wanted)) if at != axis):
            return None
        return found[axis], wanted[axis]
    return (found[axis] if found is not None and axis < len(found) else 0), 0


def _three_numbers(symptoms: Symptoms, held: tuple[LogShape, ...], file: int, model: int) -> Readings:
    """Rows in the file, rows in the model, and the tokenizer's length where it is told: opposite cures."""
    tokens = tokenizer_length(symptoms)
    if file in _FAMILIES and model in _FAMILIES and max(file, model) > _OTHER_VOCABULARY * min(file, model):
        cause = "vocabulary-grown" if file > model else "vocabulary-shrunk"
        return {"wrong-base": Reading(0.7, held, file, model), cause: Reading(0.5, held, file, model)}
    if not model:
        odd = file % 64 != 0
        return {
            "vocabulary-grown": Reading(0.7 if odd else 0.6, held, file),
            "vocabulary-shrunk": Reading(0.35, held, file),
            "base-resized-by-loader": Reading(0.2 if odd else 0.4, held, file),
        }
    if file > model:
        cut = model == tokens or (file % 64 == 0 and model % 64 != 0 and model not in _ODD_VOCABULARIES)
        if cut and (model == tokens or file - model >= _PADDING):
            return {
                "base-resized-by-loader": Reading(0.88, held, file, model),
                "vocabulary-grown": Reading(0.4, held, file, model),
            }
        readings = {"vocabulary-grown": Reading(0.85 if cut else 0.94, held, file, model)}
        if cut:  # rows that no published base has: somebody has resized it already
            readings["base-resized-by-loader"] = Reading(0.85 - ALIKE / 2, held, file, model)
        return readings
    grown_by_loader = file % 64 == 0 and model % 64 != 0 and model - file < 64
    if grown_by_loader:
        return {
            "base-resized-by-loader": Reading(0.7, held, file, model),
            "vocabulary-shrunk": Reading(0.6, held, file, model),
        }
    return {"vocabulary-shrunk": Reading(0.94, held, file, model)}


def tokenizer_length(symptoms: Symptoms) -> int:
    """The tokenizer's length where the text tells it, else 0."""
    for phrase in (
        "len(tokenizer)",
        "tokenizer vocab size",
        "vocab size of the tokenizer",
        "tokenizer length",
        "tokenizer size",
    ):
        at = symptoms.folded.find(phrase)
        digits = "".join(
            c if c.isdigit() else " " for c in symptoms.folded[at + len(phrase) : at + len(phrase) + 16]
        ).split()
        if at >= 0 and digits and 3 < len(digits[0]) < 8:
            return int(digits[0])
    return 0


def _rank(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Only the rank differs, in a language or an image model. A k-fold rank on a fused projection may also be a MergedLinear of which B is not shown."""
    told = _whole(shapes)
    if not told or not all(_only_rank(s) for s, _, _ in told):
        return {}
    first, found, wanted = told[0]
    axis = rank_axis(first.key) or 0
    file, model = found[axis], wanted[axis]
    pairs = {(f[rank_axis(s.key) or 0], w[rank_axis(s.key) or 0]) for s, f, w in told}
    modules = {_PART.split(s.key)[0] for s, _, _ in told}
    sure = 0.94 if len(pairs) == 1 and len(modules) > 1 else 0.89  # one module alone may be a matter of rank_pattern
    readings = {"rank-mismatch": Reading(sure, shapes, file, model, note="" if len(pairs) == 1 else "pattern")}
    fused = module_leaf(first.key) in {"c_attn", "qkv", "query_key_value", "attn", "qkv_proj", "Wqkv", "W_pack"}
    if fused and not any(side(s.key) == "B" for s in shapes) and model and file % model == 0:
        # MergedLinear stacked the A of two or three of q, k and v; any other rank is as likely as not to be no multiple.
        stacked = file // model in {2, 3}
        readings["rank-mismatch"] = Reading(0.5 if stacked else 0.6, shapes, file, model)
        readings["merged-linear-era"] = Reading(0.6 if stacked else 0.5, shapes, file, model)
    elif len(modules) == 1:
        readings["pattern-key-anchored"] = Reading(sure - ALIKE / 2, shapes, file, model)
    return readings


def _dimensions(symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Widths differ: another base; only in the MLP, maybe a padded one."""
    told = [(s, f, w) for s, f, w in _whole(shapes) if f != w]
    if not told:
        return {}
    lora = [(s, f, w) for s, f, w in told if tuner(s.key)]
    if not lora:
        spoken = any(word in symptoms.folded for word in ("lora", "peft", "base_model.", "adapter"))
        return {"wrong-base": Reading(0.7 if spoken else 0.45, shapes, *_pair(told[0]))}
    leaves = {module_leaf(s.key) for s, _, _ in lora}
    file, model = _pair(lora[0])
    if (
        leaves <= set(_MLP)
        and file
        and model
        and abs(file - model) <= 0.02 * max(file, model)
        and file % 64 == model % 64 == 0
    ):
        quantised = any(word in symptoms.folded for word in ("gptq", "awq", "int4", "int8", "quant"))
        sure = 0.88 if quantised or {file, model} == {29568, 29696} else 0.6 - ALIKE / 2
        return {
            "quantised-base-padded": Reading(sure, shapes, file, model),
            "wrong-base": Reading(0.6, shapes, file, model),
        }
    if not any(_shows_width(s, f, w) for s, f, w in lora):  # what makes these sizes, base or config, is not known
        return {"wrong-base": Reading(_UNSURE, shapes, file, model), "rank-mismatch": Reading(_UNSURE - ALIKE, shapes)}
    return {"wrong-base": Reading(0.93 if len(lora) > 1 else 0.88, shapes, file, model)}


def _shows_width(shape: LogShape, found: Shape, wanted: Shape) -> bool:
    """Whether a size differs that only a module's width can make: not the rank's, and of a method of which that is known."""
    axis = rank_axis(shape.key)
    flat = any(part.startswith(_WIDTHS) for part in shape.key.split("."))
    differing = [at for at in range(min(len(found), len(wanted))) if found[at] != wanted[at]]
    return flat or (axis is not None and any(at != axis for at in differing))


def _pair(told: tuple[LogShape, Shape, Shape]) -> tuple[int, int]:
    """The width in the file and in the model: the first axis, not the rank's, that differs."""
    shape, found, wanted = told
    axes = [at for at in range(min(len(found), len(wanted))) if found[at] != wanted[at]]
    other = [at for at in axes if at != rank_axis(shape.key)]
    return (found[(other or axes)[0]], wanted[(other or axes)[0]]) if axes else (0, 0)


def _cut(_symptoms: Symptoms, shapes: tuple[LogShape, ...]) -> Readings:
    """Only a name is left of the line: what is most common for such a tensor."""
    first = shapes[0]
    if set(first.key.split(".")) & ENDS and not tuner(first.key):
        return {
            "vocabulary-grown": Reading(0.6, shapes),
            "vocabulary-shrunk": Reading(0.3, shapes),
            "zero3-empty-weights": Reading(0.25, shapes),
        }
    if not tuner(first.key) and "lo" not in first.key.rpartition(".")[2]:
        return {"wrong-base": Reading(0.4, shapes)}
    return {
        "wrong-base": Reading(0.4, shapes),
        "rank-mismatch": Reading(0.38, shapes),
        "zero3-empty-weights": Reading(0.3, shapes),
    }


_STEPS: tuple[Callable[[Symptoms, tuple[LogShape, ...]], Readings], ...] = (
    _emptied,
    _merged_linear,
    _transposed,
    _packed,
    _packed_model,
    _base_partitioned,
    _projector,
    _butterfly,
    _sharded,
    _experts,
    _prompt,
    _labels,
    _rank,
    _image,
    _vocabulary,
    _dimensions,
    _cut,
)
