"""Names that do not meet, read from a log alone: missing and unexpected keys, one ordered procedure.

First question: is there anything of an adapter among the missing names? Then: all of it, a kind of layer, or pairs of
names that differ by a prefix? Each step either answers, and then no later one is asked, or passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from adapterfit import limits
from adapterfit.causes.heard import ALIKE, once
from adapterfit.causes.sizes import ENDS, HEADS, PROJECTORS
from adapterfit.causes.tensor_names import diffusion, tuner
from adapterfit.symptoms import Symptoms

if TYPE_CHECKING:
    from adapterfit.symptoms import LogKey

WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: Levels that came or went when transformers nested the parts of multimodal models anew (4.52 and 5.0).
NESTING = frozenset(
    {
        "language_model",
        "visual",
        "vision_tower",
        "vision_model",
        "text_model",
        "multi_modal_projector",
        "encoder",
        "decoder",
    }
)
#: Where the part of a name begins that every nesting has in common.
_TRUNK = re.compile(
    r"(?:^|\.)(?:layers?|h|blocks?|block|transformer_blocks|single_transformer_blocks|resblocks)\.[\d{*<]"
)

#: An adapter's name between `lora_A` and `weight`; loaders that print the file's own names show it if it is in the file.
_NAMED = re.compile(r"\.lora_[AB]\.\w{1,60}\.weight")
#: The same name as a file has it, and what PEFT puts behind it in a model.
_BARE = re.compile(r"\.lora_[AB]\.weight$")
_NAMED_END = re.compile(r"(?<=\.lora_[AB])\.\w{1,60}\.weight$")
#: Blocks of Stable Diffusion's UNets as kohya-ss writes them, after diffusers or after the first checkpoints.
_UNET = re.compile(r"lora_unet_(?:(?:down|up|input|output)_blocks_\d|mid_block_|middle_block_)")
#: Convolutions in them.
_CONVOLVED = re.compile(
    r"lora_unet_\w{1,80}_(?:conv\d?|conv_shortcut|time_emb_proj|in_layers_2|out_layers_3|emb_layers_1|skip_connection|op)\b"
)
#: Layers of language models and of their vision towers; the text encoder of an image model is `text_model`.
_LANGUAGE = re.compile(r"^(?!(?:text_encoder|text_model)).*\blayers\.\d{1,4}\.(?:self_attn|mlp|attention)\.")
_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d{1,4})\.")
_OTHER_METHODS = (
    "hada_",
    "lokr_",
    "ia3_",
    "vera_",
    "boft_",
    "randlora_",
    "bone_",
    "miss_",
    "c3a_",
    "hra_",
    "shira_",
    "road_",
)
#: Where the name of a module ends in that of a tensor of it, of an adapter's or of the base's.
_PART = re.compile(r"\.(?:lora_|base_layer|modules_to_save|original_module|weight$|bias$)")
#: What is left for each of several causes that names do not tell apart.
_SHARED = 0.45
#: How kohya-ss begins the names of a network.
#: Names as diffusers writes them once it has read a file, with the adapter's name (never PEFT's `default`, which stood in the file); and how names begin that it has not read.
_OWN = re.compile(
    r"(?:attn\d?|ff|to_[qkv]|add_[qkv]_proj|image_embedder|time_embedder|proj_(?:in|out)|norm\w*)\.(?:[\w]+\.)*lora_[AB]\.(?!default\.)[^.]+\.(?:weight|bias)$"
)
_PARTS = ("transformer.", "unet.", "diffusion_model.", "base_model.", "text_encoder", "lora_", "model.")
_FLAT = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lycoris_")
#: Names from which on a program's own words are a list.
_LIST = 3
#: Who lists every name that is missing.
_WHOLE = frozenset({"peft", "report"})
_FILE_SIDE = frozenset({"comfyui", "vllm"})
#: What is left where an adapter's name was cut out, or put in, in the wrong place.
_MANGLED = re.compile(
    r"_proj_[AB]\.|\.lora_[AB]\.\w{1,60}\.default\.|\.lora_[AB]\.default\.\w{1,60}\.weight|\.lora_[AB]_\d\b|\w_default\.\w|\.default\.\w[\w.]{0,300}\.lora_[AB]"
)


class Names(NamedTuple):
    """What the names say about one cause. `old` and `new` are prefixes in the file and in the model."""

    likelihood: float
    keys: tuple[LogKey, ...]
    old: str = ""
    new: str = ""

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines that say so."""
        return tuple(key.line for key in self.keys)


