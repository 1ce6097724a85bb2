"""Tensor names that mislead: control characters in them, or two that a person cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterable

from adapterfit.read.formats._flaws import note
from adapterfit.records import Flaw, TensorInfo
from adapterfit.text import quote, shorten, show

#: Letters of other alphabets that look like Latin ones.
_TWINS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u0410\u0412\u0415\u041a\u041c\u041d"
    "\u041e\u0420\u0421\u0422\u0425\u03bf\u03c1\u03b1\u03bd\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d"
    "\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijsdqABEKMHOPCTXopavABEZHIKMNOPTYX",
)


def remarks(name: str, tensors: Iterable[TensorInfo]) -> list[Flaw]:
    """What is odd about the names of the tensors of the file `name`."""
    names = [tensor.name for tensor in tensors]
    flaws = []
    odd = [each for each in names if _is_odd(each)]
    if odd:
        problem = (
            f"has empty tensor names, or some with characters that cannot be seen: {', '.join(map(quote, odd[:3]))}"
        )
        flaws.append(note("control-in-name", name, problem))
    pairs = _twins(names)
    if pairs:
        problem = f"has tensor names that look alike but differ: {shorten(map(' / '.join, pairs))}"
        flaws.append(note("look-alike-names", name, problem))
    return flaws


def _is_odd(name: str) -> bool:
    """Empty, or with a character that `show` has to escape (a letter with its accent apart is none)."""
    if name.isascii():
        return not name or not name.isprintable()
    import unicodedata

    return show(name, None) != unicodedata.normalize("NFC", name)


def _twins(names: list[str]) -> list[tuple[str, str]]:
    if len({each.lower() for each in names}) == len(names) and all(map(str.isascii, names)):
        return []
    import unicodedata

    first: dict[str, str] = {}
    pairs = []
    for each in names:
        looks = unicodedata.normalize("NFKC", each).translate(_TWINS).lower()
        if looks in first:
            pairs.append((first[looks], each))
        first.setdefault(looks, each)
    return pairs
