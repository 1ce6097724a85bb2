"""Adapters that real PEFT saved, and the ways in which users' files are broken that a cure undoes without loss.

Each way is the inverse of a cure: what comes out of the cure must compute what the adapter did before it was broken.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import broken
import mending
import oracle
import small_models

#: Name → tensor, and the config; what a way to break them returns, or None where it changes nothing.
Files = tuple[dict[str, Any], dict[str, Any]]
#: What may lie between equal and not: sums in another order. The largest logit is about 1.
CLOSE = 1e-5
#: Its logits need a task, and a decoder's input that PEFT does not hand on.
NOT_RUN = ("t5 multitask prompt",)
_TUNED = re.compile(
    r"\.(lora_(?!magnitude|embedding|E)\w*|ia3_l|hada_\w+|lokr_\w+|miss_block|boft_\w|c3a_kernel|road_\w+)(?=\.|$)"
)


def _renamed(change: Callable[[str], str]) -> Callable[[Files], Files | None]:
    def broke(files: Files) -> Files | None:
        names = {name: change(name) for name in files[0]}
        if len(set(names.values())) < len(names) or all(old == new for old, new in names.items()):
            return None
        return {names[name]: tensor for name, tensor in files[0].items()}, files[1]

    return broke


def _configured(**fields: Any) -> Callable[[Files], Files | None]:
    def broke(files: Files) -> Files | None:
        known = {key: value for key, value in fields.items() if key in files[1] and files[1][key] != value}
        return (files[0], {**files[1], **known}) if known else None

    return broke


def _added(**fields: Any) -> Callable[[Files], Files | None]:
    return lambda files: (files[0], {**files[1], **fields})


def _flag_lost(flag: str, leaf: str) -> Callable[[Files], Files | None]:
    def broke(files: Files) -> Files | None:
        there = files[1].get(flag) and any(leaf in name for name in files[0])
        return (files[0], {**files[1], flag: False}) if there else None

    return broke


def _of_type(peft_type: str, change: Callable[[Files], Files | None]) -> Callable[[Files], Files | None]:
    return lambda files: change(files) if files[1]["peft_type"] == peft_type else None


def _lower_case(files: Files) -> Files:
    return files[0], {**files[1], "peft_type": files[1]["peft_type"].lower()}


def _as_text(files: Files) -> Files | None:
    """As a script writes a config that takes its options from a command line."""
    held = {key: str(files[1][key]) for key in ("r", "lora_alpha") if isinstance(files[1].get(key), int)}
    return (files[0], {**files[1], **held}) if held and files[1]["peft_type"] == "LORA" else None


def _small_task(files: Files) -> Files | None:
    task = files[1].get("task_type")
    return (files[0], {**files[1], "task_type": task.lower()}) if task else None


def _as_bone(files: Files) -> Files | None:
    if files[1].get("init_weights") == "mini":
        return None
    gone = ("miss_dropout", "mini_r", "peft_version")
    config = {key: value for key, value in files[1].items() if key not in gone}
    return {n.replace("miss_block", "bone_block"): t for n, t in files[0].items()}, {**config, "peft_type": "BONE"}


def _as_oft(files: Files) -> Files:
    """BOFT with one factor, as the OFT of PEFT 0.15."""
    names = {"boft_R": "oft_r", "boft_s": "oft_s"}
    tensors = {}
    for name, tensor in files[0].items():
        head, _, leaf = name.rpartition(".")
        tensors[f"{head}.{names[leaf]}"] = tensor[0] if leaf == "boft_R" else tensor
    size = files[1]["boft_block_size"]
    config = {key: value for key, value in files[1].items() if not key.startswith("boft_") and key != "peft_version"}
    old = {"r": 0, "oft_block_size": size, "module_dropout": 0.0, "coft": False, "eps": 6e-05, "block_share": False}
    return tensors, {**config, "peft_type": "OFT", **old}


def _lokr_of_0_13(files: Files) -> Files | None:
    """As PEFT 0.13 wrote it: any alpha, since none was in force. Today's scale is put into the first factor."""
    tensors, config = files
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        return None
    late = ("exclude_modules", "rank_dropout_scale", "peft_version")
    old = {key: value for key, value in config.items() if key not in late}
    scaled = {
        name: tensor * (config["alpha"] / config["r"]) if name.endswith(("lokr_w1", "lokr_w1_a")) else tensor
        for name, tensor in tensors.items()
    }
    return scaled, {**old, "alpha": config["alpha"] * 3}


