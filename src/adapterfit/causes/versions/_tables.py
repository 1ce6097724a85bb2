r"""How `rank_pattern` and `alpha_pattern` were read by the PEFT that trained the adapter, beside how they are read now.

Source: `tuners/{lora,loha,lokr}/model.py` of peft 0.6.2, 0.13.2, 0.14.0 and 0.15.0. LoRA looked for `.*\.key$` until
0.14, LoHa and LoKr for `(.*\.)?key$`; now it is `(.*\.)?(key)$`. LoRA until 0.13, LoHa and LoKr until 0.14 took one key for
both tables: the first that matches, ranks before alphas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.dates import loader, written_before, written_since
from adapterfit.edits import Edit, SetConfig
from adapterfit.records import Case, Diff

#: Keys that cost little to match: no repeated group, few repeats, not long.
_REPEATED_GROUP = re.compile(r"\)\s*[*+?{]")
_REPEATS = re.compile(r"[*+?{]")
_NOW = r"(.*\.)?({})$"
_CHARS, _REPEATS_EACH, _MATCHES = 300, 2, 200_000


class Reading(NamedTuple):
    """Rank and alpha of one module."""

    rank: Any
    alpha: Any


class Then(NamedTuple):
    """How a PEFT matched a key, and whether it took one key for both tables."""

    pattern: str
    shared: bool


def changed(case: Case, diff: Diff, *, shared: bool) -> dict[str, tuple[Reading, Reading]]:
    """Modules that are read otherwise now: module → (then, now).

    With `shared`, those that changed because both tables had one key; without, because keys are matched otherwise.
    Empty where the writer is not known to be old enough, or the tensors' ranks contradict the old reading.
    """
    eras, values, how = _eras(case), diff.expectation.config, _loader(diff)
    if not eras or diff.expectation.doubts or not _cheap(values, len(diff.expectation.targets)):
        return {}
    found: dict[str, tuple[Reading, Reading]] = {}
    ranks = _ranks(case)
    for name in diff.expectation.targets:
        then, *others = [_read(values, name, era) for era in eras]
        now = _read(values, name, how)
        if any(other != then for other in others) or ranks.get(name, then.rank) != then.rank:
            return {}
        by_key = _read(values, name, Then(how.pattern, eras[0].shared))
        if then != now and (by_key == then) == shared:
            found[name] = (then, now)
    return found


def today(diff: Diff) -> dict[str, Reading]:
    """Rank and alpha of every target as PEFT reads them now; nothing where keys cost too much to match."""
    values, names = diff.expectation.config, diff.expectation.targets
    if any(_tables(values)) and not _cheap(values, len(names)):
        return {}
    how = _loader(diff)
    return {name: _read(values, name, how) for name in names}


def in_force(case: Case, diff: Diff | None) -> bool:
    """Whether the tables of the config gave some module another rank or alpha where the adapter was trained."""
    config = case.adapter.config
    if config is None or diff is None or not diff.expectation.targets:
        return True
    values = config.full or config.values
    if not _cheap(values, len(diff.expectation.targets)):
        return True
    plain = Reading(values.get("r"), _alpha(values))
    eras = _eras(case) or [Then(_NOW, shared=False)]
    return any(_read(values, name, era) != plain for era in eras for name in diff.expectation.targets)


def _loader(diff: Diff) -> Then:
    """How the loader reads the tables."""
    rules, lora = loader(diff), diff.expectation.config.get("peft_type") == "LORA"
    if "pattern-keys" not in rules:
        return Then(_NOW, shared=False)
    shared = rules.get("pattern-tables") == "shared" or not lora
    return Then(r".*\.{}$" if lora else r"(.*\.)?{}$", shared)


def _eras(case: Case) -> list[Then]:
    """The ways in which every PEFT that can have written the config read it."""
    config = case.adapter.config
    if config is None or config.peft_type not in ("LORA", "LOHA", "LOKR"):
        return []
    if not written_before(case, "0.15.0"):
        older = "pattern-keys" in case.consumer.rules and written_since(case, "0.15.0")
        return [Then(_NOW, shared=False)] if older else []
    if config.peft_type != "LORA":
        return [Then(r"(.*\.)?{}$", shared=True)]
    old = [Then(r".*\.{}$", shared=True)] if not config.oldest.startswith("0.14.") else []
    return old + ([] if written_before(case, "0.14.0") else [Then(r".*\.{}$", shared=False)])


def _tables(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    ranks, alphas = values.get("rank_pattern"), values.get("alpha_pattern")
    return (ranks if isinstance(ranks, Mapping) else {}), (alphas if isinstance(alphas, Mapping) else {})


def _cheap(values: Mapping[str, Any], names: int) -> bool:
    """Whether there are keys, and matching them takes no time to speak of."""
    ranks, alphas = _tables(values)
    keys = [*ranks, *alphas]
    return 0 < len(keys) * names <= _MATCHES and all(map(_is_cheap, keys))


def _is_cheap(key: str) -> bool:
    if len(key) > _CHARS or _REPEATED_GROUP.search(key) or len(_REPEATS.findall(key)) > _REPEATS_EACH:
        return False
    try:
        re.compile(_NOW.format(key))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _read(values: Mapping[str, Any], name: str, how: Then) -> Reading:
    """Rank and alpha of a module under one way of reading."""
    ranks, alphas = _tables(values)
    if how.shared:
        key = _key([*ranks, *alphas], name, how.pattern)
        return Reading(ranks.get(key, values.get("r")), alphas.get(key, _alpha(values)))
    rank, alpha = (_key(list(table), name, how.pattern) for table in (ranks, alphas))
    return Reading(ranks.get(rank, values.get("r")), alphas.get(alpha, _alpha(values)))


def _alpha(values: Mapping[str, Any]) -> Any:
    return values.get("lora_alpha", values.get("alpha"))


def _key(keys: list[str], name: str, pattern: str) -> str:
    """The first key that matches; else the name itself, which may stand in the table as it is."""
    return next((key for key in keys if re.match(pattern.format(key), name)), name)


def _ranks(case: Case) -> dict[str, int]:
    """The rank that a module's tensors show."""
    found = {}
    for module, tensors in anatomy.of_modules(case.adapter.tensors).items():
        for tensor in tensors:
            rank = anatomy.rank(evidence.parts(tensor.name).leaf, tensor.shape)
            if rank is not None:
                found[module] = rank
    return found


def guilty(diff: Diff, modules: Mapping[str, tuple[Reading, Reading]]) -> list[str]:
    """The keys that match one of these modules today."""
    ranks, alphas = _tables(diff.expectation.config)
    keys = dict.fromkeys([*ranks, *alphas])
    return [key for key in keys if any(re.match(_loader(diff).pattern.format(key), name) for name in modules)]


def restored(diff: Diff, modules: Mapping[str, tuple[Reading, Reading]]) -> tuple[Edit, ...]:
    """Tables that today are read as the old ones were: full paths in front. Empty where they would not be."""
    values = diff.expectation.config
    tables = dict(zip(("rank_pattern", "alpha_pattern"), _tables(values)))
    defaults = Reading(values.get("r"), _alpha(values))
    names = diff.expectation.targets
    old = {name: modules[name][0] if name in modules else _read(values, name, _loader(diff)) for name in names}
    wanted = {
        field: {name: each[at] for name, each in old.items() if each[at] != defaults[at]}
        for at, field in enumerate(("rank_pattern", "alpha_pattern"))
    }
    if any(_read({**values, **wanted}, name, _loader(diff)) != each for name, each in old.items()):
        return ()
    return tuple(SetConfig(field, table) for field, table in wanted.items() if table != tables[field])
