"""What cures an effect: a claim names it by one word, and the words become a sentence about this adapter."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from adapterfit.answers import Effect, Ratio, Sight


def written(effects: Iterable[Effect], ratios: tuple[Ratio, ...], sight: Sight) -> tuple[Effect, ...]:
    """The effects with their cures spelled out."""
    return tuple(_spelled(effect, CURES[effect.cure](ratios, sight)) if effect.cure else effect for effect in effects)


def best(effects: Iterable[Effect]) -> Effect | None:
    """The effect whose cure helps with all of them: merging, where it is among the cures, else the first; None without one."""
    found = [effect for effect in effects if effect.cure]
    return next((effect for effect in found if effect.cure.startswith(_MERGING)), found[0] if found else None)


class Cure(NamedTuple):
    """What helps, in words, and the line that does it where there is one."""

    words: str
    run: str = ""


def _spelled(effect: Effect, cure: Cure) -> Effect:
    return dataclasses.replace(effect, cure=f"{cure.words}: {cure.run}" if cure.run else cure.words, run=cure.run)


#: What is trained beside pairs of A and B, or under a config that gives them another meaning: no layout of PEFT's without it.
_BESIDE = (
    "saved-modules", "whole-weights", "trainable-tokens", "bias", "fused-experts", "unpaired", "not-lora", "half-pairs",
)  # fmt: skip
_MERGING = "merge it into the base"
#: What `convert --to merged` does not take, and PEFT does.
_OF_PEFT = ("trainable-tokens",)


def _command(command: str, sight: Sight, to: str, *, base: bool = True, made: str = "") -> str:
    """A line to be run as it stands: where the base is not known, BASE stands for it."""
    given = f" --base {_base(sight)}" if base else ""
    option = f" --to {to}" if to else ""
    return f"adapterfit {command} {shlex.quote(sight.label)}{option}{given} --out {_out(sight, made or to)}"


def _base(sight: Sight) -> str:
    return shlex.quote(sight.base) if sight.base else "BASE"


def _out(sight: Sight, kind: str) -> str:
    """The folder to be made: the adapter's name and what becomes of it."""
    name = re.sub(r"[^\w.-]", "-", sight.label.rstrip("/").rpartition("/")[2]).strip("-.")
    return f"{name or 'adapter'}-{kind}"


def _merge(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:  # noqa: ARG001 - a cure's signature
    if not any(word in sight.features for word in _OF_PEFT):
        where = ", where its modules have biases of their own" if "lora-bias" in sight.features else ""
        return Cure(f"{_MERGING}{where}", _command("convert", sight, "merged"))
    code = (
        "import sys, peft, transformers; base, adapter, out = sys.argv[1:]; "
        "model = transformers.AutoModelForCausalLM.from_pretrained(base); "
        "peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)"
    )
    where = f"{_base(sight)} {shlex.quote(sight.label)} {_out(sight, 'merged')}"
    return Cure(f"{_MERGING} with PEFT", f"python -c {shlex.quote(code)} {where}")


def _fold(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:
    """With one scale for all modules the config alone can say it; else the scales go into the matrices."""
    if "init-changes-base" in sight.features:
        return _uninit(ratios, sight)
    alpha = _alpha(ratios, sight)
    said = f'set "lora_alpha": {alpha:.10g} and "use_rslora": false' if alpha is not None else ""
    if any(word in sight.features for word in _BESIDE):
        return Cure(said) if said else _merge(ratios, sight)
    words = f"{said}, or put the scale into the numbers" if said else "put the scale into the numbers"
    return Cure(words, _command("convert", sight, "plain", base=False))


def _alpha(ratios: tuple[Ratio, ...], sight: Sight) -> float | None:
    """The `lora_alpha` with which alpha / r is every module's scale."""
    scales = {(ratio.trained, sight.scalings[ratio.module].rank) for ratio in ratios}
    if len(scales) != 1 or sight.config.get("alpha_pattern") or sight.config.get("rank_pattern"):
        return None
    factor, rank = scales.pop()
    return factor * rank


def _pad(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:
    if any(word in sight.features for word in (*_BESIDE, "init-changes-base")):
        return _merge(ratios, sight)
    top = max((pair.rank or 0 for pair in sight.pairs if pair.kind != "experts"), default=0)
    return Cure(f"pad every pair with zeros to rank {top}", _command("convert", sight, "plain", base=False))


def _zero_pairs(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:
    if any(word in sight.features for word in (*_BESIDE, "dora", "lora-bias", "init-changes-base", "per-expert")):
        return _merge(ratios, sight)
    rank = max((pair.rank or 0 for pair in sight.pairs), default=0)
    words = f"add pairs of zeros of rank {rank} for the missing modules, they change nothing"
    return Cure(words, _command("convert", sight, "filled"))


def _rename(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:  # noqa: ARG001 - a cure's signature
    # The newest PEFT takes an adapter's name in the keys, so for it there is nothing to mend: an older one does not.
    older = " --for peft==0.20.0" if "adapter-name-in-keys" in sight.features else ""
    return Cure("rename the keys", f"{_command('fix', sight, '', made='fixed')}{older}")


def _uninit(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:  # noqa: ARG001 - a cure's signature
    return Cure("save it with PEFT's path_initial_model_for_weight_conversion, or merge it on the base it took from")


def _mixed_moe(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:  # noqa: ARG001 - a cure's signature
    asked = json.dumps({"name": "adapter", "path": sight.label, "is_3d_lora_weight": True})
    flags = f"--enable-lora --enable-mixed-moe-lora-format --lora-modules {shlex.quote(asked)}"
    return Cure("give it as what it is", f"vllm serve {_base(sight)} {flags}")


#: What a layout cannot hold besides `_BESIDE`: then `adapterfit convert` refuses it too.
_BEYOND = {
    "kohya": ("dora", "lora-bias", "embedding"), "diffusers": ("embedding",), "mlx": ("lora-bias",), "gguf": ("dora", "lora-bias"),
}  # fmt: skip


def _convert(to: str) -> Callable[[tuple[Ratio, ...], Sight], Cure]:
    """Into a layout that the engine reads; merged, where that layout cannot hold all of a PEFT adapter."""

    def cure(ratios: tuple[Ratio, ...], sight: Sight) -> Cure:
        if to in _BEYOND and sight.dialect == "peft":
            if "init-changes-base" in sight.features:
                return _uninit(ratios, sight)
            if any(word in sight.features for word in (*_BESIDE, *_BEYOND[to])):
                return _merge(ratios, sight)
        return Cure("convert it", _command("convert", sight, to))

    return cure


#: The word a claim uses → the sentence.
CURES: Mapping[str, Callable[[tuple[Ratio, ...], Sight], Cure]] = {
    "merge": _merge,
    "fold": _fold,
    "pad": _pad,
    "zero-pairs": _zero_pairs,
    "rename": _rename,
    "uninit": _uninit,
    "convert": _convert("peft"),
    "gguf": _convert("gguf"),
    "mlx": _convert("mlx"),
    "diffusers": _convert("diffusers"),
    "kohya": _convert("kohya"),
    "mixed-moe": _mixed_moe,
    "safetensors": _convert("peft"),
}
