"""The closed language that architecture facts are written in: sizes and conditions as functions of config fields.

Grammar, loosest first::

    c ? a : b    a | b    a & b    !a    == != < <= > >= in    + -    * / // %    **
    12  0.1  'text'  null  true  false  unknown  [1, 2]  field  sub_config.field  field[i]  field[i][0]  len(field)  split(field)  (…)
    int(x)  ceil(x)  floor(x)  round(x)  log2(x)  isqrt(x)  max(a, b)  min(a, b)  sum(x)  pair(x)  spread(x, n)  each(n, of i)
    group(sizes, n)  primes(x, n)  numbers(x)  prod(x)  refuse('why')

An item of a text is one of its letters, of a table what stands under a name: `field['name']`. `unknown` stands where the generator found no formula. Nothing else exists: no calls but those named here (`split` is of
text at `|`, `pair` makes two of one number, `spread` n, `each` is a list with one value for each i below n, `group` says in which of
groups of these sizes item n stands, `primes` are the first n primes above x, `numbers` the whole numbers between the commas of a
text, `refuse` stands where transformers builds no model, with the reason), no attributes, no other loops. A formula comes from our
own facts; the values it meets come from a stranger's config.json, so every operation checks what it is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Callable, Protocol

from adapterfit import limits
from adapterfit.text import quote, show


class Env(Protocol):
    """What a formula reads its fields from."""

    def __getitem__(self, name: str, /) -> Any:
        """The effective value of a field."""


Formula = Callable[[Env], Any]
_Token = tuple[str, str]

_TOKENS = re.compile(
    r"\s*(?:(?P<float>\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+))|(?P<int>\d+)|'(?P<str>[^']*)'|(?P<name>[A-Za-z_][\w.]*)|(?P<op>//|\*\*|==|!=|<=|>=|[-+*/%<>?:|&!()\[\],]))"
)
_NUMBERS: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float}
_WORDS = {"null": None, "true": True, "false": False}


class FormulaError(ValueError):
    """A formula met a value it cannot work with; the text names the field and is safe to print."""


class UnknownFieldError(FormulaError):
    """A formula needs a field that the facts say nothing about; that is our gap, not the config's fault."""


@cache
def compile_formula(text: str) -> Formula:
    """`text` as a function of an environment. Raises ValueError for text that is not in the language."""
    parser = _Parser(text)
    formula = parser.ternary()
    parser.expect_end()
    return formula


@cache
def names_in(text: str) -> frozenset[str]:
    """The fields that a formula reads."""
    return frozenset(
        value for kind, value in _tokens(text) if kind == "name" and value not in (*_WORDS, *_FUNCTIONS, "in", "each")
    )


def integer(value: object) -> int:
    """`value` as an int; a bool, a float or text is refused, as transformers' own validation refuses it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormulaError(f"a whole number was expected, not {type(value).__name__}")
    return value


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"not a formula: {text!r} at {at}")
        found.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    return found


def _number(value: object) -> Any:
    """`value` as a number; what `int` or `ceil` makes of fractions in between is a size again."""
    return value if isinstance(value, float) else integer(value)


def _divisor(value: Any) -> Any:
    if value == 0:
        raise FormulaError("division by zero")
    return value


def _power(left: Any, right: Any) -> Any:
    if not 0 <= right <= _EXPONENT or abs(left) > _EXPONENT**2:
        raise FormulaError(f"a power of {right}")
    return left**right


def _whole(do: Callable[[Any], int]) -> Callable[[object], int]:
    def made(value: object) -> int:
        number = _number(value)
        if not math.isfinite(number):
            raise FormulaError("a number without end")
        return do(number)

    return made


#: No model has more stages than this, and nothing above fits into a dimension.
_EXPONENT = 64
#: No table is longer than this.
_WIDEST = 1 << 48
#: No number in a list has more digits.
_DIGITS = 18
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / _divisor(b),
    "//": lambda a, b: a // _divisor(b),
    "%": lambda a, b: a % _divisor(b),
    "**": _power,
}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _arithmetic(op: str, left: Formula, right: Formula) -> Formula:
    do = _ARITHMETIC[op]

    def computed(env: Env) -> Any:
        try:
            return do(_number(left(env)), _number(right(env)))
        except OverflowError as problem:
            raise FormulaError("a number too large to compute with") from problem

    return computed


def _compare(op: str, left: Formula, right: Formula) -> Formula:
    if op == "==":
        return lambda env: left(env) == right(env)
    if op == "!=":
        return lambda env: left(env) != right(env)
    if op == "in":
        return lambda env: left(env) in _sequence(right(env))
    do = _ORDER[op]
    return lambda env: do(_number(left(env)), _number(right(env)))


def _sequence(value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise FormulaError(f"a list was expected, not {type(value).__name__}")
    return tuple(value)


def _length(value: object) -> int:
    """Length of a list or of a text; 1 for a bare number, as the models that accept both take it."""
    return 1 if isinstance(value, int) else len(value if isinstance(value, str) else _sequence(value))


def _split(value: object) -> tuple[Any, ...]:
    """The parts of a text between `|`, in lower case; a list as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.lower().split("|"))
    return _sequence(value)


