"""From what models told about their sizes on single samples to one formula that holds on all."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from adapterfit.expect.formulas import names_in
from architectures.learn import LOGGED, Env, NotFoundError, find_condition, holds

_INDEX = re.compile(r"([\w.]+)\[(\d+)\]")
_NUMBER = re.compile(r"(?<![\w.\[])(\d+)(?![\w.\]])")
_MOST_CASES = 4
_MOST_CANDIDATES = 60
_SHORT, _LONG, _MOST_LENGTHS = 6, 16, 12
_NAMES = 6
_TIMES = (2, 3, 4)


def from_told(envs: list[Env], values: list[int], told: Sequence[str]) -> str:
    """The formula; empty where none of those told holds everywhere and no condition tells them apart."""
    rows = [text or str(value) for text, value in zip(told, values)]
    if len(set(rows)) == 1:
        return rows[0] if holds(rows[0], envs, values) else ""
    counts: Counter[str] = Counter()
    own: list[set[str]] = []
    for env, row in zip(envs, rows):
        own.append(set(_readings(row, env)))
        counts.update(own[-1])
    candidates = sorted(counts, key=lambda text: (-counts[text], len(text), text))[:_MOST_CANDIDATES]
    for text in candidates:
        if holds(text, envs, values):
            return text
    return _cases(envs, values, own, counts) or _halved(envs, values, counts)


def _halved(envs: list[Env], values: list[int], told: Counter[str]) -> str:
    """A field that is halved, each time rounded up, as often as another says: one quotient by that power."""
    names = sorted(set().union(*map(names_in, told)) - {"i", "j"}) if told else []
    logged = [key for key in envs[0] if LOGGED.search(key)]
    pairs = ((one, other) for one in names[:_NAMES] for other in logged if one != other)
    return next((text for one, other in pairs if holds(text := f"ceil({one}/2**log2({other}))", envs, values)), "")


def _cases(envs: list[Env], values: list[int], own: list[set[str]], counts: Counter[str]) -> str:
    """`condition ? one : the rest`, where few candidates share the samples between them."""
    left = list(range(len(envs)))
    parts: list[str] = []
    while left and len(parts) < _MOST_CASES:
        best = max(counts, key=lambda text: (sum(text in own[at] for at in left), -len(text), text))
        members = [at for at in left if best in own[at]]
        if not members or not holds(best, [envs[at] for at in members], [values[at] for at in members]):
            return ""
        rest = [at for at in left if best not in own[at]]
        if not rest:
            return "".join(parts) + (f"({best})" if parts and "?" in best else best)
        try:
            when = find_condition([envs[at] for at in left], [best in own[at] for at in left])
        except NotFoundError:
            return ""
        parts.append(f"{f'({when})' if '?' in when else when} ? {best} : ")
        left = rest
    return ""


def _readings(text: str, env: Env) -> Iterator[str]:
    """The text as it stands, and with the loop variable where a number may have come from it."""
    yield _INDEX.sub(lambda m: _last(m, env, 1), text)
    yield text
    yield _INDEX.sub(lambda m: _last(m, env, 2), text)
    for key, value in env.items():
        if LOGGED.search(key) and type(value) is int and value > 0:
            steps, word = value.bit_length() - 1, f"log2({key})"
            yield _NUMBER.sub(lambda m, n=steps, w=word: w if int(m[1]) == n else m[1], text)  # type: ignore[misc]
    for length, word in _lengths(env, _LONG):
        for number, said in ((length, word), (length - 1, f"({word}-1)")):
            if number > 1:
                yield _NUMBER.sub(lambda m, n=number, w=said: w if int(m[1]) == n else m[1], text)  # type: ignore[misc]
    for loop in [name for name in ("j", "i") if name in env]:
        at = env[loop]
        for step, word in ((0, loop), (1, f"{loop}+1"), (-1, f"{loop}-1")):
            indexed = _indexed(text, at + step, word)
            yield indexed
            if at + step >= 0:
                yield _NUMBER.sub(
                    lambda m, n=2 ** (at + step), w=word: f"2**({w})" if int(m[1]) == n else m[1], indexed
                )
        for times in _TIMES if at else ():
            yield _NUMBER.sub(
                lambda m, n=times * at, w=f"{times}*{loop}": w if int(m[1]) == n else m[1],
                _indexed(text, env["i"], "i"),
            )
        yield _from_the_end(text, env, loop)
        for length, word in _lengths(env):
            yield _rounds(text, at, length, word, loop)


def _last(match: re.Match[str], env: Env, back: int) -> str:
    whole = env.get(match[1])
    if isinstance(whole, (list, tuple)) and len(whole) - int(match[2]) == back:
        return f"{match[1]}[len({match[1]})-{back}]"
    return match[0]


def _indexed(text: str, at: int, word: str) -> str:
    return _INDEX.sub(lambda m: f"{m[1]}[{word}]" if int(m[2]) == at else m[0], text)


def _lengths(env: Env, most: int = _SHORT) -> list[tuple[int, str]]:
    """Lengths of short lists that a loop may go through again and again."""
    lists = [(key, len(value)) for key, value in env.items() if isinstance(value, (list, tuple)) and value]
    found = [(length, f"len({key})") for key, length in lists if 1 < length <= most]
    apart = itertools.combinations([(key, length) for key, length in lists if length <= _SHORT], 2)
    found += [(min(a, b), f"min(len({one}), len({other}))") for (one, a), (other, b) in apart if a != b]
    return found[:_MOST_LENGTHS]


def _rounds(text: str, at: int, length: int, word: str, loop: str) -> str:
    """The text of a loop in rounds of this length: items by their place in the round, powers of two by its number."""
    indexed = _INDEX.sub(lambda m: f"{m[1]}[{loop}%{word}]" if int(m[2]) == at % length else m[0], text)
    turn = at // length + 1
    return _NUMBER.sub(lambda m: f"2**({loop}//{word}+1)" if int(m[1]) == 2**turn else m[1], indexed)


def _from_the_end(text: str, env: Env, loop: str) -> str:
    def one(match: re.Match[str]) -> str:
        whole = env.get(match[1])
        if isinstance(whole, (list, tuple)) and int(match[2]) == len(whole) - 1 - env[loop]:
            return f"{match[1]}[len({match[1]})-1-{loop}]"
        return match[0]

    return _INDEX.sub(one, text)
