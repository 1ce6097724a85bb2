"""What else a log tells: versions, files, addresses, module names, keywords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from adapterfit import limits
from adapterfit.read.log_text import Text
from adapterfit.symptoms import LogArgument, LogFile, LogTargets, LogUrl

# ------------------------------------------------------------------------------------------- versions

_VERSION = re.compile(
    r"(?<![\w/.-])(peft|transformers|torch|safetensors|accelerate|vllm|sglang|diffusers|huggingface[_-]hub|bitsandbytes|trl|"
    r"mlx-lm|mlx|ollama|optimum|auto-gptq|unsloth|llamafactory|python|comfyui|tgi)"
    r"[`'\"*]{0,3}(?: version)?[`'\"*]{0,3} {0,4}(?:==|>=|<=|~=|:|=|@|-|\||v)? {0,4}[`'\"v]{0,2}(\d{1,3}\.\d{1,4}(?:\.\d{1,5})?(?:\.?(?:dev|rc|post)\d{1,6})?)",
    re.IGNORECASE,
)
_IN_PATH = re.compile(
    r"[\\/](peft|transformers|torch|diffusers|vllm|safetensors)-(\d{1,3}(?:\.\d{1,4}){1,3})[^\\/]{0,40}[\\/]"
)
_PYTHON = re.compile(r"[\\/]python(3\.\d{1,2})[\\/]")


def versions(text: Text) -> Mapping[str, str]:
    """Library → the version told first."""
    found: dict[str, str] = {}
    for pattern in (_VERSION, _IN_PATH):
        for match in pattern.finditer(text.flat):
            found.setdefault(match[1].lower().replace("_", "-"), match[2])
    python = _PYTHON.search(text.flat)
    if python is not None:
        found.setdefault("python", python[1])
    return found


# ------------------------------------------------------------------------------------------- files

_LS = re.compile(
    r"\s{0,40}(?P<kind>[dl-])[rwxsStT-]{9}[.+@]?\s{1,20}\d{1,9}\s{1,20}\S{1,60}\s{1,20}\S{1,60}\s{1,20}(?P<size>\d[\d.,]{0,20})(?P<unit>[KMGT]?)\s{1,20}"
    r"\S{1,12}\s{1,20}\S{1,8}\s{1,20}[\d:]{4,5}\s{1,20}(?P<name>\S[^\n]{0,300})"
)
_ENTRY = re.compile(
    r"(?:[-*•+├└─│|`\s]{0,60})[`'\"]?(?P<name>[\w@+./-]{1,200}(?: ?\(\d{1,3}\))?\.(?:bin|safetensors|json|pt|pth|ckpt|gguf|md|txt|model|npz)|global_step\d{1,9}|checkpoint-\d{1,9})"
    r"/?[`'\"]?(?:\s{1,40}\(?(?P<size>\d[\d.,]{0,20})\s?(?P<unit>[KMGT]?)i?B?(?:ytes)?\)?)?\s{0,40}"
)
_AMOUNT = r"(?<![\w.-])(?P<size>\d{1,12}(?:\.\d{1,3})?)[\s-]?(?:bytes?|(?P<unit>[KMG])i?B?)\b"
_WEIGHTS = r"(?P<name>[\w-]{1,120}\.(?:bin|safetensors|pth?))"
#: What stands in every line with such a file: looked for first, since that is cheap.
_ENDINGS = (".bin", ".safetensors", ".pt")
_SIZED = re.compile(rf"{_WEIGHTS}[`'\"]?[^\n]{{0,60}}?{_AMOUNT}", re.IGNORECASE)
_SIZED_BEFORE = re.compile(rf"{_AMOUNT}[^\n]{{0,40}}?{_WEIGHTS}", re.IGNORECASE)
#: A folder's files on one line, as `ls` and people write them.
_INLINE = re.compile(
    r"(?<![\w/\\.-])[\w+-]{1,100}(?:\.[\w-]{1,40}){0,3}\.(?:bin|safetensors|json|pth?|ckpt|gguf|md|txt|model|npz)(?![\w/\\])"
)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def files(text: Text) -> tuple[LogFile, ...]:
    """Files and folders of listings, and files whose size is told."""
    return tuple(file for _, file in zip(range(limits.LOG_SYMPTOMS), _files(text)))


def _files(text: Text) -> Iterator[LogFile]:
    for number, line in enumerate(text.lines):
        if len(line) > 1_000 or not line.strip():
            continue
        listed = _LS.fullmatch(line) or _ENTRY.fullmatch(line)
        if listed is not None:
            folder = listed.groupdict().get("kind") == "d" or listed["name"].startswith(("global_step", "checkpoint-"))
            yield LogFile(listed["name"].strip(), number, _size(listed["size"], listed["unit"]), folder)
            continue
        named = _INLINE.findall(line) if line.count(".") > 2 else []
        if len(named) > 2:
            yield from (LogFile(name, number) for name in named)
            continue
        weights = any(mark in line.lower() for mark in _ENDINGS)
        sized = (_SIZED.search(line) or _SIZED_BEFORE.search(line)) if weights else None
        if sized is not None:
            yield LogFile(sized["name"], number, _size(sized["size"], (sized["unit"] or "").upper()))


def _size(number: str | None, unit: str | None) -> int | None:
    try:
        return int(float((number or "").replace(",", "")) * _UNITS[unit or ""])
    except (ValueError, OverflowError):
        return None


# ------------------------------------------------------------------------------------------- addresses

_URL = re.compile(r"https?://[^\s'\"<>()\[\]`]{1,500}")
_HUB = re.compile(
    r"https?://(?:huggingface\.co|hf-mirror\.com|hf\.co)/(?:api/models/)?(?P<repo>[\w.-]{1,96}(?:/[\w.-]{1,96})?)/(?:resolve|raw|blob|tree)/[^/\s]{1,100}/(?P<file>.{1,300})"
)
_STATUS = re.compile(
    r"(?<!\d)(40[0-9]|5\d\d)(?= (?:Client|Server) Error| Unauthorized| Forbidden| Not Found)"
    r"|(?:(?:Client|Server) error '|status(?: code)?[:= ]{1,2}|HTTP )(40[0-9]|5\d\d)\b",
    re.IGNORECASE,
)
_NEAR = 400


def urls(text: Text) -> tuple[LogUrl, ...]:
    """Every address, with the status told near it."""
    found = []
    for number, match in enumerate(_URL.finditer(text.flat)):
        if number >= limits.LOG_SYMPTOMS:
            break
        url = match[0].rstrip(".,;:")
        hub = _HUB.match(url)
        near = [*_STATUS.finditer(text.flat, max(0, match.start() - _NEAR), match.start())]
        status = near[-1] if near else _STATUS.search(text.flat, match.end(), match.end() + _NEAR)
        repo, file = (hub["repo"], hub["file"]) if hub else ("", "")
        found.append(LogUrl(url, repo, file, int(status[1] or status[2]) if status else 0, text.line_at(match.start())))
    return tuple(found)


# ------------------------------------------------------------------------------------------- targets

_NOT_FOUND = re.compile(r"Target modules (?P<names>.{0,4000}?)(?: (?:not|were not) found in the base model|$)")
_UNSUPPORTED = re.compile(r"Target module (?P<names>[A-Za-z_]\w{0,120})")
#: A module printed as it is, where the rest of the sentence is cut off.
_CLASS = re.compile(r"Target module [A-Z]\w{2,120}\( ?(?:\(|\w+=)")
_EXPECTED = re.compile(
    r"expected target modules in (?P<expected>[\[{(]?.{0,6000}?[\]})]?) but rece(?:ived)? ?(?P<received>[\[{(].{0,20000}?[\]})]|.{0,2000})"
)
_NAMES = re.compile(r"['\"`]([^'\"`\s]{1,400})['\"`]")


def targets(text: Text) -> tuple[LogTargets, ...]:
    """Names of modules in messages about them."""
    flat = text.flat
    found: list[LogTargets] = []
    for at in _positions(flat, "Target module", limits.LOG_SYMPTOMS):
        line = text.line_at(at)
        missing, unsupported = _NOT_FOUND.match(flat, at), _UNSUPPORTED.match(flat, at)
        if missing is not None:
            names, quoted = _names(missing["names"])
            found.append(LogTargets(names, "not-found", line, quoted))
        elif unsupported is not None and (flat.find("not supported", at, at + 4_000) > 0 or _CLASS.match(flat, at)):
            found.append(LogTargets((unsupported["names"],), "unsupported", line))
    for at in _positions(flat, "expected target modules in", 20):
        match = _EXPECTED.match(flat, at)
        if match is not None:
            found += [LogTargets(_names(match[what])[0], what, text.line_at(at)) for what in ("expected", "received")]
    return tuple(found)


def _names(listed: str) -> tuple[tuple[str, ...], bool]:
    """The names of a list, and whether they stand in quotes."""
    quoted = tuple(dict.fromkeys(_NAMES.findall(listed)))
    if quoted:
        return quoted, True
    bare = [part.strip(" []{}()") for part in listed.split(",")]
    return tuple(part for part in bare if part and " " not in part), False


# ------------------------------------------------------------------------------------------- keywords

_ARGUMENT = re.compile(r"unexpected keyword argument '?\"?`?(?P<name>\w{1,100})")
_CALLED = re.compile(r"(?:class )?(?P<called>[\w.]{1,120}?)(?:\.(?:__)?init(?:__)?)?\(\) got an $")


def arguments(text: Text) -> tuple[LogArgument, ...]:
    """Keywords that a call did not know."""
    found = []
    for number, match in enumerate(_ARGUMENT.finditer(text.flat)):
        if number >= limits.LOG_SYMPTOMS:
            break
        before = text.flat[max(0, match.start() - 160) : match.start()]
        called = _CALLED.search(before.rpartition(" got an ")[0].rpartition(" ")[2] + " got an ")
        found.append(LogArgument(match["name"], called["called"] if called else "", text.line_at(match.start())))
    return tuple(found)


def _positions(flat: str, word: str, most: int) -> Iterator[int]:
    at = flat.find(word)
    for _ in range(most):
        if at < 0:
            return
        yield at
        at = flat.find(word, at + 1)
