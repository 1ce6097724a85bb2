"""What cures an effect: a claim names it by one word, and the words become a sentence about this adapter."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Mapping

from adapterfit.answers import Effect, Ratio, Sight


def written(effects: Iterable[Effect], ratios: tuple[Ratio, ...], sight: Sight) -> tuple[Effect, ...]:
    """The effects with their cures spelled out."""
    return tuple(
        dataclasses.replace(effect, cure=CURES[effect.cure](ratios, sight)) if effect.cure else effect
        for effect in effects
    )


def _command(command: str, sight: Sight, options: str = "") -> str:
    base = shlex.quote(sight.base) if sight.base else "BASE"
    return f"adapterfit {command} {shlex.quote(sight.label)}{options} --base {base} --out DIR"


def _merge(ratios: tuple[Ratio, ...], sight: Sight) -> str:  # noqa: ARG001 - a cure's signature
    return f"merge it into the base: {_command('convert', sight, ' --to merged')}"


def _fold(ratios: tuple[Ratio, ...], sight: Sight) -> str:
    """With one scale for all modules the config alone can say it; else the scales go into the matrices."""
    alpha = _alpha(ratios, sight)
    folded = "multiply each lora_B by its scale and set lora_alpha = r, use_rslora = false, no alpha_pattern"
    if alpha is None:
        return folded
    return f'set "lora_alpha": {alpha:.10g} and "use_rslora": false (or {folded})'


def _alpha(ratios: tuple[Ratio, ...], sight: Sight) -> float | None:
    """The `lora_alpha` with which alpha / r is every module's scale."""
    scales = {(ratio.trained, sight.scalings[ratio.module].rank) for ratio in ratios}
    if len(scales) != 1 or sight.config.get("alpha_pattern") or sight.config.get("rank_pattern"):
        return None
    factor, rank = scales.pop()
    return factor * rank


def _pad(ratios: tuple[Ratio, ...], sight: Sight) -> str:  # noqa: ARG001 - a cure's signature
    top = max((pair.rank or 0 for pair in sight.pairs if pair.kind != "experts"), default=0)
    return f"multiply each lora_B by its scale, pad A and B with zeros to rank {top}, and set r = lora_alpha = {top}"


def _zero_pairs(ratios: tuple[Ratio, ...], sight: Sight) -> str:  # noqa: ARG001 - a cure's signature
    rank = max((pair.rank or 0 for pair in sight.pairs), default=0)
    return f"add pairs of zeros of rank {rank} for the missing modules: they change nothing"


def _rename(ratios: tuple[Ratio, ...], sight: Sight) -> str:  # noqa: ARG001 - a cure's signature
    return f"rename the keys: {_command('fix', sight)}"


def _uninit(ratios: tuple[Ratio, ...], sight: Sight) -> str:  # noqa: ARG001 - a cure's signature
    return "save it with PEFT's path_initial_model_for_weight_conversion, or merge it on the base it took from"


def _convert(to: str) -> Callable[[tuple[Ratio, ...], Sight], str]:
    return lambda _ratios, sight: f"convert it: {_command('convert', sight, f' --to {to}')}"


def _say(text: str) -> Callable[[tuple[Ratio, ...], Sight], str]:
    return lambda _ratios, _sight: text


#: The word a claim uses → the sentence.
CURES: Mapping[str, Callable[[tuple[Ratio, ...], Sight], str]] = {
    "merge": _merge,
    "fold": _fold,
    "pad": _pad,
    "zero-pairs": _zero_pairs,
    "rename": _rename,
    "uninit": _uninit,
    "convert": _convert("peft==0.21.2"),
    "gguf": _convert("gguf"),
    "mlx": _convert("mlx"),
    "diffusers": _convert("diffusers"),
    "kohya": _convert("kohya"),
    "mixed-moe": _say("start it with --enable-mixed-moe-lora-format and give the adapter is_3d_lora_weight=true"),
    "safetensors": _say("save it as safetensors"),
}