def _numbers_in(value: object) -> tuple[Any, ...]:
    """The whole numbers between the commas of a text; a list as it is."""
    if not isinstance(value, str):
        return _sequence(value)
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(part.isdecimal() and part.isascii() and len(part) <= _DIGITS for part in parts):
        raise FormulaError("whole numbers between commas were expected")
    return tuple(map(int, parts))


def _total(value: object) -> int:
    """The sum of a list of whole numbers."""
    return sum(map(integer, _sequence(value)))


def _product(value: object) -> int:
    """The product of a list of whole numbers, 1 of none; one past any size is refused before it grows on."""
    found = 1
    for item in _sequence(value):
        found *= integer(item)
        if abs(found) >> _EXPONENT:
            raise FormulaError("a product larger than any size")
    return found


def _spread(value: object, count: object) -> tuple[Any, ...]:
    """A list as it is, a number so many times: what models make of one size for all layers."""
    if not isinstance(value, (int, float)):
        return _sequence(value)
    if integer(count) > limits.LAYERS:
        raise FormulaError(f"a list of {count}; at most {limits.LAYERS} are plausible")
    return (value,) * integer(count)


def _group(sizes: object, index: object) -> int:
    """The group in which an item stands, of groups of these sizes one after the other: layers that stand in one list stage by stage."""
    left = integer(index)
    for at, size in enumerate(map(integer, _sequence(sizes))):
        if left < size:
            return at
        left -= max(0, size)
    raise FormulaError(f"item {show(index)} of groups that have fewer")


#: Enough for an exact answer below 3.3 * 10**24 (Sorenson and Webster, 2015, doi:10.1090/mcom/3134).
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def _is_prime(number: int) -> bool:
    """Whether `number` is prime, by Miller's and Rabin's test with bases that are enough for its size."""
    for witness in _WITNESSES:
        if number % witness == 0:
            return number == witness
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return number > 1 and all(_passes(pow(witness, odd, number), twos, number) for witness in _WITNESSES)


def _passes(power: int, twos: int, number: int) -> bool:
    if power == 1:
        return True
    for _ in range(twos):
        if power == number - 1:
            return True
        power = power * power % number
    return False


def _primes(above: object, count: object) -> tuple[int, ...]:
    """The first `count` primes above a number: what tables of hashed words are made as long as."""
    number, wanted = integer(above), integer(count)
    if wanted > limits.LAYERS or number >= _WIDEST:
        raise FormulaError(f"{wanted} primes above {number}")
    found: list[int] = []
    while len(found) < wanted:
        number = max(number + 1, 2)
        if _is_prime(number):
            found.append(number)
    return tuple(found)


def _log2(value: Any) -> int:
    """The whole part of the logarithm, as `int(math.log2(value))` has it."""
    if value <= 0:
        raise FormulaError(f"a logarithm of {value}")
    return int(math.log2(value))


def _refuse(why: object) -> object:
    """Where transformers builds no model: the fields and what is wrong with them, in our own words."""
    raise FormulaError(str(why))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "len": _length,
    "split": _split,
    "sum": _total,
    "prod": _product,
    "pair": lambda value: _spread(value, 2),
    "spread": _spread,
    "group": _group,
    "int": _whole(int),
    "ceil": _whole(math.ceil),
    "floor": _whole(math.floor),
    "round": _whole(round),
    "log2": lambda value: _log2(_number(value)),
    "primes": _primes,
    "numbers": _numbers_in,
    "isqrt": lambda value: math.isqrt(max(0, integer(value))),
    "refuse": _refuse,
    "max": lambda a, b: max(_number(a), _number(b)),
    "min": lambda a, b: min(_number(a), _number(b)),
}


def _item(value: object, index: object) -> Any:
    if isinstance(value, Mapping) and isinstance(index, str):
        if index not in value:
            raise FormulaError(f"no {quote(index, 40)} in a table")
        return value[index]
    items, at = value if isinstance(value, str) else _sequence(value), integer(index)
    if not 0 <= at < len(items):  # whether the model would ask for that entry, too, is not known
        raise UnknownFieldError(f"adapterfit's facts ask for entry {at} of a list of {len(items)}")
    return items[at]