Readings = Mapping[str, Names]
_Step = Callable[[Symptoms], Readings]


@once
def read_names(symptoms: Symptoms) -> Readings:
    """Cause → what missing and unexpected names say about it."""
    if not (symptoms.missing or symptoms.unexpected or symptoms.keys):
        return {}
    return next((found for step in _STEPS for found in [step(symptoms)] if found), {})


def names_of(symptoms: Symptoms, cause: str) -> Names | None:
    """What the names say about one cause."""
    return read_names(symptoms).get(cause)


def trunk(name: str) -> str:
    """The part of a name that every nesting has in common: from the first numbered layer on, without adapter's name."""
    found = _TRUNK.search(name)
    rest = name[found.start() :].lstrip(".") if found else name
    return rest.replace(".default.", ".")


def root(name: str) -> str:
    """What stands before the trunk."""
    found = _TRUNK.search(name)
    return name[: found.start()].strip(".") if found else ""


# ------------------------------------------------------------------------------------------- steps, in order


def _image(symptoms: Symptoms) -> Readings:
    """Image models: magnitudes only, methods that are no LoRA, another family's text encoder, or the names' dialect."""
    names = symptoms.unexpected
    said = tuple(key for key in (*names, *symptoms.keys) if tuner(key.name) or key.name.startswith("lora_"))
    if names and all(_is_magnitude(key.name) and key.wording not in {"vllm", "llama.cpp"} for key in names):
        return {"dora-magnitude-misplaced": Names(0.95, names)}
    foreign = tuple(
        key for key in said if _is_lycoris(key.name) and key.wording != "peft" and not _is_of_peft(key.name)
    )
    if foreign and (names or symptoms.errors):
        return {"lycoris-not-lora": Names(0.92, foreign)}
    shared = [key for key in names if key.wording == "diffusers"]  # transformers' mixin says the same
    if shared and len(shared) == len(names) and all(_LANGUAGE.search(key.name) for key in shared):
        return {
            "model-class-differs": Names(0.6, names),
            "modules-renamed": Names(0.5, names),
            "wrapper-prefix": Names(0.4, names),
        }
    flat = tuple(key for key in symptoms.missing if key.name.startswith(_FLAT))
    if (
        flat and len(flat) * 2 >= len(symptoms.missing) and not names
    ):  # a network of kohya-ss, and a file of another dialect
        return {"diffusion-key-format": Names(0.6, flat), "lycoris-not-lora": Names(0.3, flat)}
    if not {key.wording for key in names} & {"comfyui", "diffusers", "webui"}:
        foreign = tuple(key for key in names if diffusion([key.name]))
        return {"diffusion-key-format": Names(0.8, foreign)} if foreign and len(foreign) * 2 >= len(names) else {}
    blocks = tuple(key for key in names if key.wording == "comfyui" and _UNET.match(key.name))
    if len(blocks) * 2 >= len([key for key in names if not key.name.startswith("lora_te")]) and blocks:
        # ComfyUI maps every block of its UNet to these names: one that it does not know is not in this model.
        return {"diffusion-wrong-base": Names(0.8, blocks), "diffusion-key-format": Names(0.5, blocks)}
    convolved = tuple(key for key in names if key.wording == "webui" and _CONVOLVED.search(key.name))
    if convolved and not any("attentions" in key.name for key in names):
        # All of attention was found: what is left are convolutions, which a LoCon has and a LoRA has not.
        return {"lycoris-not-lora": Names(0.8, convolved), "diffusion-wrong-base": Names(0.4, convolved)}
    # SD 1.x calls its one text encoder `lora_te_`, SDXL its two `lora_te1_` and `lora_te2_`.
    encoders = tuple(key for key in names if key.name.startswith(("lora_te_", "lora_te1_", "lora_te2_", "lora_te3_")))
    if len(encoders) == len(names):
        return {"diffusion-wrong-base": Names(0.6, encoders), "diffusion-key-format": Names(0.5, encoders)}
    own = tuple(key for key in names if key.wording == "diffusers" and _OWN.search(key.name))
    if len(own) == len(names) and not any(key.name.startswith(_PARTS) for key in names):
        # diffusers has read the dialect, down to the adapter's name in the keys: what is left over is not in this model.
        return {"diffusion-wrong-base": Names(0.6, own), "diffusion-key-format": Names(0.5, own), "loader-drops-keys-silently": Names(0.4, own)}  # fmt: skip
    sure = 0.5 if symptoms.misshapen else 0.85  # names that fit, in other sizes: then it is no matter of a dialect
    return {"diffusion-key-format": Names(sure, names), "diffusion-wrong-base": Names(0.3, names)}


