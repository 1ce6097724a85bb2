"""Who will load the adapter: the consumer a caller names, else what is installed, else the newest known."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from adapterfit.errors import CannotCheck
from adapterfit.records import Consumer
from adapterfit.text import quote

#: The versions of peft and transformers whose behaviour the other stages describe.
NEWEST = ("0.21.2", "5.23.0")
_PART = re.compile(r"\s*(peft|transformers)\s*==\s*([0-9][0-9A-Za-z.+]*)\s*")
_DISTRIBUTION = re.compile(r"(peft|transformers)-([0-9][0-9A-Za-z.+]*)\.dist-info")


def choose(text: str | None) -> Consumer:
    """The consumer for `peft==X,transformers==Y`; either part may be left out. None: the newest known.

    Raises:
        CannotCheck: The text names something else.
    """
    if text is None:
        return Consumer(*NEWEST, given=False, text=f"peft=={NEWEST[0]},transformers=={NEWEST[1]}")
    found: dict[str, str] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise CannotCheck(
                f"the consumer {quote(part)} is not known; say peft=={NEWEST[0]},transformers=={NEWEST[1]}"
            )
        found[match.group(1)] = match.group(2)
    peft, transformers = found.get("peft", NEWEST[0]), found.get("transformers", NEWEST[1])
    return consumer(peft, transformers)


def consumer(peft: str, transformers: str) -> Consumer:
    """The consumer of exactly these versions, with what is known of them where they are not the newest."""
    text = f"peft=={peft},transformers=={transformers}"
    if (peft, transformers) == NEWEST:
        return Consumer(peft, transformers, given=True, text=text)
    from adapterfit.consumers import facts, model_types
    from adapterfit.consumers.versions import version

    unknown = ""
    for name, wanted, known in (
        ("peft", peft, facts.load("peft").releases),
        ("transformers", transformers, model_types.releases()),
    ):
        if not version(known[0]) <= version(wanted) <= version(known[-1]):
            unknown = f"{name} {wanted} is not known: the facts reach from {known[0]} to {known[-1]}"
    return Consumer(
        peft, transformers, given=True, text=text, rules={} if unknown else _rules(peft, transformers), unknown=unknown
    )


def _rules(peft: str, transformers: str) -> Mapping[str, Any]:
    """What the claims about both libraries say, the versions themselves included."""
    from adapterfit.consumers import facts

    found = {"peft": peft, "transformers": transformers}
    return {
        **found,
        **facts.load("transformers").rules(transformers, {"peft": peft}),
        **facts.load("peft").rules(peft, {"transformers": transformers}),
    }


def default() -> Consumer:
    """The consumer where nobody named one: the peft and transformers installed here, else the newest known.

    Both must be installed, and in versions there are facts of; `others_installed` says what was left out.
    """
    found = _installed()
    if len(found) == len(NEWEST) and tuple(found.values()) != NEWEST:
        here = consumer(found["peft"], found["transformers"])
        if not here.unknown:
            return dataclasses.replace(here, given=False)
    return choose(None)


def others_installed(who: Consumer) -> tuple[str, ...]:
    """The peft and transformers installed here which are not those of the answer: `peft 0.17.1`."""
    answered = {"peft": who.peft, "transformers": who.transformers}
    return tuple(f"{name} {version}" for name, version in _installed().items() if version != answered[name])


def _installed() -> dict[str, str]:
    """The versions of peft and transformers that an import would find here, those that are there.

    Looks at the names of the installed distributions only; importing either library would cost seconds.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - pathlib costs more than the look
        except OSError:
            continue
        for match in filter(None, map(_DISTRIBUTION.fullmatch, names)):
            found.setdefault(match.group(1), match.group(2))
    return dict(sorted(found.items()))
