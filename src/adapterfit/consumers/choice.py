"""Who will load the adapter: the consumer a caller names, else what is installed, else the newest known."""

from __future__ import annotations

import re

from adapterfit.errors import CannotCheck
from adapterfit.records import Consumer
from adapterfit.text import quote

#: The versions of peft and transformers whose behaviour the other stages describe.
NEWEST = ("0.21.2", "5.23.0")
_PART = re.compile(r"\s*(peft|transformers)\s*==\s*([0-9][0-9A-Za-z.+]*)\s*")


def choose(text: str | None) -> Consumer:
    """The consumer for `peft==X,transformers==Y`; either part may be left out.

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
    return Consumer(peft, transformers, given=True, text=f"peft=={peft},transformers=={transformers}")
