"""`make pages`: run the broken and the fixed code of every cause's page with the real PEFT, and write down what happened.

The code is the page's own (headings *Setup*, *Broken*, *Fixed*), run behind `page_prelude.py` in a folder of its own. What it
does is said in it, by comments, and held against what happens:

    model = PeftModel.from_pretrained(base, "adapter")  # raises RuntimeError: size mismatch for ... lora_A
    model = PeftModel.from_pretrained(base, "adapter")  # warns: Found missing adapter keys
    as_trained(model)  # -> False

A comment may also stand on the lines below; `...` stands for anything. A statement that is not said to raise must not, and every
warning of PEFT must be said. A page may name older releases below *With*: its broken code is run with those, in a process of its own
(`page_then.py`); pip brings them to a folder of this environment when the page is first run. The outcomes are written to `src/adapterfit/causes/verified.jsonl`; `--check` writes nothing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime as dt
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault(
    "HF_MODULES_CACHE", str(Path(sys.prefix, "modules"))
)  # where transformers copies a base's own code

from transformers.utils import logging as transformers_logging

import adapterfit
from adapterfit.causes.heard import ALIKE
from adapterfit.cli import _verified
from adapterfit.cli._page import Page, pages

PRELUDE = Path(__file__).with_name("page_prelude.py")
THEN = Path(__file__).with_name("page_then.py")
#: Older releases, a folder for each set of them.
OLDER = Path(sys.prefix, "older")
#: What huggingface_hub before 1.0 needs, and today's environment has only by chance.
BESIDE_OLDER = (
    "requests==2.34.2", "urllib3==2.8.0", "idna==3.20", "charset-normalizer==3.5.3", "certifi==2026.10.19.post1",
)  # fmt: skip
#: What is kept of a page.
ROW = ("page", "code", "date", "broken", "fixed")
_SAID = re.compile(r"# (raises|warns|->):? ?(.*)")


class Unlike(AssertionError):
    """The code does something else than its page says."""


class Said(NamedTuple):
    """What a comment says about a statement: `kind` is raises, warns or ->."""

    kind: str
    words: str


class Outcome(NamedTuple):
    """What a page's code did: in words; what was raised or warned of, and as much of it as a user would paste."""

    words: str
    line: str = ""
    text: str = ""


# ------------------------------------------------------------------------------------------------ reading


def statements(code: str) -> Iterator[tuple[ast.stmt, list[Said]]]:
    """Each statement, with what the comments in it and below it say."""
    body = ast.parse(code).body
    ends = [node.lineno for node in body[1:]] + [10**9]
    comments = [
        (token.start[0], said)
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT and (said := _SAID.fullmatch(token.string))
    ]
    for node, end in zip(body, ends):
        yield node, [Said(said[1], said[2]) for line, said in comments if node.lineno <= line < end]


def like(words: str, text: str) -> bool:
    """Whether a text holds these words, `...` standing for anything."""
    parts = (re.escape(" ".join(part.split())) for part in words.split("..."))
    return re.search(".*".join(parts), " ".join(text.split())) is not None


# ------------------------------------------------------------------------------------------------ running


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[tuple[_Heard, list[warnings.WarningMessage]]]:
    """Warnings, and lines logged as warnings by the libraries."""
    heard = _Heard()
    loggers = [logging.getLogger(name) for name in ("transformers", "peft", "accelerate", "diffusers")]
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        for logger in loggers:
            logger.addHandler(heard)
        try:
            yield heard, caught
        finally:
            for logger in loggers:
                logger.removeHandler(heard)


def run(code: str, names: dict[str, Any], what: str, *, strict: bool = True) -> list[Outcome]:
    """Run a snippet and hold it against what it says. Gives what is worth telling of each statement.

    Where it is not `strict`, PEFT may warn of what is not said.

    Raises:
        Unlike: It does something else.
    """
    told = []
    for node, said in statements(code):
        line = ast.unparse(node).splitlines()[0]
        outcomes = _statement(node, said, names, f"{what}, {line[:100]}", strict=strict)
        told += outcomes
        if any(one.words.startswith("raises") for one in outcomes):
            break
    return told


