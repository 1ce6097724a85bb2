"""Tensors in a log whose shapes do not fit, in every wording we know; cut lines give what is left of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from adapterfit import limits
from adapterfit.read.log_text import Text
from adapterfit.records import Shape
from adapterfit.symptoms import LogShape

_SIZE = r"(?:torch\.Size\()?[\[(](?P<{}>[\d, ]{{0,80}})[\])]{{1,2}}"
_FOUND, _WANTED = _SIZE.format("found"), _SIZE.format("wanted")
_NAME = 400


class _Wording(NamedTuple):
    """`anchor` is looked for first, since that is cheap; `pattern` must match there. The key is its group, `key`, or the word before."""

    name: str
    anchor: str
    pattern: re.Pattern[str]
    key: str = ""


#: Whatever may be cut off is optional.
_WORDINGS = (
    _Wording(
        "torch",
        "mismatch for ",
        re.compile(
            r"mismatch for (?P<key>[^\s:'\"]{1,400}(?=:)|[^\s:'\"]{1,200}\.[^\s:'\"]{1,200}):? ?"
            rf"(?:copying a param(?:eter)? (?:with shape|of) {_FOUND} from checkpoint"
            rf"(?:,? (?:the shape in|where the shape is) (?:current model is )?{_WANTED})?)?"
        ),
    ),
    _Wording(
        "set",
        "set a tensor of shape ",
        re.compile(rf"set a tensor of shape {_FOUND} in \"?(?P<key>[\w.]{{1,400}})\"? \(which has shape {_WANTED}"),
    ),
    _Wording("transformers", "found shape ", re.compile(rf"found shape {_FOUND} in the checkpoint and {_WANTED} in")),
    _Wording("report", "MISMATCH |", re.compile(rf"MISMATCH \|[^|]{{0,80}}?ckpt: {_FOUND} vs model: ?{_WANTED}")),
    _Wording(
        "mlx", "adapter shape ", re.compile(rf"adapter shape {_FOUND} does not match model parameter shape {_WANTED}")
    ),
    _Wording("diffusers", "expected shape ", re.compile(rf"expected shape {_WANTED}, but got {_FOUND}")),
    _Wording(
        "vllm",
        "embedding LoRA size",
        re.compile(
            r"embedding LoRA size ?\((?P<found>\d{1,9})\) must be consistent with the base model's vocabulary size ?\((?P<wanted>\d{1,9})\)"
        ),
        key="embed_tokens.weight",
    ),
    _Wording(
        "sglang", "LoRA buffer shape ", re.compile(rf"LoRA buffer shape {_WANTED} does not match weight shape {_FOUND}")
    ),
    _Wording(
        "comfyui", "shape '[", re.compile(r"shape '\[(?P<wanted>[\d, ]{1,80})\]' is invalid for input of size \d{1,15}")
    ),
)


#: Two sizes in anybody's words: what was found in the file, and what is wanted, in either order, each behind a word that says which.
_ANY = r"[\[(]?(?:torch\.Size\()?[\[(]{{1,2}}(?P<{}>\d[\d, ]{{0,80}})[\])]{{1,3}}"
_FOUND_WORD = r"\b(?:loaded|got|found|checkpoint|file|adapter|saved|received|actual|provided|given|has|have)\b"
_WANTED_WORD = r"\b(?:expected|expects?|model|wanted|wants|required|requires|current|target|should be|needs?)\b"
_WORDS = r"(?:[ :=]{1,3}(?:[a-z'`]{1,12} ){0,4}?)"
_ANYBODY = tuple(
    re.compile(rf"(?i){one}{_WORDS} ?{first}[^\[(]{{0,60}}?{other}{_WORDS} ?{second}")
    for one, first, other, second in (
        (_FOUND_WORD, _ANY.format("found"), _WANTED_WORD, _ANY.format("wanted")),
        (_WANTED_WORD, _ANY.format("wanted"), _FOUND_WORD, _ANY.format("found")),
    )
)
#: The tensor they are about: the last name before them, else the first one behind.
_TENSOR = re.compile(r"(?<![\w./\\])(?:\w{1,80}\.){2,14}(?:weight|bias|default|lora_\w{1,20})(?![\w./])")


def shapes(text: Text) -> tuple[LogShape, ...]:
    """All mismatches, in the order of the text, each tensor once."""
    found = [shape for wording in _WORDINGS for shape in _of(text, wording)]
    found = found or list(_in_anybodys_words(text))
    once: dict[str, LogShape] = {}
    for shape in sorted(found, key=lambda shape: shape.line):
        known = once.get(shape.key)
        if known is None or (known.wanted is None and shape.wanted is not None):
            once[shape.key] = shape
    return tuple(once.values())


def _of(text: Text, wording: _Wording) -> Iterator[LogShape]:
    flat = text.flat
    at = flat.find(wording.anchor)
    number = 0
    while at >= 0 and number < limits.LOG_SYMPTOMS:
        match = wording.pattern.match(flat, at)
        if match is not None:
            groups = match.groupdict()
            key = groups.get("key") or wording.key or _word_before(flat, at)
            number += 1
            yield LogShape(
                key.rstrip(".,;"),
                _shape(groups.get("found")),
                _shape(groups.get("wanted")),
                text.line_at(at),
                wording.name,
            )
        at = flat.find(wording.anchor, at + len(wording.anchor))


def _in_anybodys_words(text: Text) -> Iterator[LogShape]:
    """Mismatches that no wording above is, of tensors that are named near them."""
    if not _TENSOR.search(text.flat):
        return
    for pattern in _ANYBODY:
        for match in islice(pattern.finditer(text.flat), limits.LOG_SYMPTOMS):
            before = _TENSOR.findall(text.flat, max(0, match.start() - _NAME), match.start())
            behind = _TENSOR.search(text.flat, match.end(), match.end() + _NAME)
            name = before[-1] if before else behind[0] if behind is not None else ""
            found, wanted = _shape(match["found"]), _shape(match["wanted"])
            if name and found != wanted:
                yield LogShape(name, found, wanted, text.line_at(match.start()), "other")


def _word_before(flat: str, at: int) -> str:
    """The name that stands before a position: `score.weight | MISMATCH`, `- score.weight: found shape`."""
    return flat[max(0, at - _NAME) : at].rstrip(" |:-").rpartition(" ")[2]


def _shape(text: str | None) -> Shape | None:
    """`4096, 8` → (4096, 8); None where nothing was told, or a number too long to be one."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(int(part) for part in parts) if all(part.isdigit() and len(part) < 16 for part in parts) else None
