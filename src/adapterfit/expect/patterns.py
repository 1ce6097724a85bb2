"""Regular expressions out of a config, under a time limit.

PEFT hands `target_modules`, `exclude_modules`, `modules_to_save[]`, `layers_pattern`, `rank_pattern` and
`alpha_pattern` to `re` as they are. So do we, but with a bound: patterns that cannot backtrack badly are run
directly; the rest run under an interval timer where there is one (the main thread of a POSIX system), and
elsewhere are refused as too slow to decide.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.records import Flaw
from adapterfit.text import quote

#: Characters without a meaning of their own in a regular expression (the dot has one, a harmless one).
_PLAIN = re.compile(r"[A-Za-z0-9_\-/ .]*\Z")
#: One unbounded repeat of one character, class or dot. A few of these in a row cost at most a polynomial.
_REPEATS = re.compile(r"(?<!\\)[*+]|\{\d+,\d*\}")
#: A group that is itself repeated: the one construction that can cost exponential time.
_REPEATED_GROUP = re.compile(r"\)\s*(?:[*+]|\{)")
_CHEAP_REPEATS = 4


class Patterns:
    """Matches the patterns of one config; all of them together may use `limits.REGEX_SECONDS`."""

    def __init__(self, seconds: float = limits.REGEX_SECONDS) -> None:
        self._left = seconds
        self._compiled: dict[str, re.Pattern[str]] = {}

    def full(self, pattern: str, name: str) -> bool:
        """`re.fullmatch(pattern, name)`."""
        return self._run(pattern, name, whole=True) is not None

    def start(self, pattern: str, name: str) -> re.Match[str] | None:
        """`re.match(pattern, name)`."""
        return self._run(pattern, name, whole=False)

    def _run(self, pattern: str, name: str, *, whole: bool) -> re.Match[str] | None:
        compiled = self._compiled.get(pattern) or self._compile(pattern)
        begun = time.perf_counter()
        try:
            if is_cheap(pattern):
                return compiled.fullmatch(name) if whole else compiled.match(name)
            with _alarm(self._left, pattern):
                return compiled.fullmatch(name) if whole else compiled.match(name)
        finally:
            self._left -= time.perf_counter() - begun
            if self._left <= 0:
                raise too_slow(pattern)

    def _compile(self, pattern: str) -> re.Pattern[str]:
        if len(pattern) > limits.PATTERN_CHARS:
            raise BadInput(
                Flaw(
                    "over-limit",
                    f"a pattern of {len(pattern)} characters is longer than the {limits.PATTERN_CHARS} that are looked at",
                    where="adapter_config.json",
                    predicted="none",
                )
            )
        try:
            compiled = self._compiled[pattern] = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise BadInput(
                Flaw(
                    "regex-invalid",
                    f"{quote(pattern, 80)} is not a regular expression: {error}",
                    where="adapter_config.json",
                    raised=f"error: {error}" if isinstance(error, re.error) else f"{type(error).__name__}: {error}",
                )
            ) from None
        return compiled


def is_cheap(pattern: str) -> bool:
    """Whether matching names with this pattern can only cost polynomial time of a low degree."""
    if _PLAIN.match(pattern):
        return True
    return not _REPEATED_GROUP.search(pattern) and len(_REPEATS.findall(pattern)) <= _CHEAP_REPEATS


def too_slow(pattern: str) -> BadInput:
    """The flaw that PEFT, too, would hang on this pattern."""
    return BadInput(
        Flaw(
            "regex-too-slow",
            f"matching {quote(pattern, 80)} against the base's module names takes too long to decide; "
            "PEFT runs the same pattern without a limit and would hang",
            where="adapter_config.json",
            predicted="none",
        )
    )


@contextmanager
def _alarm(seconds: float, pattern: str) -> Iterator[None]:
    """Run the body for at most `seconds`; without a timer, refuse to run it at all."""
    import signal
    import threading

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        raise too_slow(pattern)

    def ring(_signum: int, _frame: object) -> None:
        raise too_slow(pattern)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