def _statement(node: ast.stmt, said: list[Said], names: dict[str, Any], where: str, *, strict: bool) -> list[Outcome]:
    raising = [one.words for one in said if one.kind == "raises"]
    warned = [one.words for one in said if one.kind == "warns"]
    values = [one.words for one in said if one.kind == "->"]
    error, value, text = None, None, ""
    with listening() as (heard, caught):
        try:
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), where, "eval"), names)
            else:
                exec(compile(ast.Module([node], []), where, "exec"), names)
        except Exception as raised:
            error, text = raised, traceback.format_exc()
    lines = [*heard.lines, *(f"{item.category.__name__}: {item.message}" for item in caught)]
    told = [_raised(words, error, text, where) for words in raising]
    if error is not None and not raising:
        raise Unlike(f"{where}: raises, which is not said\n{text}") from error
    told += [_warned(words, lines, where) for words in warned]
    for item in caught:
        unsaid = f"{item.category.__name__}: {item.message}"
        if strict and "peft" in Path(item.filename).parts and not any(like(words, unsaid) for words in warned):
            raise Unlike(f"{where}: warns, which is not said: {unsaid}")
    for expected in values:
        if repr(value) != expected:
            raise Unlike(f"{where}: gives {value!r}, not {expected}")
        told.append(Outcome(f"`{ast.unparse(node)}` is {expected}"))
    return told


def _raised(words: str, error: Exception | None, text: str, where: str) -> Outcome:
    if error is None:
        raise Unlike(f"{where}: does not raise {words}")
    kind, _, rest = words.partition(": ")
    if type(error).__name__ not in kind.split(" or ") or not like(rest, str(error)):
        raise Unlike(f"{where}: raises {type(error).__name__}: {error}, not {words}")
    return Outcome(
        f"raises {type(error).__name__}: {_telling(rest, str(error))}", f"{type(error).__name__}: {error}", text
    )


def _telling(words: str, text: str) -> str:
    """The line of a message that the page's words are from, cut to what can be read."""
    first, text = words.partition("...")[0].strip(), re.sub(r"\x1b\[[\d;]*m", "", text)
    line = next((line.strip() for line in text.splitlines() if first and first in line), " ".join(text.split()))
    line = re.sub(r"(?<![\w.:/])/(?:[\w.-]+/)+[\w.-]+", "…", line)  # a path of this machine
    return line if len(line) <= 160 else line[:157].rstrip() + "..."


def _warned(words: str, lines: list[str], where: str) -> Outcome:
    line = next((line for line in lines if like(words, line)), None)
    if line is None:
        raise Unlike(f"{where}: does not warn of {words}; heard {lines}")
    return Outcome(f"warns: {_telling(words, line)}", line, line)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """With this working folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Bench:
    """The folder that every page starts from, made once, and a fresh copy of it for each snippet."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.code = compile(PRELUDE.read_text("utf-8"), str(PRELUDE), "exec")
        transformers_logging.disable_progress_bar()
        transformers_logging.disable_default_handler()
        (room / "made").mkdir()
        with inside(room / "made"), listening():
            exec(self.code, {"__name__": "prelude"})

    @contextlib.contextmanager
    def fresh(self) -> Iterator[dict[str, Any]]:
        """The names of the prelude, in a folder as it leaves it."""
        place = self.room / "at"
        shutil.copytree(self.room / "made", place)
        names: dict[str, Any] = {"__name__": "page"}
        try:
            with inside(place):
                with listening():
                    exec(self.code, names)
                yield names
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def page(self, page: Page) -> tuple[list[Outcome], list[Outcome]]:
        """What a page's broken and fixed code do, each behind its setup."""
        both = []
        for kind, code in (("broken", page.code.broken), ("fixed", page.code.fixed)):
            with self.fresh() as names:
                run(page.code.setup, names, f"{page.id}, setup", strict=False)
                what = f"{page.id}, {kind}"
                older = page.code.older if kind == "broken" else ""
                told = run_then(code, releases(older), what) if older else run(code, names, what)
                if not told:
                    raise Unlike(f"{page.id}, {kind}: the code does not say what it does")
                both.append(told)
        if any(one.words.startswith("raises") for one in both[1]):
            raise Unlike(f"{page.id}: the fixed code raises")
        return both[0], both[1]


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="pages-") as room:
        yield Bench(Path(room))


