"""A record behaves as a frozen dataclass of the library does."""

import dataclasses
from dataclasses import field
from typing import Any

import pytest

from adapterfit import record


def made(dataclass):
    """One class, decorated by the library or by us."""

    @dataclass(frozen=True)
    class Thing:
        """A thing."""

        name: str
        size: int = 1
        tags: dict = field(default_factory=dict)
        opened: Any = field(default=None, repr=False, compare=False)

        @property
        def doubled(self):
            return self.size * 2

    return Thing


CLASSES = [made(dataclasses.dataclass), made(record.dataclass)]
USES = {
    "all by position": lambda cls: repr(cls("a", 2, {"x": 1}, 3)),
    "some by name": lambda cls: repr(cls("a", tags={"x": 1})),
    "a default": lambda cls: cls("a").doubled,
    "a default that is made anew": lambda cls: cls("a").tags is cls("b").tags,
    "equal": lambda cls: cls("a", 2) == cls("a", 2),
    "unequal": lambda cls: cls("a", 2) == cls("a", 3),
    "equal beside a field that is not compared": lambda cls: cls("a", opened=1) == cls("a", opened=2),
    "of another class": lambda cls: cls("a") == ("a", 1, {}),
    "hash of what cannot be hashed": lambda cls: hash(cls("a")),
    "hash": lambda cls: hash(cls("a", tags=())) == hash(cls("a", tags=(), opened=5)),
    "replaced": lambda cls: repr(dataclasses.replace(cls("a"), size=7)),
    "replaced by an unknown field": lambda cls: dataclasses.replace(cls("a"), height=7),
    "as a dict": lambda cls: dataclasses.asdict(cls("a")),
    "set": lambda cls: setattr(cls("a"), "name", "b"),
    "deleted": lambda cls: delattr(cls("a"), "name"),
    "a field lacking": lambda cls: cls(size=1),
    "a field too many": lambda cls: cls("a", 1, {}, None, 5),
    "an unknown field": lambda cls: cls("a", height=5),
    "a field twice": lambda cls: cls("a", name="b"),
    "its page": lambda cls: cls.__doc__,
    "what a match statement takes": lambda cls: cls.__match_args__,
}


def outcome(use, cls):
    """What a use gives, or the kind of exception it ends with."""
    try:
        return use(cls)
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_record_is_used_like_the_librarys(use):
    theirs, ours = (outcome(use, cls) for cls in CLASSES)
    assert ours == theirs


def test_a_record_that_can_be_changed_is_refused():
    with pytest.raises(TypeError, match="frozen"):
        record.dataclass(frozen=False)
