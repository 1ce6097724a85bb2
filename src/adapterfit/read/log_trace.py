"""Exceptions, warnings and frames of a traceback, in Python's, IPython's and rich's manner."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adapterfit import limits
from adapterfit.read.log_text import Text
from adapterfit.symptoms import LogError, LogFrame

_RAISED = re.compile(
    r"(?<![\w.'])(?:[a-zA-Z_]\w{0,60}\.){0,8}(?P<kind>[A-Z]\w{1,60}(?:Error|Exception|Warning|NotFound))(?::(?P<told>.{0,2000})|\s{0,80}$)"
)
#: How the name of an error ends: looked for first, since that is cheap.
_KINDS = ("Error", "Exception", "Warning", "NotFound")
#: The head of IPython's tracebacks; the message stands at their end, if the paste goes that far.
_HEADER = re.compile(r"\s{0,20}(?P<kind>[A-Z]\w{1,60}(?:Error|Exception)) {2,200}Traceback \(most recent")
_FRAMES = (
    re.compile(r"File \"?(?P<path>[^\"\n]{1,500}?)\"?, line \d{1,7}(?:, in (?P<function>[\w<>.]{1,120}))?"),
    re.compile(r"File (?P<path>[^\s:]{1,500}):\d{1,7},? in (?P<function>[\w<>.]{1,120})"),
    re.compile(r"(?P<path>(?:[/~]|[A-Z]:\\|\.\.\./)[^\s:]{1,500}\.py) in (?P<function>[\w<>.]{1,120})\("),
    re.compile(r"(?P<path>[^\s:\"']{1,500}\.py):\d{1,7}(?::|$| in(?:$| (?P<function>[\w<>.]{1,120})))"),
)
_WHOLE = re.compile(r"\", line \d{1,7}, in [\w<>]")
#: Folders that are libraries, wherever they lie.
_LIBRARIES = frozenset(
    {
        "peft", "transformers", "torch", "safetensors", "accelerate", "vllm", "sglang", "diffusers", "comfy",
        "huggingface_hub", "mlx", "mlx_lm", "mlx_vlm", "lorax_server", "text_generation_server", "llamafactory", "llmtuner",
        "unsloth", "unsloth_zoo", "axolotl", "trl", "llava", "fastchat", "sentence_transformers", "bitsandbytes", "auto_gptq",
        "optimum", "deepspeed", "tensorrt_llm", "torchtune", "transformers_modules", "swift", "gptqmodel", "awq",
    }
)  # fmt: skip
_SITE = ("site-packages", "dist-packages")


def frames(text: Text) -> tuple[LogFrame, ...]:
    """Every frame, in the order of the text."""
    found: list[LogFrame] = []
    for number, line in enumerate(text.lines):
        if (".py" in line or line.lstrip().startswith('File "')) and len(found) < limits.LOG_SYMPTOMS:
            for match in _matches(_longer(text, number)):
                library, file = _placed(match["path"])
                function = (match["function"] or _wrapped(text, number)).rpartition(".")[2]  # without its class
                found.append(LogFrame(library, file, function, number))
    return tuple(found)


def _matches(line: str) -> Iterator[re.Match[str]]:
    """The frames of a line: all of Python's own, which a paste may have put on one line, else the first."""
    own = list(_FRAMES[0].finditer(line, 0, limits.LOG_LINE_CHARS))
    yield from own or [match for pattern in _FRAMES[1:] for match in [pattern.search(line)] if match][:1]


def _longer(text: Text, number: int) -> str:
    """A line, with those after it where it begins a frame that is broken at a word."""
    line = text.lines[number]
    for after in text.lines[number + 1 : number + 3]:
        if not line.lstrip().startswith('File "') or _WHOLE.search(line) or not after[:1].strip():
            break
        line += after if line.endswith(("-", "/", ".")) else f" {after}"
    return line


def _wrapped(text: Text, number: int) -> str:
    """The function of a frame whose line a box cut after `in`; an empty string where it did not."""
    if not text.lines[number].rstrip().endswith(" in") or number + 1 >= len(text.lines):
        return ""
    word = text.lines[number + 1].split()[:1]
    return word[0] if word and word[0].isidentifier() else ""


def _placed(path: str) -> tuple[str, str]:
    """`…/site-packages/peft/utils/config.py` → (`peft`, `utils/config.py`)."""
    parts = path.replace("\\\\", "/").replace("\\", "/").split("/")
    site = max((at + 1 for at, part in enumerate(parts) if part in _SITE), default=None)
    known = [at for at, part in enumerate(parts[:-1]) if part.lower() in _LIBRARIES]
    remote = [at for at in known if parts[at] == "transformers_modules"]
    at = remote[0] if remote else site if site is not None and site < len(parts) - 1 else known[-1] if known else None
    if at is None:
        return "", parts[-1]
    return parts[at].lower(), "/".join(parts[at + 1 :])


def errors(text: Text, seen: tuple[LogFrame, ...]) -> tuple[tuple[LogError, ...], tuple[LogError, ...]]:
    """Exceptions and warnings, in the order of the text."""
    found = list(_raised(text, seen))
    return (
        tuple(error for error in found if not error.kind.endswith("Warning"))[: limits.LOG_SYMPTOMS],
        tuple(error for error in found if error.kind.endswith("Warning"))[: limits.LOG_SYMPTOMS],
    )


def _raised(text: Text, seen: tuple[LogFrame, ...]) -> Iterator[LogError]:
    at = 0
    library = ""
    raising = [line for line in text.lines if any(mark in line for mark in _KINDS)]
    reported = {match["kind"] for line in raising for match in [_RAISED.search(line)] if match is not None}
    for number, line in enumerate(text.lines):
        while at < len(seen) and seen[at].line <= number:
            library, at = seen[at].library, at + 1
        if not any(mark in line for mark in _KINDS):
            continue
        header = _HEADER.match(line)
        if header is not None and header["kind"] not in reported:
            yield LogError(header["kind"], "", number)
            continue
        match = _RAISED.search(line)
        while match is not None and _is_code(line, match.start()):
            match = _RAISED.search(line, match.end("kind"))
        if match is not None:
            told = (match["told"] or "").strip()
            yield LogError(match["kind"], told, number, library)
            library = ""


def _is_code(line: str, at: int) -> bool:
    """`raise ValueError(`, `except KeyError:` and the like quote a class, they do not report one."""
    before = line[:at].split()
    return bool(before) and before[-1] in {"raise", "except", "isinstance("}
