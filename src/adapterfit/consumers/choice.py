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
_PART = re.compile(r"\s*(peft|transformers)\s*(?:==\s*([0-9][0-9A-Za-z.+]*)\s*)?")
#: The calls that load an adapter, the one that is meant by default first → what the ids of claims about it begin with.
LOADERS = {"PeftModel.from_pretrained": "", "PeftModel.load_adapter": "second-", "model.load_adapter": "native-"}
_DEFAULT = next(iter(LOADERS))
_DISTRIBUTION = re.compile(r"(peft|transformers)-([0-9][0-9A-Za-z.+]*)\.dist-info")


def choose(text: str | None, loader: str | None = None) -> Consumer:
    """The consumer for `peft==X,transformers==Y`; either part may be left out, and a version. None: the newest known.

    `loader`: one of `LOADERS`; by default that of transformers where transformers alone is named.

    Raises:
        CannotCheck: The text names something else.
    """
    if text is None:
        newest = Consumer(*NEWEST, given=False, text=f"peft=={NEWEST[0]},transformers=={NEWEST[1]}")
        return newest if loader in (None, _DEFAULT) else consumer(*NEWEST, loader)
    found: dict[str, str] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise CannotCheck(
                f"the consumer {quote(part)} is not known; say peft=={NEWEST[0]},transformers=={NEWEST[1]}"
            )
        found[match.group(1)] = match.group(2) or dict(zip(("peft", "transformers"), NEWEST))[match.group(1)]
    peft, transformers = found.get("peft", NEWEST[0]), found.get("transformers", NEWEST[1])
    return consumer(peft, transformers, loader or loader_meant(text))


def loader_meant(text: str) -> str:
    """The loader of transformers where transformers alone is named."""
    return "model.load_adapter" if "transformers" in text and "peft" not in text else _DEFAULT


def consumer(peft: str, transformers: str, loader: str | None = None) -> Consumer:
    """The consumer of exactly these versions, with what is known of them where they are not the newest.

    Raises:
        CannotCheck: There is no such loader.
    """
    loader = loader or _DEFAULT
    if loader not in LOADERS:
        raise CannotCheck(f"the loader {quote(loader)} is not known; say {', '.join(LOADERS)}")
    text = f"peft=={peft},transformers=={transformers}"
    if (peft, transformers) == NEWEST and loader == _DEFAULT:
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
        peft,
        transformers,
        given=True,
        text=text,
        rules={} if unknown else _rules(peft, transformers, loader),
        unknown=unknown,
        loader="" if loader == _DEFAULT else loader,
    )


def _rules(peft: str, transformers: str, loader: str) -> Mapping[str, Any]:
    """What the claims about both libraries say, the versions themselves included."""
    from adapterfit.consumers import facts

    of_peft = facts.load("peft").rules(peft, {"transformers": transformers})
    of_transformers = facts.load("transformers").rules(transformers, {"peft": peft})
    return {"peft": peft, "transformers": transformers, **merged(of_peft, of_transformers, loader)}


def merged(of_peft: Mapping[str, Any], of_transformers: Mapping[str, Any], loader: str) -> dict[str, Any]:
    """The rules for one loader: a claim about it alone stands, without its mark, in the place of the general one."""
    marks = tuple(filter(None, LOADERS.values()))
    general = {**of_transformers, **of_peft}
    rules = {name: value for name, value in general.items() if not name.startswith(marks)}
    mark = LOADERS[loader]
    if mark:
        own = {**of_peft, **of_transformers}
        rules.update({name[len(mark) :]: value for name, value in own.items() if name.startswith(mark)}, loader=loader)
    return rules


def default(loader: str | None = None) -> Consumer:
    """The consumer where nobody named one: the peft and transformers installed here, else the newest known.

    Both must be installed, and in versions there are facts of; `others_installed` says what was left out.
    """
    found = _installed()
    if len(found) == len(NEWEST) and tuple(found.values()) != NEWEST:
        here = consumer(found["peft"], found["transformers"], loader)
        if not here.unknown:
            return dataclasses.replace(here, given=False)
    return choose(None, loader)


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
