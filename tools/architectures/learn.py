"""Find formulas: sizes as sums of products of fields, conditions as small boolean formulas, both verified on every sample."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers.activations import ACT2CLS

from adapterfit.expect.formulas import FormulaError, compile_formula, names_in
from architectures import layered, trace
from architectures.choices import choice
from architectures.monomials import Monomials

Env = dict[str, Any]
Row = Any
_BARE = re.compile(r"(?<![\w.\[])\d+(?![\w.])")
#: More different items than this in a list, or letters in a text, are no words for kinds of layers.
_FEW_WORDS = 6
#: Answers of `find_condition`, and the tables of literals that it searched last, each with the samples it is about.
_answers: dict[tuple[int, ...], tuple[list[Env], str]] = {}
_tables: dict[tuple[int, ...], tuple[list[Env], _Literals]] = {}
_KEPT = 30
#: More samples than this are searched in part only; how often that is tried.
_MANY, _ROUNDS = 250, 4
#: Conditions that are joined by one sign.
_MOST = 4
#: Fields whose logarithm counts layers that halve what goes through them.
LOGGED = re.compile(r"(subsampling|downsample|upsample)_factor$|^time_reduction$")
#: Fields that count what is laid out as a square.
_SQUARED = re.compile(r"num_experts$")
#: Pairs of lists that are compared by length.
_PAIRED = 15
#: Comparisons of the models themselves that are tried.
_COMPARED = 150
#: How many pairs of fields are tried for sizes that are one or the other, and how many samples each must explain alone.
_PAIRS, _SIDE = 3, 3


class Effort:
    """How many more hopeless searches one model type may cost: counted, not timed, so that a second run writes the same."""

    splits, conditions = 40, 12

    @classmethod
    def renew(cls) -> None:
        """For the next model type."""
        cls.splits, cls.conditions = 40, 12


class NotFoundError(Exception):
    """No formula of the language fits all samples."""


def holds(text: str, envs: list[Env], values: list[Any]) -> bool:
    """Whether the formula gives exactly these values."""
    formula = compile_formula(text)
    try:
        return all(formula(env) == value for env, value in zip(envs, values))
    except (FormulaError, KeyError, TypeError):
        return False


def decides(text: str, envs: list[Env], truth: list[bool]) -> bool:
    """Whether the condition is true exactly where `truth` is."""
    formula = compile_formula(text)
    try:
        return all(bool(formula(env)) == wanted for env, wanted in zip(envs, truth))
    except (FormulaError, KeyError, TypeError):
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------------ numbers


def _is_token(key: str) -> bool:
    """Ids of tokens never are sizes, but their small numbers agree with anything."""
    return key.endswith(("token_id", "token_index"))


def _int_fields(envs: list[Env]) -> list[str]:
    """Fields that are numbers everywhere and not the same everywhere; loop variables too."""
    keys = [key for key in envs[0] if not _is_token(key) and all(_is_int(env.get(key)) for env in envs)]
    return [key for key in keys if len({env[key] for env in envs}) > 1]


def _list_terms(envs: list[Env]) -> list[str]:
    terms = []
    for key in envs[0]:
        values = [env.get(key) for env in envs]
        if any(isinstance(v, (list, tuple)) for v in values) and all(isinstance(v, (list, tuple, int)) for v in values):
            terms.append(f"len({key})")
        if _spelled(values) and all(values):
            terms.append(f"len({key})")
        if all(isinstance(v, (list, tuple)) and v and all(map(_is_int, v)) for v in values):
            terms += [f"{key}[{loop}]" for loop in ("i", "j") if loop in envs[0]]
            terms.append(f"{key}[len({key})-1]")
            terms += [f"{key}[{at}]" for at in range(min(len(v) for v in values))][:8]
        if LOGGED.search(key) and all(_is_int(v) and v > 0 for v in values):
            terms.append(f"log2({key})")
        if _SQUARED.search(key) and all(_is_int(v) and v > 0 for v in values):
            terms.append(f"isqrt({key})")
    return terms + _shorter(envs)


def _shorter(envs: list[Env]) -> list[str]:
    """The length of the shorter of two lists, where they are not always of one length: what `zip` goes through."""
    lengths: dict[tuple[int, ...], str] = {}
    for key in envs[0]:
        values = [env.get(key) for env in envs]
        if all(isinstance(v, (list, tuple)) for v in values):
            lengths.setdefault(tuple(map(len, values)), key)  # type: ignore[arg-type]
    pairs = itertools.combinations([key for own, key in lengths.items() if len(set(own)) > 1], 2)
    return [f"min(len({one}), len({other}))" for one, other in itertools.islice(pairs, _PAIRED)]


def _vector(text: str, envs: list[Env]) -> tuple[int, ...] | None:
    try:
        values = tuple(compile_formula(text)(env) for env in envs)
    except (FormulaError, KeyError):
        return None
    return values if all(_is_int(v) for v in values) else None


def _atoms(envs: list[Env]) -> dict[str, tuple[int, ...]]:
    """What products are made of, with its values."""
    return {text: vec for text in _int_fields(envs) + _list_terms(envs) if (vec := _vector(text, envs)) is not None}


def _probe(envs: list[Env], count: int = 12) -> list[int]:
    step = max(1, len(envs) // count)
    return list(range(0, len(envs), step))[: count + 2]


class Numbers:
    """Searches sizes; remembers monomials per set of samples, since a model asks for the same sizes again and again."""

    def __init__(self) -> None:
        self.monomials: dict[tuple[int, ...], Monomials] = {}
        self.known: dict[tuple[Any, ...], str] = {}

    def find(self, envs: list[Env], values: list[int], depth: int = 2) -> str:
        """The shortest formula for `values`; NotFoundError where there is none."""
        if len(set(values)) == 1:
            return str(values[0])
        key = (tuple(id(env) for env in envs), tuple(values), depth)
        if key not in self.known:
            self.known[key] = self._search(envs, values, depth)
        if not self.known[key]:
            raise NotFoundError(f"sizes such as {values[:4]}")
        return self.known[key]

    def _search(self, envs: list[Env], values: list[int], depth: int) -> str:
        text = self._flat(envs, values) or _one_of_two(envs, values)
        for level, numbers in ((1, 0), (2, 0), (1, 1)) if depth > 1 else ():
            text = text or choice(envs, values, literals(envs, numbers), level)
            text = text if text and holds(text, envs, values) else ""
        return text or (self._split(envs, values, 1, 0) if depth else "")

    def _flat(self, envs: list[Env], values: list[int]) -> str:
        at = _probe(envs)
        few = [envs[i] for i in at]
        target = tuple(values[i] for i in at)
        key = tuple(id(env) for env in few)
        if key not in self.monomials:
            self.monomials[key] = Monomials(_atoms(few))
        for text in self.monomials[key].candidates(target):
            if holds(text, envs, values):
                return text
        return ""

    def _split(self, envs: list[Env], values: list[int], depth: int, numbers: int) -> str:
        best = ""
        for literal, mask in literals(envs, numbers).items():
            if literal.startswith("!") or mask in (0, (1 << len(envs)) - 1):
                continue
            yes = [i for i in range(len(envs)) if mask >> i & 1]
            no = [i for i in range(len(envs)) if not mask >> i & 1]
            if min(len(yes), len(no)) < 3:
                continue
            if Effort.splits <= 0:
                break
            Effort.splits -= 1
            try:
                a = self.find([envs[i] for i in yes], [values[i] for i in yes], depth - 1)
                b = self.find([envs[i] for i in no], [values[i] for i in no], depth - 1)
            except NotFoundError:
                continue
            text = a if a == b else f"{literal} ? {_wrapped(a)} : {_wrapped(b)}"
            if not best or len(text) < len(best):
                best = text
        return best


def _one_of_two(envs: list[Env], values: list[int]) -> str:
    """`condition ? one : other` where every value is that of one of two fields, or of a field and a number; else empty."""
    full = (1 << len(values)) - 1
    masks = {
        key: sum(1 << at for at, env in enumerate(envs) if _is_int(env.get(key)) and env[key] == values[at])
        for key in envs[0]
        if key not in {"i", "j"} and not _is_token(key)
    }
    common = max(set(values), key=values.count)
    masks[str(common)] = sum(1 << at for at, value in enumerate(values) if value == common)
    pairs = [
        (one, other)
        for one, other in itertools.combinations(sorted(masks, key=lambda text: (-masks[text].bit_count(), text)), 2)
        if masks[one] | masks[other] == full
    ]
    for one, other in pairs[:_PAIRS]:
        apart = [at for at in range(len(values)) if (masks[one] ^ masks[other]) >> at & 1]
        truth = [bool(masks[other] >> at & 1) for at in apart]
        if min(sum(truth), len(truth) - sum(truth)) < _SIDE:
            continue
        try:
            when = find_condition([envs[at] for at in apart], truth)
        except NotFoundError:
            continue
        text = f"{_wrapped(when)} ? {other} : {one}"
        if holds(text, envs, values):
            return text
    return ""


def _wrapped(text: str) -> str:
    return f"({text})" if "?" in text else text


# ------------------------------------------------------------------------------------------------ conditions


def _plain_literals(envs: list[Env], numbers: int) -> list[str]:
    """Flags first, then nulls, then words, then numbers: of several that agree the first is taken."""
    flags, nulls, words, counts = [], [], [], []
    for key in envs[0]:
        if key in {"i", "j"} or _is_token(key):
            continue
        values = [env.get(key) for env in envs]
        if any(v is None for v in values) and any(v is not None for v in values):
            nulls.append(f"{key} == null")
        if all(isinstance(v, bool) or v is None for v in values) and any(values):
            flags.append(key)
        items = {x for v in values if isinstance(v, (list, tuple)) for x in v if isinstance(x, str)}
        words += [f"'{x}' in {key}" for x in sorted(items)[:6] if len(items) <= 6]
        if key.endswith("out_stages"):
            words += [f"{at} in {key}" for at in sorted({at for v in values for at in v or ()})]
        said = {v for v in values if isinstance(v, str)}
        words += [f"{key} == '{v}'" for v in sorted(said) if numbers or not said <= set(ACT2CLS)]
        if all(map(_is_int, values)) and any(v <= 0 for v in values):
            flags.append(f"{key} > 0")
        if numbers:
            counts += _small(key, values)
    if numbers > 1:
        ints = [key for key in _int_fields(envs) if key not in {"i", "j"}]
        counts += [f"{a} == {b}" for a, b in itertools.combinations(ints, 2)]
    return flags + nulls + words + counts


def _small(key: str, values: list[Any]) -> list[str]:
    """Comparisons with small numbers, and whether a fraction is none."""
    if any(isinstance(v, float) for v in values):
        return [key] if any(values) and not all(values) else []
    if any(isinstance(v, (list, tuple)) for v in values):
        return []
    return [f"{key} == {v}" for v in sorted({v for v in values if _is_int(v) and 0 <= v <= 4})]


def _spelled(values: list[Any]) -> bool:
    """Whether these are texts with one letter for each layer, of few kinds."""
    texts = [v for v in values if v is not None]
    if not texts or not all(isinstance(v, str) for v in texts):
        return False
    return len(set(texts)) > _FEW_WORDS and len(set("".join(texts))) <= _FEW_WORDS


def _loop_literals(envs: list[Env]) -> list[str]:
    texts: list[str] = []
    for loop in [name for name in ("i", "j") if name in envs[0]]:
        texts += [f"{loop} == 0", f"{loop} % 2 == 0", *(f"({loop}+1) % {every} == 0" for every in range(2, 9))]
        for key in envs[0]:
            values = [env.get(key) for env in envs]
            if key in {"i", "j"} or _is_token(key):
                continue
            if all(_is_int(v) and v >= 0 for v in values):
                texts += [f"{loop} < {key}", f"{loop} == {key}-1"]
                guard = "" if all(v > 0 for v in values) else f"{key} > 0 & "
                if any(v > 0 for v in values):
                    texts += [
                        f"{guard}{every} % {key} == {at}" for every, at in ((loop, 0), (f"({loop}+1)", 0), (loop, 1))
                    ]
            if all(isinstance(v, (list, tuple)) or v is None for v in values):
                items = {x for v in values for x in v or () if isinstance(x, str)}
                texts += [f"{key}[{loop}] == '{x}'" for x in sorted(items)]
                numbers = sorted({x for v in values for x in v or () if _is_int(x)})
                if numbers:
                    texts += [f"{loop} in {key}", f"{key}[{loop}] == 1"]
                    texts += [f"{key}[{loop}] == {n}" for n in numbers if len(numbers) <= _FEW_WORDS and n > 1]
                    texts += [f"{key}[{loop}] == 0"] if 0 in numbers and len(numbers) > 2 else []
            if _spelled(values):
                letters = sorted({letter for v in values for letter in v or ""})
                texts += [f"{key}[{loop}] == '{letter}'" for letter in letters]
        texts += [f"{loop} < {count}" for count in (2, 3, 4)] + [f"{loop} == {at}" for at in (1, 2)]
        texts += [f"{loop} % {every} == {at}" for every in range(3, 9) for at in range(every - 1)]
    return texts


def _compared(envs: list[Env]) -> list[str]:
    """Comparisons that the models made themselves; in loops also with the loop variable in place of a number."""
    texts = [text for text in trace.compared if names_in(text) <= envs[0].keys() and layered.SUFFIX not in text]
    for loop in [name for name in ("i", "j") if name in envs[0]]:
        numbered = [text for text in texts if _BARE.search(text)]
        texts += [_BARE.sub(turn, text, count=1) for turn in (loop, f"({loop}+1)") for text in numbered]
    texts = list(dict.fromkeys(texts))
    if len(texts) > _COMPARED:  # those with a loop variable are few and say most
        texts = sorted(texts, key=lambda text: ("i" not in names_in(text) and "j" not in names_in(text), len(text)))
    return texts[:_COMPARED]


def literals(envs: list[Env], numbers: int = 0) -> dict[str, int]:
    """Simple conditions and their negations → bit mask over the samples; of several with one mask the first.

    `numbers`: 1 with comparisons of fields with small numbers, 2 with those of fields with each other, too.
    """
    found: dict[int, str] = {}
    full = (1 << len(envs)) - 1
    plain = [*_plain_literals(envs, numbers), *_loop_literals(envs), *_compared(envs)]
    absent = {key for key in envs[0] if any(env.get(key) is None for env in envs)}
    for text in [*plain, *_guarded(plain, absent)]:
        mask = _mask(text, envs)
        if mask is None:
            continue
        found.setdefault(mask, text)
        found.setdefault(full & ~mask, f"!({text})" if " " in text else f"!{text}")
    return {text: mask for mask, text in found.items()}


def _mask(text: str, envs: list[Env]) -> int | None:
    """The samples that the condition holds on, as bits; None where it cannot be asked of all."""
    formula = compile_formula(text)
    mask = 0
    try:
        for at, env in enumerate(envs):
            if formula(env):
                mask |= 1 << at
    except (FormulaError, KeyError, TypeError):
        return None
    return mask


def _guarded(texts: list[str], absent: set[str]) -> list[str]:
    """Comparisons with a number that some samples lack, for those that have it: models ask for it only there."""
    found = []
    for text in texts:
        lacking = names_in(text) & absent
        if len(lacking) == 1 and "null" not in text and " " in text and "'" not in text:
            found.append(f"!({next(iter(lacking))} == null) & {text}")
    return found


def find_condition(envs: list[Env], truth: list[bool]) -> str:
    """The smallest condition that equals `truth` on all samples; `true` where it always holds."""
    if all(truth):
        return "true"
    key = (*map(id, envs), *map(bool, truth))
    if key not in _answers:
        # the samples are kept with the answer, so that no other one can come to have their ids
        _answers[key] = (envs, _found(envs, truth))
    if not _answers[key][1]:
        raise NotFoundError("a condition")
    return _answers[key][1]


def _found(envs: list[Env], truth: list[bool]) -> str:
    """Searched on a part of many samples, and again with those that the condition is wrong on."""
    step = max(1, len(envs) // _MANY)
    at = list(range(0, len(envs), step))
    for _ in range(_ROUNDS):
        text = _searched([envs[n] for n in at], [truth[n] for n in at])
        wrong = [n for n, env in enumerate(envs) if step > 1 and text and not decides(text, [env], [truth[n]])]
        if not wrong:
            return text
        at = sorted({*at, *wrong[:: max(1, len(wrong) // _MANY)]})
    return ""


def _searched(envs: list[Env], truth: list[bool]) -> str:
    wanted, care = np.array(truth, dtype=np.float32), np.ones(len(truth), dtype=np.float32)
    for numbers in (0, 1, 2):
        table = _table(envs, numbers)
        for depth in (0, 1, 2) if Effort.conditions > 0 else (0, 1):
            text = table.decided(wanted, care, depth)
            if text:
                return text
    Effort.conditions -= 1
    return ""


class _Literals:
    """Conditions with the samples that they hold on, as rows of a matrix: pairs of them are tried all at once."""

    def __init__(self, table: dict[str, int], count: int) -> None:
        self.texts = list(table)
        self.rows = np.array([_bits(mask, count) for mask in table.values()], dtype=np.float32).reshape(-1, count)
        self.plain = np.array([at for at, text in enumerate(self.texts) if not text.startswith("!")], dtype=int)

    def decided(self, wanted: Row, care: Row, depth: int) -> str:
        """A condition that is right on the samples in `care`: a literal, two of them, or a decision over one."""
        if not wanted.any() or (wanted == care).all():
            return "true" if wanted.any() else "false"
        seen = self.rows * care
        wrong = np.abs(seen - wanted)
        right = np.flatnonzero(~wrong.any(axis=1))
        if len(right):
            return self.texts[right[0]]
        if not depth:
            return ""
        found = self._pair(seen, wanted, wrong) or self._decision(seen, wanted, care, wrong, depth)
        return found or (self._several(seen, wanted, care) if depth == 1 else "")

    def _pair(self, seen: Row, wanted: Row, wrong: Row) -> str:
        """Two conditions that both hold wherever it is wanted and elsewhere never together; or the other way round."""
        above = np.flatnonzero(seen @ wanted == wanted.sum())
        below = np.flatnonzero((seen @ (1 - wanted) == 0) & seen.any(axis=1))
        found = []
        for members, sign in ((above, "&"), (below, "|")):
            apart = wrong[members] @ wrong[members].T == 0
            pairs = zip(*np.nonzero(np.triu(apart, 1)))
            found += [f"{self.texts[members[a]]} {sign} {self.texts[members[b]]}" for a, b in pairs]
        return min(found, key=_words) if found else ""

    def _several(self, seen: Row, wanted: Row, care: Row) -> str:
        """Up to `_MOST` conditions that together hold just where it is wanted, or one of which does: the widest first."""
        above = np.flatnonzero(seen @ wanted == wanted.sum())
        below = np.flatnonzero((seen @ (1 - wanted) == 0) & seen.any(axis=1))
        for members, shut, sign in ((above, care - wanted, "&"), (below, wanted, "|")):
            rows = care - seen[members] if sign == "&" else seen[members]
            left, chosen = shut.copy(), []
            while left.any() and len(members) and len(chosen) < _MOST:
                gains = rows @ left
                if gains.max() < _SIDE:  # what only a few samples show may be chance
                    break
                chosen.append(self.texts[members[int(gains.argmax())]])
                left *= 1 - rows[int(gains.argmax())]
            if not left.any():
                return f" {sign} ".join(chosen)
        return ""

    def _decision(self, seen: Row, wanted: Row, care: Row, wrong: Row, depth: int) -> str:
        """`test ? yes : no`, the shortest: each test parts the samples in two that conditions are found for."""
        held = seen[self.plain]
        tests = self.plain[held.any(axis=1) & (held != care).any(axis=1)]
        if depth == 1:
            # a condition fits one side where it is wrong on the other side only; `true` and `false` come first
            always = np.vstack([care - wanted, wanted, wrong])
            yes, no = always @ seen[tests].T == 0, always @ (care - seen[tests]).T == 0
            texts = ["true", "false", *self.texts]
            both = np.flatnonzero(yes.any(axis=0) & no.any(axis=0))
            chosen = [(tests[n], texts[yes[:, n].argmax()], texts[no[:, n].argmax()]) for n in both]
        else:
            chosen = []
            for at in tests:
                then = self.decided(wanted * seen[at], seen[at], depth - 1)
                other = self.decided(wanted * (care - seen[at]), care - seen[at], depth - 1) if then else ""
                chosen += [(at, then, other)] if other else []
        return min((_decision(self.texts[at], a, b) for at, a, b in chosen), key=_words, default="")


def _table(envs: list[Env], numbers: int) -> _Literals:
    """The literals of these samples; the last few tables are kept, since a model asks again and again about the same."""
    key = (numbers, *map(id, envs))
    if key not in _tables:
        if len(_tables) >= _KEPT:
            del _tables[next(iter(_tables))]
        _tables[key] = (envs, _Literals(literals(envs, numbers), len(envs)))
    return _tables[key][1]


def _bits(mask: int, count: int) -> list[int]:
    return [mask >> at & 1 for at in range(count)]


def _words(text: str) -> tuple[int, int]:
    return sum(map(text.count, "&|?")), len(text)


def _decision(test: str, yes: str, no: str) -> str:
    negated = f"!({test})" if " " in test else f"!{test}"
    if no == "false":
        return f"{test} & {_grouped(yes)}"
    if yes == "false":
        return f"{negated} & {_grouped(no)}"
    if yes == "true":
        return f"{test} | {_grouped(no)}"
    if no == "true":
        return f"{negated} | {_grouped(yes)}"
    return f"{test} ? {_wrapped(yes)} : {_wrapped(no)}"


def _grouped(text: str) -> str:
    return f"({text})" if any(mark in text for mark in "&|?") else text


# ------------------------------------------------------------------------------------------------ order


def merged_order(sequences: list[list[str]]) -> list[str]:
    """One order that contains each of the given ones as a subsequence; NotFoundError where they disagree."""
    after: dict[str, set[str]] = {}
    for sequence in sequences:
        for at, name in enumerate(sequence):
            after.setdefault(name, set())
            if at:
                after[name].add(sequence[at - 1])
    order: list[str] = []
    waiting = dict(after)
    while waiting:
        ready = [name for name, before in waiting.items() if not before & waiting.keys()]
        if not ready:
            raise NotFoundError("an order of children")
        order.append(min(ready))
        del waiting[order[-1]]
    return order


@dataclass
class Spec:
    """A learned module: what `emit` writes. `each` is the count of a loop over its one child spec, `times` how often it stands itself."""

    kind: str
    cls: str
    params: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    groups: str = "1"
    transposed: str = "false"
    opaque: str = ""
    by: tuple[str, dict[str, str]] | None = None
    each: str = ""
    times: str = ""
    children: list[tuple[str, str, Spec]] = field(default_factory=list)