def _is_magnitude(name: str) -> bool:
    return "lora_magnitude_vector" in name or name.endswith(".dora_scale")


@lru_cache(maxsize=limits.LOG_SYMPTOMS)
def _is_lycoris(name: str) -> bool:
    return any(
        part.startswith(("hada_", "lokr_", "lora_mid", "oft_diag")) or part in {"diff", "diff_b", "w_norm", "on_input"}
        for part in name.split(".")[1:]
    )


def _is_of_peft(name: str) -> bool:
    """PEFT has a LoHa and a LoKr of its own, in its own names: below its prefix, or with the adapter's name behind."""
    return name.startswith("base_model.") or name.endswith(".default")


def _prompted(symptoms: Symptoms) -> Readings:
    """A prompt's own encoder: what it has depends on the config alone (a projection or none), not on the base."""
    named = any(word in symptoms.folded for word in ("state_dict for prefixencoder", "state_dict for promptencoder"))
    return {"prompt-shape-differs": Names(0.86, (*symptoms.missing, *symptoms.unexpected))} if named else {}


def _mangled(symptoms: Symptoms) -> Readings:
    """The name of the adapter among the segments."""
    files = tuple(key for key in symptoms.unexpected if key.wording in _FILE_SIDE and _NAMED.search(key.name))
    if files and len(files) * 2 >= len(symptoms.unexpected):
        return {"adapter-name-in-keys": Names(0.86, files), "diffusion-key-format": Names(0.5, files)}
    every = (*symptoms.missing, *symptoms.unexpected, *symptoms.keys)
    bare = {key.name.replace(".weight", ""): key for key in symptoms.unexpected if _BARE.search(key.name)}
    named = tuple(
        key for lost in symptoms.missing for key in [bare.get(_NAMED_END.sub("", lost.name))] if key is not None
    )
    if named and len(named) * 2 >= len(symptoms.unexpected):
        whole = any(not _is_tuner(key.name) for key in symptoms.missing)  # the base's weights are missed too
        sure = (0.6, 0.8) if whole else (0.8, 0.6)
        return {"adapter-name-in-keys": Names(sure[0], named), "adapter-resumed-as-model": Names(sure[1], named)}
    mangled = tuple(key for key in every if _MANGLED.search(key.name))
    return {"adapter-name-in-keys": Names(0.85, mangled)} if mangled else {}


