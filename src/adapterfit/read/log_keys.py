"""Tensor names in a log: those said to be missing, those said to be unexpected, and those merely said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from adapterfit import limits
from adapterfit.read.log_text import Text
from adapterfit.symptoms import LogKey

MISSING, UNEXPECTED = "missing", "unexpected"


class _Wording(NamedTuple):
    """Folded words after which a list of names begins."""

    anchor: str
    what: str
    name: str


_LISTS = (
    _Wording("missing key(s) in state_dict:", MISSING, "torch"),
    _Wording("unexpected key(s) in state_dict:", UNEXPECTED, "torch"),
    _Wording("missing_keys=[", MISSING, "result"),
    _Wording("unexpected_keys=[", UNEXPECTED, "result"),
    _Wording("missing keys: [", MISSING, "result"),
    _Wording("unexpected keys: [", UNEXPECTED, "result"),
    _Wording("found missing adapter keys while loading the checkpoint:", MISSING, "peft"),
    _Wording("found unexpected adapter keys while loading the checkpoint:", UNEXPECTED, "peft"),
    _Wording("there were missing keys in the checkpoint model loaded:", MISSING, "trainer"),
    _Wording("there were missing keys in the checkpoint model loaded**:", MISSING, "trainer"),
    _Wording("there were unexpected keys in the checkpoint model loaded:", UNEXPECTED, "trainer"),
    _Wording("and are newly initialized:", MISSING, "transformers"),
    _Wording("were not used when initializing", UNEXPECTED, "transformers"),
    _Wording("led to unexpected keys not found in the model:", UNEXPECTED, "diffusers"),
    _Wording("led to unexpected keys found in the model:", UNEXPECTED, "diffusers"),
    _Wording("led to missing keys in the model:", MISSING, "diffusers"),
    _Wording("led to missing keys not found in the model:", MISSING, "diffusers"),
    _Wording("following keys have not been correctly renamed:", UNEXPECTED, "diffusers"),
    _Wording("lora key not loaded:", UNEXPECTED, "comfyui"),
    _Wording("lora key not loaded", UNEXPECTED, "comfyui"),
    _Wording("would accept those keys:", UNEXPECTED, "webui"),
    _Wording("failed to match keys when loading", UNEXPECTED, "webui"),
    _Wording("didn't match keys:", UNEXPECTED, "webui"),
    _Wording("unexpected tensor name:", UNEXPECTED, "llama.cpp"),
    _Wording("unexpected name '", UNEXPECTED, "llama.cpp"),
    _Wording("can not map tensor '", UNEXPECTED, "llama.cpp"),
    _Wording("unhandled keys [", UNEXPECTED, "mlx"),
    _Wording("missing parameters:", MISSING, "mlx"),
    _Wording("parameters not in model:", UNEXPECTED, "mlx"),
)
#: A list in a program's own words: what befell the names, what they are called, a few words more, and then the first of them.
_ANYBODY = re.compile(
    r"\b(?P<what>missing|unexpected|unused|unmatched|unhandled|unknown|unrecogni[sz]ed|extra|skipp(?:ed|ing)|ignor(?:ed|ing)|unloaded)\b"
    r"(?: [a-z0-9-]{1,20}){0,4}? (?:keys?|tensors?|weights?|param(?:eter)?s?|layers?|modules?)\b(?:\(s\))?"
    r"(?:[ (]{1,2}[a-z0-9'-]{1,20}\)?){0,8}?(?::? ?[\[{(]?['\"`]|:? ?[\[{(]|: ?| )(?=(?P<name>[\w{}*-]{1,200}\.[\w.{}*-]{1,300}|lora_\w{1,300}))"
)
#: The same, with what befell them behind what they are called.
_BEHIND = re.compile(
    r"\b(?:keys?|tensors?|weights?|param(?:eter)?s?|layers?|modules?)\b (?:[a-z0-9-]{1,20} ){0,4}?(?:were|was|are|is|have|has|could|did)(?: been| be)? ?n[o']t(?: been| be)? "
    r"(?P<what>initiali[sz]ed|found|loaded|used|matched|applied|restored|recogni[sz]ed|expected)\b"
    r"(?:[ (]{1,2}[a-z0-9'-]{1,20}\)?){0,8}?(?::? ?[\[{(]?['\"`]|:? ?[\[{(]|: ?)(?=(?P<name>[\w{}*-]{1,200}\.[\w.{}*-]{1,300}|lora_\w{1,300}))"
)
#: What befell a tensor of the model; all else befell one of the file.
_WANTED = frozenset({"missing", "initialized", "initialised", "found", "restored"})
#: How the last part of a tensor's name begins; other dotted words are files, modules or options.
_LAST = ("weight", "bias", "alpha", "lora_", "diff", "dora_scale", "hada_", "lokr_")
#: `Missing 12 parameters: …`
_COUNTED = re.compile(r"missing \d{1,7} parameters:")
#: A name between quotes, or up to a comma; braces and stars come from reports that fold layers together.
_QUOTED = re.compile(r"['\"`]([^\s'\"`]{1,400})['\"`]?")
_BARE = re.compile(r"([\w.{}*,/-]{0,400}[\w}])")
_BETWEEN = re.compile(r"[\s,;|&]{0,200}(?:and )?")
#: What belongs to a name in a dict.
_VALUE = re.compile(r": ?(?:'[^']{0,300}'|\"[^\"]{0,300}\"|[\w.]{1,20})")
_ROW = re.compile(r"\| ?(MISSING|UNEXPECTED)\b")
#: The name that ends here, the layers that it stands for in braces; and these.
_FOLDED = re.compile(r"(?:[^\s{]|\{[\w,. ]{0,100}\})+$")
_BRACES = re.compile(r"\{([\d,. ]{1,100})\}")
#: Layers at most that a name is unfolded to.
_LAYERS = 256
_REFUSED = re.compile(r" is unsupported LoRA weight|: not an adapter parameter in the model")
#: Dotted names; braces and stars stand for layers that a report folds together.
_SAID = re.compile(r"(?<![\w.{}<>*])[\w{}<>*][\w{}<>*.,-]{3,400}[\w}>*]")
#: What a name begins with, or what a segment of it begins with, if it can only be that of an adapter's tensor.
_STARTS = ("base_model.", "_orig_mod.", "lora_unet_", "lora_te", "lycoris_")
_SEGMENTS = (
    "lora_A", "lora_B", "lora_a", "lora_b", "lora_{", "lora_*", "lora_E", "lora_embedding_", "lora_magnitude", "lora_down",
    "lora_up", "lora_mid", "dora_scale", "hada_", "lokr_", "ia3_", "modules_to_save",
)  # fmt: skip
#: Names of kohya-ss have no dots before the last of their parts.
_FLAT = ("lora_unet_", "lora_te_text", "lora_te1_text", "lora_te2_text", "lycoris_")
#: What stands in every line with such a name: looked for first, since that is cheap.
_MARKS = (
    "lora_",
    "dora_scale",
    "hada_",
    "lokr_",
    "ia3_",
    "modules_to_save",
    "base_model.",
    "_orig_mod.",
    "lycoris_",
    ".layers.",
)
_LAYER = re.compile(r"\.layers\.(?:\d{1,4}|\*|[{<]\S{1,20}[}>])\.")


def keys(text: Text, folded: str) -> tuple[tuple[LogKey, ...], tuple[LogKey, ...], tuple[LogKey, ...]]:
    """Missing, unexpected and other names."""
    told = list(_in_anybodys_words(text, folded))
    told += [(wording.what, key) for wording in _LISTS for key in _listed(text, folded, wording)]
    told += [(MISSING, key) for found in _COUNTED.finditer(folded) for key in _from(text, found.end(), "mlx")]
    told += list(_rows(text))
    told += [(UNEXPECTED, key) for key in _refused(text)]
    missing, unexpected = (
        tuple({key.name: key for what, key in told if what == wanted}.values())[: limits.LOG_SYMPTOMS]
        for wanted in (MISSING, UNEXPECTED)
    )
    known = {key.name for key in missing + unexpected}
    return missing, unexpected, tuple(key for key in _said(text) if key.name not in known)


def _in_anybodys_words(text: Text, folded: str) -> Iterator[tuple[str, LogKey]]:
    """Names of tensors behind words that no wording below is; what a known wording tells of the same name counts more."""
    both = chain(_ANYBODY.finditer(folded), _BEHIND.finditer(folded))
    for match in islice(both, limits.LOG_SYMPTOMS):
        what = MISSING if match["what"] in _WANTED else UNEXPECTED
        listed = list(_from(text, _opening(folded, match.end()), "other"))
        if any(_is_last(key.name) for key in listed):
            yield from ((what, key) for key in listed)


def _opening(folded: str, at: int) -> int:
    """Where a list begins whose first name begins at a position: with the bracket and the quote before it."""
    return at - next((back for back in (2, 1) if set(folded[at - back : at]) <= set("[{('\"`") and at >= back), 0)


def _is_last(name: str) -> bool:
    return name.rpartition(".")[2].startswith(_LAST) or name.startswith(_FLAT) or ".lora_" in name


def _listed(text: Text, folded: str, wording: _Wording) -> Iterator[LogKey]:
    at = folded.find(wording.anchor)
    left = limits.LOG_SYMPTOMS
    while at >= 0 and left > 0:
        start = at + len(wording.anchor)
        start -= 1 if wording.anchor[-1] in "'[" else 0
        if wording.anchor.startswith("were not used"):
            start = max(folded.find(":", start, start + 300), start) + 1
        if wording.anchor.startswith("failed to match"):  # a path stands between
            start = max(*(folded.find(bracket, start, start + 400) for bracket in (": [", ": {")), start - 1) + 1
        for key in _from(text, start, wording.name):
            left -= 1
            yield key
        at = folded.find(wording.anchor, start + 1)


def _from(text: Text, at: int, wording: str) -> Iterator[LogKey]:
    for name, position in _names(text.flat, at, limits.LOG_SYMPTOMS):
        yield LogKey(name, text.line_at(position), wording)


def _names(flat: str, at: int, most: int) -> Iterator[tuple[str, int]]:
    """Names from `at` on, as long as nothing but commas stands between them. A list that is cut off ends with a piece."""
    at = _BETWEEN.match(flat, at).end()  # type: ignore[union-attr]  # it matches nothing too
    bracketed = flat[at : at + 1] in {"[", "{", "("}
    at = _BETWEEN.match(flat, at + 1).end() if bracketed else at  # type: ignore[union-attr]
    pattern = _QUOTED if flat[at : at + 1] in {"'", '"', "`"} else _BARE
    for _ in range(most):
        match = pattern.match(flat, at)
        if match is None or not _is_name(match[1]) or _is_broken(match):
            return
        yield match[1].rstrip(".,"), match.start(1)
        value = _VALUE.match(flat, match.end()) if bracketed else None
        after = _BETWEEN.match(flat, value.end() if value is not None else match.end())
        at = after.end() if after is not None else match.end()
        if not (bracketed or "," in flat[match.end() : at] or pattern is _QUOTED):
            return


def _is_broken(match: re.Match[str]) -> bool:
    """Whether the text, or the part of it that was read, ends within the name: its quote is never closed."""
    return match.re is _QUOTED and match.end(1) == match.end()


def _is_name(word: str) -> bool:
    """Whether a word may be a tensor's name; `{missing_keys}` is the code that prints the list."""
    return "." in word or ("_" in word and not word.endswith("}"))