# ------------------------------------------------------------------------------------------------ older releases


def releases(wanted: str) -> Path:
    """The folder with these releases, which pip makes if it is not there; torch and the like stay those of this environment.

    Raises:
        OSError: pip cannot bring them.
    """
    folder = OLDER / "-".join(wanted.split())
    if not folder.is_dir():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            f"{folder}.new",
            *wanted.split(),
            *BESIDE_OLDER,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(f"{folder}.new", ignore_errors=True)
            raise OSError(f"pip cannot install {' '.join(wanted.split())}: {done.stderr.strip()[-200:]}")
        Path(f"{folder}.new").rename(folder)
    return folder


def run_then(code: str, folder: Path, what: str) -> list[Outcome]:
    """As `run`, with the releases of that folder, in the working folder.

    Raises:
        Unlike: It does something else.
    """
    source = Path(adapterfit.__file__).parents[1]
    paths = os.pathsep.join(map(str, (folder, source, THEN.parent)))
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    asked = json.dumps({"code": code, "what": what})
    done = subprocess.run(
        [sys.executable, str(THEN)], input=asked, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unlike(f"{what}: the older releases cannot be used\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    if isinstance(told, dict):
        raise Unlike(told["unlike"])
    return [Outcome(*one) for one in told]


# ------------------------------------------------------------------------------------------------ telling


#: What differs between two users' lines: quoted names, lists, dotted paths, classes, numbers.
_OWN = re.compile(
    r"(?<!\w)'[^']*'|\"[^\"]*\"|`[^`]*`|\{[^}]*\}|\[[^\]]*\]|[\w-]*[./][\w./-]*\w"
    r"|\b[A-Z]\w*[A-Z]\w*\((?:[^()]|\([^()]*\))*\)|\b[A-Z]\w*[A-Z]\w*"
)


def plain(text: str) -> str:
    """The words of a line that are the same for everybody."""
    return " ".join(re.findall(r"[A-Za-z_]{2,}", _OWN.sub(" ", text.replace("my-adapter", "adapter"))))


def is_messaged(page: Page, text: str) -> bool:
    """Whether one of the page's `messages` is what was raised or warned of, names and numbers aside."""
    said = plain(text)
    for message in page.cause.messages:
        kind, _, rest = message.partition(": ")
        line = rest if re.fullmatch(r"[\w.]+", kind) else message
        parts = [plain(part) for part in re.split(r"\.\.\.|…", _OWN.sub(" ", line))]
        if any(parts) and re.search(".*".join(re.escape(part) for part in parts), said):
            return True
        if not any(parts) and re.search(rf"^{re.escape(kind)}: \S+$", text.strip().rpartition("\n")[2]):
            return True
    return False


def rank(page: Page, text: str) -> int:
    """Where the cause stands in the answer of `adapterfit why` to this text, those as likely counted as one; 0 where it does not."""
    causes = adapterfit.why(text).causes
    sure = next((cause.likelihood for cause in causes if cause.id == page.id), None)
    return 0 if sure is None else 1 + sum(cause.likelihood > sure + ALIKE for cause in causes)


class Tally:
    """What became of the pages, for the lines below them."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self.failed: list[str] = []
        self.ranks: dict[str, int] = {}
        self.unlike: list[str] = []

    def run(self, page: Page, at: Bench) -> None:
        """Run a page, say what it did and keep it."""
        start = time.perf_counter()
        try:
            broken, fixed = at.page(page)
        except Unlike as error:
            self.failed.append(page.id)
            print(f"FAILED {error}\n")
            return
        told = ["; ".join(one.words for one in outcomes) for outcomes in (broken, fixed)]
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        self.seen[page.id] = dict(zip(ROW, (page.id, _verified.digest(page.code), today, *told)))
        if page.code.needs:
            self.seen[page.id]["with"] = f"{page.code.needs} {importlib.metadata.version(page.code.needs)}"
        if page.code.older:
            names = ", ".join(page.code.older.split()).replace("==", " ")
            self.seen[page.id]["with"] = f"the broken code with {names}"
        print(f"{page.id}: {told[0]} | {time.perf_counter() - start:.1f} s{self._answered(page, broken)}")

    def _answered(self, page: Page, broken: list[Outcome]) -> str:
        line, text = next(((one.line, one.text) for one in broken if one.text), ("", ""))
        if not text:
            return ""
        self.ranks[page.id] = rank(page, text)
        if not is_messaged(page, line):
            self.unlike.append(page.id)
        return f" | why: {self.ranks[page.id] or 'no'}"

    def tell(self, found: dict[str, Page]) -> None:
        """The lines below."""
        good, first, named = len(self.seen), list(self.ranks.values()).count(1), sum(map(bool, self.ranks.values()))
        not_run = [page.id for page in found.values() if page.code.not_run]
        bare = [page.id for page in found.values() if not page.code.runs and not page.code.not_run]
        print(
            f"{good} of {good + len(self.failed)} pages do what they say; {len(not_run)} more are not run, with a reason"
        )
        print(
            f"{first} of {len(self.ranks)} texts are answered by `adapterfit why` with the page's cause first, {named} at all"
        )
        for words, ids in (("failed", self.failed), ("show no such line", self.unlike), ("have no code", bare)):
            if ids:
                print(f"{len(ids)} pages {words}: {', '.join(ids)}")


def _is_here(page: Page) -> bool:
    """Whether what the page needs beside the usual libraries is here, or pip brings it."""
    if page.code.needs and importlib.util.find_spec(page.code.needs) is None:
        return False
    try:
        return not page.code.older or releases(page.code.older).is_dir()
    except OSError as error:
        print(error)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", help="only these pages; all, where the prelude or a version has changed")
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    found, before, tally = pages(), _verified.read(), Tally()
    same = before.prelude == _verified.prelude_digest(PRELUDE) and before.versions == _versions()
    away = {page.id for page in found.values() if page.code.runs and not _is_here(page)}
    with bench() as at:
        for page in found.values():
            if (
                page.code.runs
                and page.id not in away
                and (not asked.ids or page.id in asked.ids or not (same or asked.check))
            ):
                tally.run(page, at)
    if not asked.check:
        kept = {key: row for key, row in before.pages.items() if key in found and found[key].code.runs}
        kept = {key: row for key, row in kept.items() if same or key in away}
        _write({key: row for key, row in {**kept, **tally.seen}.items() if key not in tally.failed})
    tally.tell(found)
    if away:
        print(f"{len(away)} pages were left as they are, for want of a library: {', '.join(sorted(away))}")
    return 1 if tally.failed else 0


def _write(seen: dict[str, dict[str, str]]) -> None:
    head = {"versions": _versions(), "prelude": _verified.prelude_digest(PRELUDE)}
    rows = [head, *(seen[page] for page in sorted(seen))]
    _verified.FILE.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")


def _versions() -> dict[str, str]:
    import peft
    import safetensors
    import torch
    import transformers

    modules = {"peft": peft, "transformers": transformers, "torch": torch, "safetensors": safetensors}
    return {name: module.__version__.partition("+")[0] for name, module in modules.items()}


if __name__ == "__main__":
    sys.exit(main())