def _nothing_lost(symptoms: Symptoms) -> Readings:
    """No tensor of an adapter is missing: base weights, a head, a tied head."""
    missing = symptoms.missing
    if not missing or any(_is_tuner(key.name) for key in (*missing, *symptoms.unexpected)):
        return {}
    if any(frame.function == "load_model" and frame.library.startswith("mlx") for frame in symptoms.frames):
        return {}  # the base's own weights: the adapter comes after it
    names = {key.name for key in missing}
    if all(name.endswith("lm_head.weight") for name in names):
        return {"tied-weights-split": Names(0.88, missing), "missing-base-keys-harmless": Names(0.4, missing)}
    if all(set(name.split(".")) & HEADS for name in names):
        return {"head-not-restored": Names(0.75, missing), "missing-base-keys-harmless": Names(0.5, missing)}
    if all(any(mark in name for mark in PROJECTORS) for name in names):
        return {"extra-weights-not-in-adapter": Names(0.75, missing), "model-class-differs": Names(0.4, missing)}
    if all(key.wording in {"transformers", "report"} for key in missing):
        return {"model-class-differs": Names(0.45, missing)}
    if len(missing) < _LIST and all(key.wording == "other" for key in missing):
        return {}  # one tensor that somebody misses is no list of those that a loader passed over
    if all(key.wording == "other" for key in missing) and any(
        error.line == missing[0].line for error in symptoms.errors
    ):
        return {"adapter-loaded-as-model": Names(0.5, missing)}  # an error, not a note: a model was expected
    strict = any(key.wording == "torch" for key in missing)
    whole = _is_whole(symptoms, missing)
    if strict and not symptoms.unexpected:
        return {"adapter-resumed-as-model": Names(0.5, missing), "missing-base-keys-harmless": Names(0.3, missing)}
    return {"missing-base-keys-harmless": Names(0.93 if whole else 0.8, missing)}


def _is_whole(symptoms: Symptoms, missing: tuple[LogKey, ...]) -> bool:
    """Whether the list certainly names nothing of an adapter: it ends in the text, or goes on after an adapted layer."""
    names = [key.name for key in missing]
    after = symptoms.text[symptoms.text.rfind(names[-1]) + len(names[-1]) :].lstrip("'\"` ")
    passed = any(".base_layer.weight" in name for name in names[:-1])
    return passed or after.startswith("]")


def _is_tuner(name: str) -> bool:
    return tuner(name) or ".lora_" in name or "modules_to_save" in name


def _nested_twice(symptoms: Symptoms) -> Readings:
    """A LoRA inside a LoRA, or experts that were fused."""
    every = (*symptoms.missing, *symptoms.unexpected)
    experts = tuple(key for key in every if ".experts" in key.name)
    if experts and len(experts) == len(every):
        sure = 0.9 if symptoms.unexpected and symptoms.missing else 0.8 if symptoms.missing else 0.65
        return {"moe-layout-changed": Names(sure, experts), "loader-drops-keys-silently": Names(0.4, experts)}
    if experts and len(experts) * 2 >= len(every) and symptoms.unexpected:
        return {"moe-layout-changed": Names(0.85, experts)}
    twice = tuple(key for key in symptoms.missing if ".base_layer.lora_" in key.name)
    return {"wrapped-twice": Names(0.85, twice)} if twice else {}


def _pairs(symptoms: Symptoms) -> Readings:
    """Names on both sides that have a trunk in common: what differs before it names the cause."""
    missing = {trunk(key.name): key for key in symptoms.missing if _is_tuner(key.name)}
    pairs = [(key, missing.get(trunk(key.name))) for key in symptoms.unexpected]
    moved = [(key, other) for key, other in pairs if other is not None and root(other.name) != root(key.name)]
    if not moved:
        return {}
    roots = {(root(key.name), root(other.name)) for key, other in moved}
    one_to_one = len(roots) == len({new for _, new in roots})  # an encoder and a decoder are no two names of one stack
    return _between(*moved[0], (*symptoms.unexpected, *symptoms.missing), 0.92 if one_to_one else 0.6)


