"""A range of versions, `peft>=0.18` or `peft>=0.14,<0.17,transformers==4.57.6`, as the pairs of libraries it stands for."""

from __future__ import annotations

import re

from adapterfit.consumers import facts, model_types
from adapterfit.consumers.choice import consumer, loader_meant
from adapterfit.consumers.versions import Range, version, version_range
from adapterfit.errors import CannotCheck
from adapterfit.records import Consumer
from adapterfit.text import quote

_PART = re.compile(r"\s*(?P<name>peft|transformers)?\s*(?P<bound>[<>=!].+)")


def pairs(text: str, loader: str | None = None) -> tuple[Consumer, ...]:
    """Every known release of PEFT in the range, each beside the transformers meant, oldest first.

    Without a range of transformers a release of PEFT stands beside the newest transformers it can be imported with; with one,
    beside the oldest and the newest of those in it. With a range of transformers alone, each of its releases stands beside the
    newest PEFT that can be imported with it.

    Raises:
        CannotCheck: The text is no range, or no known version lies in it.
    """
    wanted = _ranges(text)
    pefts = [each for each in facts.load("peft").releases if each in wanted["peft"]]
    others = [each for each in model_types.releases() if each in wanted["transformers"]]
    exact = re.fullmatch(r"\s*==\s*(\S+)\s*", wanted["transformers"].text)
    if exact is not None and not others:
        others = [exact.group(1)]
    if not pefts or not others:
        raise CannotCheck(f"no version that adapterfit knows lies in {quote(text)}")
    loader = loader or loader_meant(text)
    if not wanted["peft"].parts:
        return tuple(consumer(_newest(pefts, each), each, loader) for each in others)
    found = []
    for peft in pefts:
        fitting = [each for each in others if "import" not in consumer(peft, each).rules] or others[-1:]
        chosen = fitting[-1:] if not wanted["transformers"].parts else dict.fromkeys((fitting[0], fitting[-1]))
        found += [consumer(peft, each, loader) for each in chosen]
    return tuple(found)


def _newest(pefts: list[str], transformers: str) -> str:
    fitting = (each for each in reversed(pefts) if "import" not in consumer(each, transformers).rules)
    return next(fitting, pefts[-1])


def _ranges(text: str) -> dict[str, Range]:
    """`peft>=0.18,<0.20` → both parts for peft; a library that is not named may have any version."""
    bounds: dict[str, list[str]] = {"peft": [], "transformers": []}
    name = ""
    for part in text.split(","):
        match = _PART.fullmatch(part)
        name = (match["name"] or name) if match is not None else ""
        if match is None or not name:
            raise CannotCheck(f"{quote(text)} is no range of versions; say 'peft>=0.18' or 'peft>=0.14,<0.17'")
        bounds[name].append(match["bound"].strip())
    try:
        return {key: version_range(",".join(parts)) for key, parts in bounds.items()}
    except ValueError:
        raise CannotCheck(f"{quote(text)} is no range of versions; say 'peft>=0.18' or 'peft>=0.14,<0.17'") from None


def spans(versions: list[str], known: tuple[str, ...]) -> str:
    """`0.4.0 to 0.5.0, 0.14.0 to 0.21.2`: releases in a row joined; `known` are all of them, oldest first."""
    runs: list[list[str]] = []
    for each in sorted(versions, key=version):
        if runs and known.index(each) == known.index(runs[-1][-1]) + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