def _exchanged(files: Files) -> Files | None:
    """Fused experts as PEFT 0.18 laid them out: A'[e, r, :] = B[:, r, e], B'[:, r, e] = A[e, r, :]."""
    tensors, config = files
    if not config.get("target_parameters"):
        return None
    sides = {name: a for name, a in tensors.items() if ".experts." in name and ".lora_A." in name}
    if not sides:
        return None
    # PEFT itself gives joined gate_up parameters twice the rank, so the smallest has the config's.
    experts = min(a.shape[0] for a in sides.values()) // config["r"]
    if any(a.shape[0] % experts for a in sides.values()):
        return None
    out = dict(tensors)
    for name, a in sides.items():
        b = tensors[name.replace("lora_A", "lora_B")]
        rank = a.shape[0] // experts
        new_a = b.reshape(b.shape[0], rank, experts).permute(2, 1, 0).reshape(-1, b.shape[0])
        new_b = a.reshape(experts, rank, a.shape[1]).permute(2, 1, 0).reshape(a.shape[1], -1)
        out[name], out[name.replace("lora_A", "lora_B")] = new_a.contiguous(), new_b.contiguous()
    return out, {**config, "peft_version": "0.18.1"}


def _old_bias(files: Files) -> Files | None:
    return _renamed(lambda name: name.replace(".base_layer.bias", ".bias"))(files)


def _fewer_targets(files: Files) -> Files | None:
    """One of the targets is left out of the config."""
    targets = files[1].get("target_modules")
    if not isinstance(targets, list) or len(targets) < 2:
        return None
    return files[0], {**files[1], "target_modules": sorted(targets)[1:]}


def _no_such_targets(files: Files) -> Files | None:
    there = isinstance(files[1].get("target_modules"), (list, str))
    return (files[0], {**files[1], "target_modules": ["nowhere"]}) if there else None


def _one_layer_only(files: Files) -> Files | None:
    there = isinstance(files[1].get("target_modules"), list) and files[1].get("layers_to_transform", 0) is None
    return (files[0], {**files[1], "layers_to_transform": [0]}) if there else None


def _excluded(files: Files) -> Files | None:
    targets = files[1].get("target_modules")
    there = isinstance(targets, list) and len(targets) > 1 and files[1].get("exclude_modules", 0) is None
    return (files[0], {**files[1], "exclude_modules": sorted(targets)[:1]}) if there else None


def _idle_rank_pattern(files: Files) -> Files | None:
    config = files[1]
    there = config.get("rank_pattern", 0) == {} and not config.get("alpha_pattern") and "r" in config
    return (files[0], {**config, "rank_pattern": {"q_proj": 2}}) if there else None


def _named_copies(files: Files) -> Files | None:
    """Copies of modules and rows of tokens under the names they have in the model."""
    copies = "|".join(re.escape(name) for name in files[1].get("modules_to_save") or ["nothing"])
    return _renamed(
        lambda name: re.sub(rf"(?<=\.)({copies})\.(?=weight$|bias$)", r"\1.modules_to_save.default.", name).replace(
            ".trainable_tokens_delta", ".trainable_tokens_delta.default"
        )
    )(files)


def _named_prompt(files: Files) -> Files | None:
    return _renamed(lambda name: "prompt_encoder.default.embedding.weight" if name == "prompt_embeddings" else name)(
        files
    )


def _other_prompt_length(files: Files) -> Files | None:
    tokens = files[1].get("num_virtual_tokens")
    return (files[0], {**files[1], "num_virtual_tokens": tokens + 1}) if tokens else None


def _llava_before_4_52(files: Files) -> Files | None:
    tensors, config = files
    inside = "base_model.model.model.language_model."
    if not any(name.startswith(inside) for name in tensors):
        return None
    named = {name.replace(inside, "base_model.model.language_model.model.", 1): t for name, t in tensors.items()}
    return named, config


_VIT = (
    (r"\.layers\.(\d+)\.attention\.q_proj", r".encoder.layer.\1.attention.attention.query"),
    (r"\.layers\.(\d+)\.attention\.k_proj", r".encoder.layer.\1.attention.attention.key"),
    (r"\.layers\.(\d+)\.attention\.v_proj", r".encoder.layer.\1.attention.attention.value"),
    (r"\.layers\.(\d+)\.attention\.o_proj", r".encoder.layer.\1.attention.output.dense"),
    (r"\.layers\.(\d+)\.mlp\.fc1", r".encoder.layer.\1.intermediate.dense"),
    (r"\.layers\.(\d+)\.mlp\.fc2", r".encoder.layer.\1.output.dense"),
)
_VIT_LEAVES = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}