def _between(file: LogKey, model: LogKey, keys: tuple[LogKey, ...], sure: float) -> Readings:
    old, new = root(file.name), root(model.name)
    ours, theirs = old.split("."), new.split(".")
    differing = set(ours) ^ set(theirs)
    if differing & set(WRAPPERS) or old.count("base_model") != new.count("base_model"):
        return {"wrapper-prefix": Names(sure, keys, old, new)}
    if differing & NESTING or (set(ours) | set(theirs)) & (NESTING - {"encoder", "decoder"}):
        # A language model on its own has its layers where it has them inside of a larger model's older names.
        both = set(ours) & NESTING and set(theirs) & NESTING
        likely = sure if both else min(sure, 0.85)
        return {"modules-renamed": Names(likely, keys, old, new), "model-class-differs": Names(0.5, keys, old, new)}
    return {"model-class-differs": Names(sure - 0.1, keys, old, new), "modules-renamed": Names(0.5, keys, old, new)}


def _whole_model_lost(symptoms: Symptoms) -> Readings:
    """Base weights and adapter's alike are missing: the checkpoint was read as a whole model, or holds nothing."""
    missing = symptoms.missing
    lora = [key for key in missing if _is_tuner(key.name)]
    if not lora or len(lora) == len(missing):
        return {}
    if any(key.wording == "trainer" for key in missing):
        return {"empty-adapter": Names(0.7, missing), "adapter-resumed-as-model": Names(0.55, missing)}
    return {"adapter-resumed-as-model": Names(0.85, missing), "empty-adapter": Names(0.4, missing)}


def _wrapped(symptoms: Symptoms) -> Readings:
    """A wrapper's prefix in any name: of the file, if it is unexpected or merely said."""
    every = (*symptoms.unexpected, *symptoms.keys, *symptoms.missing)
    carried = tuple(key for key in every if _wrapper(key.name))
    if not carried:
        return {}
    return {
        "wrapper-prefix": Names(0.9 if carried[0] in symptoms.unexpected else 0.8, carried, _wrapper(carried[0].name))
    }


@lru_cache(maxsize=limits.LOG_SYMPTOMS)
def _wrapper(name: str) -> str:
    parts = name.split(".")
    first = next((part for part in parts if part in {"_orig_mod", "_fsdp_wrapped_module"}), "")
    return (
        first
        or ("module" if parts[0] == "module" or parts[:3] == ["base_model", "model", "module"] else "")
        or ("base_model.model" if name.startswith("base_model.model.base_model.model.") else "")
    )


def _lost(symptoms: Symptoms) -> Readings:
    """Names of an adapter are missing, and nothing is known of the file."""
    lora = tuple(key for key in symptoms.missing if _is_tuner(key.name))
    if not lora:
        return {}
    if all(_is_magnitude(key.name) for key in lora):
        return {"dora-magnitude-misplaced": Names(0.8, lora)}
    halves = _halves(lora)
    if len(halves) > 1:  # one name alone may be all that was pasted of a list
        return {"slots-left-empty": Names(0.7, halves), "control-in-name": Names(0.3, halves), "adapter-name-in-keys": Names(0.3, halves)}  # fmt: skip
    later = _from_later_layers(lora)
    if later:
        return _alike(lora, *later)
    if lora[0].wording == "report" and not symptoms.unexpected:
        # Every name of the file was found: the missing ones are not in it under another name.
        return {"slots-left-empty": Names(0.6, lora), "empty-adapter": Names(0.55, lora), "head-not-restored": Names(0.3, lora)}  # fmt: skip
    nested = any(set(root(key.name).split(".")) & (NESTING - {"encoder", "decoder"}) for key in lora)
    if nested:
        return {
            "modules-renamed": Names(0.72, lora), "model-class-differs": Names(0.65, lora), "wrapper-prefix": Names(0.3, lora),
        }  # fmt: skip
    heads = all(set(key.name.split(".")) & (ENDS | HEADS) for key in lora)
    if heads:
        return _alike(lora, "head-not-restored", "tied-weights-split", "tie-ignored-by-writer")
    other = _method(lora)
    if other:
        return _alike(lora, *other, *(("slots-left-empty",) if halves else ()), "model-class-differs", "wrapper-prefix")
    alone = ("slots-left-empty",) if halves else ()
    return _alike(
        lora, "model-class-differs", *alone, "wrapper-prefix", "modules-renamed", "adapter-name-in-keys", "empty-adapter", "foreign-format",
        "wrapped-state-dict",
    )  # fmt: skip


