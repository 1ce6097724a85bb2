"""Why nothing has a gradient: is nothing trainable, or does checkpointing cut it off? Read once for both causes.

The number of trainable parameters decides where the text tells it. Where it does not, the way the model was made speaks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from adapterfit.causes.heard import line_of, once, said

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

#: What tells the two apart.
TRAINABLE = "model.print_trainable_parameters(): 0 means that the adapter is frozen; more, that checkpointing cuts the gradient off"
_RAISED = ("does not require grad and does not have a grad_fn", "none of the inputs have requires_grad=true")
_EMPTY = "optimizer got an empty parameter list"
_CUT = ("none of the inputs have requires_grad=true", "incompatible with gradient checkpointing")
_ASKED = re.compile(r"gradient[_ -]?checkpoint(?:ing)?\b(?!\W{0,3}(?:=|:|\s)\s?\W?(?:false|none)\b)")
_NUMBER = re.compile(r"(?:number of )?trainable param(?:eter)?s(?: is| are|\W{1,4}) ?(\d[\d,.]{0,20})")
#: The same in words: gradients that are none, where checkpointing is spoken of.
_NONE = re.compile(r"\bgrad(?:ient)?s?\b[^.\n]{0,40}\b(?:none|zeros?|empty|missing)\b|\bno grad(?:ient)?s?\b")
#: Something that freezes an adapter, or an adapter that is frozen; a frozen base is as it should be.
_FROZEN = re.compile(
    r"\b(?:freez(?:es|ing)|froze) (?:the |my |all |our )?(?:\w+ )?(?:loras?|adapters?)\b|\b(?:loras?|adapters?)(?: weights?| layers?| params?| parameters)? (?:is|are|was|were|gets?|got|becomes?|stays?) (?:all |still |being )?frozen\b"
    r"|\b(?:loras?|adapters?)\b[^.\n]{0,60}requires_grad (?:is |are |= ?|== ?)?(?:all )?false\b"
)
_LOADED = re.compile(r"(?:peft\w{0,40}\.from_pretrained|load_adapter)\((?P<options>[^()]{0,300})")
#: Characters of a text that are read for sentences.
_PROSE = 60_000
_ADAPTER = re.compile(r"(?<![a-z])q?lora|peft|adapter|\|\| all params: ")


class Gradient(NamedTuple):
    """How likely each cause is (0: not at all), with the lines that say so; `lines` are those of the error."""

    frozen: float
    cut: float
    lines: tuple[int, ...]
    frozen_lines: tuple[int, ...] = ()
    cut_lines: tuple[int, ...] = ()


@once
def read_gradient(symptoms: Symptoms) -> Gradient | None:
    """What a text tells about a training without gradients; None where it is about something else."""
    lines, empty = said(symptoms, *_RAISED, most=2), said(symptoms, _EMPTY, most=1)
    number = _NUMBER.search(symptoms.folded)
    about = _ADAPTER.search(symptoms.folded) is not None or (
        number is not None and bool(said(symptoms, _CUT[0], most=1))
    )
    if not about:
        return None
    if not (lines or empty):
        return _in_words(symptoms, number)
    if number is not None:
        at = (line_of(symptoms, number.start()),)
        nothing = not number[1].strip(",.0")
        return Gradient(0.92, 0, lines or empty, at) if nothing else Gradient(0, 0.8 if lines else 0, lines, (), at)
    loaded = [one for one in _LOADED.finditer(symptoms.folded) if "is_trainable" not in one["options"]]
    frozen_at = tuple(line_of(symptoms, one.start()) for one in loaded[:1])
    asked = _ASKED.search(symptoms.folded)
    cut_at = said(symptoms, *_CUT, most=2) or (() if asked is None else (line_of(symptoms, asked.start()),))
    if not lines:
        return Gradient(0.75 if loaded else 0.4, 0, empty, frozen_at)
    if said(symptoms, _CUT[0], most=1):
        return Gradient(0.3 if loaded else 0.2, 0.86, lines, frozen_at, cut_at)
    if cut_at:
        return Gradient(0.4 if loaded else 0.25, 0.7, lines, frozen_at, cut_at)
    return Gradient(0.75, 0.3, lines, frozen_at) if loaded else Gradient(0.35, 0.45, lines)


def _in_words(symptoms: Symptoms, number: re.Match[str] | None) -> Gradient | None:
    """Nothing raised: a number of trainable parameters that is 0, or gradients that are none where checkpointing is spoken of."""
    if symptoms.errors:
        return None
    loaded = _LOADED.search(symptoms.folded)
    if number is not None and not number[1].strip(",.0"):
        at = tuple(line_of(symptoms, one.start()) for one in (number, loaded) if one is not None)
        return Gradient(0.8 if loaded is not None else 0.6, 0, (), at)
    frozen = _FROZEN.search(symptoms.folded, 0, _PROSE)
    if frozen is not None:
        return Gradient(0.55, 0, (), (line_of(symptoms, frozen.start()),))
    asked, none = (pattern.search(symptoms.folded, 0, _PROSE) for pattern in (_ASKED, _NONE))
    if asked is None or none is None:
        return None
    return Gradient(0.2, 0.5, (line_of(symptoms, none.start()),), (), (line_of(symptoms, asked.start()),))
