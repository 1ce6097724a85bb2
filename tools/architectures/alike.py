"""Lists of a config that are to be as long as each other, and numbers that count them: found by building, drawn together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from architectures.sample import Sampler

#: Kinds of words that are tried for the entries of a list.
_WORDS = 6
Raw = dict[str, Any]
Tried = Callable[[Raw], bool]


@dataclass
class Group:
    """`lists` of `length` entries by default, `counts` that say how many; `words`: what entries that are texts may be."""

    length: int
    lists: list[str]
    counts: list[str]
    words: dict[str, list[str]] = field(default_factory=dict)


def groups(sampler: Sampler, builds: Tried) -> list[Group]:
    """Lists of which one alone cannot be shorter while all of them together can; none where not even the default builds."""
    defaults = {name: getattr(sampler.default, name, None) for name in sampler.fields}
    lists = {name: list(value) for name, value in defaults.items() if _is_plain(value)}
    found: list[Group] = []
    if not lists or not builds({}):
        return found
    bound = [name for name, value in lists.items() if not builds({name: value[:-1]})]
    for length in sorted({len(lists[name]) for name in bound}):
        own = [name for name in bound if len(lists[name]) == length]
        counts = [name for name, value in defaults.items() if type(value) is int and value == length]
        shorter = {name: lists[name][:-1] for name in own}
        for counted in ([], *([name] for name in counts)):
            if (counted or len(own) > 1) and builds({**shorter, **dict.fromkeys(counted, length - 1)}):
                words = {name: _said(sampler, name, lists[name], builds) for name in own}
                found.append(Group(length, own, counted, {name: said for name, said in words.items() if said}))
                break
    return found


def _is_plain(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 1 and len({type(item) for item in value}) == 1


def _said(sampler: Sampler, name: str, value: list[Any], builds: Tried) -> list[str]:
    """The words that its entries may be: of those in the source, the ones that a model is built with."""
    if not isinstance(value[0], str):
        return []
    told = [word for word in sampler._literals(name) if word not in value][:_WORDS]  # noqa: SLF001 - of the same kind
    return [*dict.fromkeys(value), *(word for word in told if builds({name: [word] * len(value)}))]


def draw(sampler: Sampler, out: Raw) -> None:
    """Give the lists of each group one length in this drawn config, in place; a part of it that is frozen keeps all so."""
    rng = sampler.rng
    for group in sampler.groups:
        length = group.length + rng.choice((0, 0, 0, -1, 1))
        if not sampler.frozen.isdisjoint((*group.lists, *group.counts)):
            length = group.length
        for name in group.lists:
            default = list(getattr(sampler.default, name))
            longer = [*default, default[-1]][:length]
            if name not in sampler.frozen:
                out[name] = _entries(sampler, name, longer, group.words.get(name, []))
        out.update(dict.fromkeys((name for name in group.counts if name not in sampler.frozen), length))


def _entries(sampler: Sampler, name: str, default: list[Any], words: list[str]) -> list[Any]:
    rng = sampler.rng
    if words:
        return [rng.choice(words) for _ in default]
    if isinstance(default[0], bool):
        return default if rng.random() < 0.5 else [rng.random() < 0.5 for _ in default]
    if isinstance(default[0], float):
        return default if "drop" in name else [rng.choice((item, item, item + 1)) for item in default]
    return sampler.entries(name, default) if isinstance(default[0], int) else default