def _rows(text: Text) -> Iterator[tuple[str, LogKey]]:
    """Rows of transformers' LOAD REPORT: `score.weight | MISSING |`."""
    for number, match in enumerate(_ROW.finditer(text.flat)):
        if number >= limits.LOG_SYMPTOMS:
            return
        told = _FOLDED.search(text.flat[max(0, match.start() - 400) : match.start()].rstrip(" |"))
        if told is not None and _is_name(told[0]):
            what = MISSING if match[1] == "MISSING" else UNEXPECTED
            for name in unfolded(told[0]):
                yield what, LogKey(name, text.line_at(match.start()), "report")


def unfolded(name: str) -> Iterator[str]:
    """The names that a report folds into one: `layers.{0, 1}.x`, and `layers.{0...31}.x` from eleven on; itself where it has no such part."""
    found = _BRACES.search(name)
    numbers = [int(number) for number in re.findall(r"\d{1,4}", found[1])] if found is not None else []
    if found is None or not numbers:
        yield name
        return
    layers = range(numbers[0], numbers[-1] + 1) if "..." in found[1] else numbers
    for layer in layers[:_LAYERS]:
        yield f"{name[: found.start()]}{layer}{name[found.end() :]}"


def _refused(text: Text) -> Iterator[LogKey]:
    """`NAME is unsupported LoRA weight`."""
    for number, match in enumerate(_REFUSED.finditer(text.flat)):
        if number >= limits.LOG_SYMPTOMS:
            return
        name = text.flat[max(0, match.start() - 400) : match.start()].rpartition(" ")[2]
        yield LogKey(name.strip("'\"`"), text.line_at(match.start()), "vllm" if "LoRA" in match[0] else "mlx")


def _said(text: Text) -> Iterator[LogKey]:
    """Whatever else looks like an adapter's tensor, or like the path of a module in a layer; each once."""
    seen: set[str] = set()
    for line, words in enumerate(text.lines):
        if len(seen) >= limits.LOG_SYMPTOMS:
            return
        if not any(mark in words for mark in _MARKS):
            continue
        for match in _SAID.finditer(words):
            name = match[0].rstrip(",")
            if ("." in name or _is_flat(name)) and name not in seen and _is_tensor(name):
                seen.add(name)
                yield LogKey(name, line)


def _is_flat(name: str) -> bool:
    """`lora_unet_down_blocks_0_…` is a tensor's name; `lora_unet_rank` is an option."""
    return name.startswith(_FLAT) and any(char.isdigit() for char in name)


def _is_tensor(name: str) -> bool:
    if name.endswith((".py", ".bin", ".json", ".safetensors")):
        return False
    dotted = name.split(".")
    return (
        name.startswith(_STARTS)
        or any(part.startswith(_SEGMENTS) for part in dotted)
        or (len(dotted) > 4 and _LAYER.search(name) is not None)
    )