def _alike(keys: tuple[LogKey, ...], *causes: str) -> Readings:
    """Causes that the names do not tell apart, the most frequent first."""
    return {cause: Names(_SHARED - at * ALIKE / 10, keys) for at, cause in enumerate(causes)}


def _method(lora: tuple[LogKey, ...]) -> tuple[str, ...]:
    """Where the config asks for another method than LoRA, and nothing of it was found: the file is of another one, or of another time."""
    parts = {part for key in lora for part in key.name.split(".")}
    if any(part.startswith("oft_") for part in parts):
        return ("oft-generation-changed", "method-differs")
    if any(part.startswith(_OTHER_METHODS) for part in parts):
        return ("method-differs",)
    return ()


def _halves(lora: tuple[LogKey, ...]) -> tuple[LogKey, ...]:
    """Names whose other half was found: PEFT lists all that it misses, and another name for the module would lose A and B alike."""
    if any(key.wording not in _WHOLE for key in lora):
        return ()
    names = {key.name for key in lora}
    others = {key: {key.name.replace(f"{one}.", f"{two}.") for one, two in _COUNTERPARTS} - {key.name} for key in lora}
    paired = {key: other for key, other in others.items() if other}
    single = tuple(key for key, other in paired.items() if not other & names)
    return single if len(single) == len(paired) else ()


#: How the two halves of a layer are called.
_COUNTERPARTS = (("_A", "_B"), ("_B", "_A"), ("_a", "_b"), ("_b", "_a"))


def _from_later_layers(lora: tuple[LogKey, ...]) -> tuple[str, ...]:
    """PEFT lists names in the order of the model: where the list begins behind layer 0, the layers before it were found."""
    layers = [int(found[1]) for key in lora for found in [_LAYER.search(key.name)] if found is not None]
    if len(layers) < len(lora) or min(layers) == 0 or lora[0].wording not in _WHOLE:
        return ()
    kinds = [
        {key.name.partition(f".{layer}.")[2] for key, at in zip(lora, layers) if at == layer}
        for layer in sorted(set(layers))
    ]
    whole = len(kinds[0]) > 2 and all(held == kinds[0] for held in kinds)
    run = sorted(set(layers)) == list(range(min(layers), max(layers) + 1))
    partial = ("slots-left-empty", "random-when-missing", "crc-mismatch", "control-in-name")
    return ("base-depth-differs", *partial) if run and whole else (*partial, "base-depth-differs")


#: Ends of names that only a base's own tensors have: no adapter trains a norm by default, or a quantised layer's scales.
_BASE_OWN = ("norm.weight", "norm.bias", ".SCB", ".absmax", ".quant_map", ".inv_freq")


