"""Which of the consumers a caller names are PEFT and transformers, for which the whole report is made, and which are engines."""

from __future__ import annotations

from collections.abc import Sequence

LIBRARIES = ("peft", "transformers")


def is_range(text: str) -> bool:
    """Whether it stands for several versions: `peft>=0.18`, and not `peft==0.18.1`."""
    return any(sign in text for sign in "<>!")


def sort(consumers: Sequence[str] | str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts that name libraries, and those that name engines; each in its order."""
    texts = () if consumers is None else (consumers,) if isinstance(consumers, str) else tuple(consumers)
    libraries = tuple(text for text in texts if text.strip().lower().startswith(LIBRARIES))
    return libraries, tuple(text for text in texts if text not in libraries)