def _vit_before_5_9(files: Files) -> Files | None:
    tensors, config = files
    if not any(re.search(r"vit\.layers\.\d+\.(attention|mlp)", name) for name in tensors):
        return None
    named = {}
    for name, tensor in tensors.items():
        for new, old in _VIT:
            name = re.sub(new, old, name)  # noqa: PLW2901
        named[name] = tensor
    targets = [_VIT_LEAVES.get(t, t) for t in config["target_modules"]]
    return named, {**config, "target_modules": targets}


def _both(*ways: Callable[[Files], Files | None]) -> Callable[[Files], Files | None]:
    def broke(files: Files) -> Files | None:
        found: Files | None = files
        for way in ways:
            found = way(found) if found is not None else None
        return found

    return broke


def _wrapped_layers(files: Files) -> Files | None:
    """As FSDP wraps each layer, with activation checkpointing in the first of them."""
    both = "._fsdp_wrapped_module._checkpoint_wrapped_module."
    layers = r"(\.(?:layers?|h|block)\.%s)\."
    first = _renamed(lambda name: re.sub(layers % "0", rf"\1{both}", name))
    return _both(first, _renamed(lambda name: re.sub(layers % "[1-9]", r"\1._fsdp_wrapped_module.", name)))(files)


_DDP = _renamed(lambda name: "module." + name)
#: What happened to the files → how to do it again. Where one changes nothing, it does not apply.
WAYS: Mapping[str, Callable[[Files], Files | None]] = {
    "DDP's prefix": _DDP,
    "torch.compile's prefix": _renamed(lambda name: "_orig_mod." + name),
    "torch.compile's prefix inside": _renamed(
        lambda n: n.replace("base_model.model.", "base_model.model._orig_mod.", 1)
    ),
    "the prefix of a Lightning module": _renamed(lambda name: "model." + name),
    "FSDP's prefix": _renamed(lambda name: "_fsdp_wrapped_module." + name),
    "FSDP around each layer": _wrapped_layers,
    "DDP's prefix, compiled": _renamed(lambda name: "module._orig_mod." + name),
    "PEFT's prefix three times": _renamed(lambda name: name.replace("base_model.model.", "base_model.model." * 3, 1)),
    "the first half of PEFT's prefix lost": _renamed(lambda name: name.replace("base_model.model.", "model.", 1)),
    "PEFT's prefix lost": _renamed(lambda name: name.replace("base_model.model.", "", 1)),
    "PEFT's prefix twice": _renamed(lambda name: name.replace("base_model.model.", "base_model.model." * 2, 1)),
    "names of the bare model": _renamed(
        lambda n: re.sub(
            r"^base_model\.model\.(model|transformer|[a-z]*bert[a-z]*|vit|deit|roberta|electra|ernie|mpnet|longformer|gpt_neox|biogpt)\.",
            "base_model.model.",
            n,
        )
    ),
    "another adapter's name inside": _renamed(lambda name: _TUNED.sub(r"\g<0>.mine", name)),
    "an adapter called lora": _of_type("LORA", _renamed(lambda name: name.replace(".lora", ""))),
    "an adapter called 0": _renamed(lambda name: name.replace(".0", "")),
    "an adapter called layers": _renamed(lambda name: name.replace(".layers", "")),
    "an adapter called model": _renamed(lambda name: name.replace(".model", "")),
    "an adapter called q_proj": _renamed(lambda name: name.replace(".q_proj", "")),
    "a target forgotten": _fewer_targets,
    "targets that are nowhere": _no_such_targets,
    "one layer only": _one_layer_only,
    "a target excluded": _excluded,
    "a rank pattern that was never in force": _idle_rank_pattern,
    "the method in small letters": _lower_case,
    "numbers as text": _as_text,
    "a task in small letters": _small_task,
    "MISS as BONE": _of_type("MISS", _as_bone),
    "BOFT as OFT of 0.15": _of_type("BOFT", _as_oft),
    "LoKr of 0.13": _of_type("LOKR", _lokr_of_0_13),
    "experts of PEFT 0.18": _exchanged,
    "biases of PEFT 0.6": _old_bias,
    "copies under their names in the model": _named_copies,
    "the prompt under its module's name": _named_prompt,
    "another number of virtual tokens": _other_prompt_length,
    "DoRA switched off": _flag_lost("use_dora", "magnitude"),
    "lora_bias switched off": _flag_lost("lora_bias", "lora_B.bias"),
    "fields of a later PEFT": _added(use_something_new=None, later_config={}),
    "llava before transformers 4.52": _llava_before_4_52,
    "ViT before transformers 5.9": _vit_before_5_9,
    "DDP's prefix and a target forgotten": _both(_DDP, _fewer_targets),
    "DDP's prefix and a method in small letters": _both(_DDP, _lower_case),
}


#: Said of what was compared without being run.
BY_NUMBERS = "by the numbers that PEFT holds"