def _found_in_bare_model(symptoms: Symptoms) -> Readings:
    """An adapter's tensors were offered to a model without adapter layers."""
    lora = tuple(key for key in symptoms.unexpected if _is_tuner(key.name))
    if not lora:
        unused = tuple(key for key in symptoms.unexpected if key.wording in {"transformers", "report"})
        return {"model-class-differs": Names(0.4, unused)} if unused else {}
    own = ".lora_A." in lora[0].name or ".lora_B." in lora[0].name
    if any(key.wording == "llama.cpp" for key in lora) and own and not lora[0].name.startswith("base_model."):
        return {"adapter-inside-full-checkpoint": Names(0.88, lora)}
    if any(key.wording == "report" and ".default" in key.name for key in lora):
        # The loader of an adapter put its name there: the layers were made, and these are not among them.
        later = _from_later_layers(lora)
        return {
            **({"base-depth-differs": Names(0.6, lora)} if later[:1] == ("base-depth-differs",) else {}),
            "loader-drops-keys-silently": Names(0.5, lora), "targets-narrower-than-file": Names(0.5, lora),
            "model-class-differs": Names(0.4, lora),
        }  # fmt: skip
    if any(key.wording in {"transformers", "report"} for key in lora):
        # What the base has itself lies beside the adapter's: all of the model was saved.
        inside = any(".base_layer." in key.name or key.name.endswith(_BASE_OWN) for key in symptoms.unexpected)
        return {
            "adapter-inside-full-checkpoint": Names(0.7 if inside else 0.45, lora), "adapter-loaded-as-model": Names(0.5, lora),
        }  # fmt: skip
    if any(key.wording == "result" for key in lora):
        return {
            "loader-drops-keys-silently": Names(0.7, lora),
            "model-class-differs": Names(0.5, lora),
            "wrapper-prefix": Names(0.45, lora),
        }
    if any(key.wording == "torch" for key in lora):
        kept = tuple(key for key in symptoms.unexpected if ".base_layer.weight" in key.name)
        if kept and not any("base_model." in key.name for key in lora):
            # The base's weights lie in wrapped layers, under the base's own names: a whole model was saved unmerged.
            return {
                "adapter-inside-full-checkpoint": Names(0.7, (*kept, *lora)),
                "adapter-resumed-as-model": Names(0.5, lora),
            }
        return {
            "adapter-resumed-as-model": Names(0.5, lora),
            "wrapper-prefix": Names(0.45, lora),
            "model-class-differs": Names(0.4, lora),
        }
    return {}


def _said_pairs(symptoms: Symptoms) -> Readings:
    """Two names of one tensor or module that differ before the trunk, said without more words."""
    if symptoms.misshapen:
        return {}
    by_trunk: dict[str, LogKey] = {}
    for key in symptoms.keys:
        module = _PART.split(trunk(key.name))[0]
        other = by_trunk.setdefault(module, key)
        if root(other.name) != root(key.name) and _TRUNK.search(key.name):
            file, model = (other, key) if root(other.name).startswith("base_model") else (key, other)
            return dict(_between(file, model, (other, key), 0.6))
    return {}


def _said_unmerged(symptoms: Symptoms) -> Readings:
    """Wrapped layers' names without PEFT's own prefix: a whole model was saved with the adapter still beside its weights."""
    if symptoms.misshapen or symptoms.missing:
        return {}
    every = tuple(key for key in (*symptoms.keys, *symptoms.unexpected) if not key.name.startswith("base_model."))
    kept = tuple(key for key in every if ".base_layer" in key.name)
    lora = tuple(key for key in every if ".lora_A." in key.name or ".lora_B." in key.name)
    fused = tuple(
        key for key in symptoms.unexpected if key.wording == "mlx" and ".linear." in key.name
    )  # MLX's LoRALinear
    if fused:
        return {"adapter-inside-full-checkpoint": Names(0.6, fused)}
    return {"adapter-inside-full-checkpoint": Names(0.55, (*kept, *lora))} if kept and lora else {}


def _said_whole(symptoms: Symptoms) -> Readings:
    """Names of base and adapter side by side, in a text about a checkpoint: it was read as a whole model's."""
    base = [
        key for key in symptoms.keys if not _is_tuner(key.name) and key.name.endswith((".weight", ".qweight", ".bias"))
    ]
    lora = [key for key in symptoms.keys if _is_tuner(key.name)]
    told = any(word in symptoms.folded for word in ("checkpoint", "state_dict", "missing key", "resum"))
    if len(base) > 1 and lora and told and not (symptoms.misshapen or symptoms.missing or symptoms.unexpected):
        return {"adapter-resumed-as-model": Names(0.55, (*base, *lora))}
    return {}


_STEPS: tuple[_Step, ...] = (
    _prompted,
    _mangled,
    _image,
    _nothing_lost,
    _nested_twice,
    _pairs,
    _whole_model_lost,
    _wrapped,
    _lost,
    _found_in_bare_model,
    _said_unmerged,
    _said_pairs,
    _said_whole,
)


def diffusion_names(keys: Iterable[LogKey]) -> bool:
    """Whether names are those of an image model."""
    return diffusion(key.name for key in keys)