def _unknown(_: Env) -> object:
    raise UnknownFieldError("adapterfit's facts have no formula for one of the sizes")


def _constant(value: object) -> Formula:
    def always(_: Env) -> object:
        return value

    return always


class _Turn:
    """The environment of one item of `each`."""

    def __init__(self, env: Env, at: int) -> None:
        self.env, self.at = env, at

    def __getitem__(self, name: str) -> Any:
        return self.at if name == "i" else self.env[name]


class _Parser:
    """Recursive descent; each method returns the function of what it read."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, _tokens(text), 0

    def peek(self) -> str:
        kind, value = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")
        return value if kind == "op" or value == "in" else ""

    def take(self, *ops: str) -> str:
        found = self.peek()
        if found and found in ops:
            self.at += 1
            return found
        return ""

    def need(self, op: str) -> None:
        if not self.take(op):
            raise ValueError(f"not a formula: {self.text!r}: {op!r} expected")

    def expect_end(self) -> None:
        if self.at != len(self.tokens):
            raise ValueError(f"not a formula: {self.text!r}: more than one expression")

    def ternary(self) -> Formula:
        test = self.any_of()
        if not self.take("?"):
            return test
        yes = self.ternary()
        self.need(":")
        no = self.ternary()
        return lambda env: yes(env) if test(env) else no(env)

    def any_of(self) -> Formula:
        parts = [self.all_of()]
        while self.take("|"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else lambda env: any(part(env) for part in parts)

    def all_of(self) -> Formula:
        parts = [self.negation()]
        while self.take("&"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else lambda env: all(part(env) for part in parts)

    def negation(self) -> Formula:
        if self.take("!"):
            inner = self.negation()
            return lambda env: not inner(env)
        return self.comparison()

    def comparison(self) -> Formula:
        left = self.sum()
        op = self.take("==", "!=", "<", "<=", ">", ">=", "in")
        return _compare(op, left, self.sum()) if op else left

    def sum(self) -> Formula:
        left = self.product()
        while op := self.take("+", "-"):
            left = _arithmetic(op, left, self.product())
        return left

    def product(self) -> Formula:
        left = self.power()
        while op := self.take("*", "/", "//", "%"):
            left = _arithmetic(op, left, self.power())
        return left

    def power(self) -> Formula:
        left = self.atom()
        return _arithmetic("**", left, self.power()) if self.take("**") else left

    def atom(self) -> Formula:
        if self.take("("):
            inner = self.ternary()
            self.need(")")
            return inner
        if self.take("["):
            return self.listing()
        if self.at >= len(self.tokens):
            raise ValueError(f"not a formula: {self.text!r} ends early")
        kind, value = self.tokens[self.at]
        self.at += 1
        if kind == "op":
            raise ValueError(f"not a formula: {self.text!r}: {value!r} where a value was expected")
        if kind == "name":
            return self.name(value)
        return _constant(_NUMBERS[kind](value) if kind in _NUMBERS else value)

    def listing(self) -> Formula:
        items: list[Formula] = []
        while not self.take("]"):
            items.append(self.ternary())
            self.take(",")
        return lambda env: tuple(item(env) for item in items)

    def each(self) -> Formula:
        count = self.ternary()
        self.need(",")
        inner = self.ternary()
        self.need(")")

        def made(env: Env) -> tuple[Any, ...]:
            number = integer(count(env))
            if number > limits.LAYERS:
                raise FormulaError(f"a list of {number}; at most {limits.LAYERS} are plausible")
            return tuple(inner(_Turn(env, at)) for at in range(number))

        return made

    def name(self, name: str) -> Formula:
        if name in _WORDS:
            return _constant(_WORDS[name])
        if name == "unknown":
            return _unknown
        if name == "each" and self.take("("):
            return self.each()
        if name in _FUNCTIONS and self.take("("):
            given, do = [self.ternary()], _FUNCTIONS[name]
            while self.take(","):
                given.append(self.ternary())
            self.need(")")
            return lambda env: do(*(one(env) for one in given))
        found: Formula = lambda env: env[name]  # noqa: E731 - one of the many small functions that formulas are made of
        while self.take("["):
            found = self.item(found)
        return found

    def item(self, whole: Formula) -> Formula:
        index = self.ternary()
        self.need("]")
        return lambda env: _item(whole(env), index(env))