class NotRun(Exception):
    """A small model of this architecture cannot be made."""


@dataclass(frozen=True)
class Saved:
    """An adapter that real PEFT saved after its parameters became noise, and the logits it gives when loaded again.

    `measure` gives them; of a model that nobody here knows how to run, the numbers that PEFT holds after loading.
    """

    folder: Path
    case: Any
    class_name: str
    logits: Any
    measure: Callable[[Any], Any]

    def fresh(self) -> Any:
        return broken.real_base(self.case, self.class_name)


@cache
def saved(name: str, root: Path) -> Saved:
    """One of `broken.ADAPTERS`, or a LoRA on an architecture, made, noised, and saved below `root`."""
    folder = root / re.sub(r"\W+", "-", name)
    if name in small_models.ON:
        return _on_architecture(small_models.ON[name], folder)
    case = broken.sample(name).case
    fresh = partial(broken.real_base, case, case.base.architecture)
    save(fresh(), case.adapter.config.raw, folder)
    logits = computed(mending.loaded(fresh(), folder))
    if not moved(logits, computed(fresh())):
        raise ValueError(f"{name} changes nothing, so nothing could be seen of it")
    return Saved(folder, case, case.base.architecture, logits, computed)


def _on_architecture(model_type: str, folder: Path) -> Saved:
    """A LoRA on every Linear of the first small model of this type that can be made and saved."""
    why = ""
    for case in small_models.cases(model_type):
        fresh = partial(broken.real_base, case, case.base.architecture)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            save(fresh(), {**broken.LORA, "target_modules": _layers(fresh())}, folder)
            loaded = mending.loaded(fresh(), folder)
        except Exception as error:  # whatever transformers or PEFT say against a model that was drawn
            why = why or f"{type(error).__name__}: {error}"
            continue
        try:
            logits = computed(loaded)
        except Exception:  # whatever a model misses that is given tokens or an image alone
            return Saved(folder, case, case.base.architecture, held(loaded), held)
        if moved(logits, computed(fresh())):
            return Saved(folder, case, case.base.architecture, logits, computed)
        return Saved(folder, case, case.base.architecture, held(loaded), held)
    raise NotRun(why or "it is not small")


def _layers(model: Any) -> str | list[str]:
    """Every Linear; of a model without any, every convolution."""
    from torch import nn

    if any(isinstance(module, nn.Linear) for module in model.modules()):
        return "all-linear"
    kinds = (nn.Conv1d, nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module.groups == 1]


def save(model: Any, config: Mapping[str, Any], folder: Path) -> None:
    """An adapter on this model whose trained parameters are noise, saved by real PEFT."""
    import peft
    import torch
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    torch.manual_seed(42)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]](**{**config, "inference_mode": False})
        wrapped = peft.get_peft_model(model, made)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        wrapped.save_pretrained(str(folder))


def moved(logits: Any, without: Any) -> bool:
    """Whether an adapter's effect is far beyond the tolerance."""
    return logits.shape != without.shape or float(abs(logits - without).max()) > 10 * CLOSE


def computed(model: Any) -> Any:
    """Logits as an array."""
    return oracle._logits(model).float().numpy()


def held(model: Any) -> Any:
    """All numbers of the adapter as PEFT holds them, name by name, and what each layer is multiplied by."""
    import numpy as np
    import peft

    state = peft.get_peft_model_state_dict(model)
    scales = [
        layer.scaling["default"] for layer in model.modules() if isinstance(getattr(layer, "scaling", None), dict)
    ]
    return np.concatenate([*(state[name].float().flatten().numpy() for name in sorted(state)), np.array(scales, "f4")])


def broke(one: Saved, way: str, folder: Path) -> bool:
    """The adapter broken this way in a new folder; false where the way does not apply to it."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(one.folder / "adapter_model.safetensors")
    config = json.loads((one.folder / "adapter_config.json").read_text())
    found = WAYS[way]((tensors, config))
    if found is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({n: t.contiguous() for n, t in found[0].items()}, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(found[1]))
    return True


def forget() -> None:
    """Let go of all models and adapters: those of every architecture are too many to be held at once."""
    saved.cache_clear()
    broken._built.cache_clear()


def mended(name: str, way: str, root: Path) -> mending.Outcome | None:
    """Break it, fix it, load it; None where the way does not apply."""
    one = saved(name, root)
    folder = root / "broken"
    if not broke(one, way, folder):
        return None
    out = root / "fixed"
    shutil.rmtree(out, ignore_errors=True)
    found = mending.compared(folder, one.case.base, out, one.fresh, one.measure, one.logits, CLOSE)
    return found if one.measure is computed else dataclasses.replace(found, why=found.why or BY_NUMBERS)
