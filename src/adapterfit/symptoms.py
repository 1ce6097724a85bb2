"""What a pasted text tells: records like those of `records`, which passes them on, in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from adapterfit.record import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LogError:
    """An exception or a warning as a log prints it; `line` is where, counted in `Symptoms.lines`.

    `library` is that of the innermost frame above it (`peft`, `torch`, …), empty where no frame is shown.
    """

    kind: str
    message: str
    line: int
    library: str = ""


@dataclass(frozen=True)
class LogFrame:
    """One frame of a traceback. `library` is empty for the user's own code; `file` lies below the library."""

    library: str
    file: str
    function: str
    line: int


@dataclass(frozen=True)
class LogKey:
    """A tensor's name in a log. `wording` says whose words stand around it (`torch`, `peft`, `trainer`)."""

    name: str
    line: int
    wording: str = ""


@dataclass(frozen=True)
class LogShape:
    """A tensor whose shape does not fit: `found` in the file, `wanted` in the model; None where the log is cut."""

    key: str
    found: Shape | None
    wanted: Shape | None
    line: int
    wording: str = ""


@dataclass(frozen=True)
class LogTargets:
    """Module names in a message about targets.

    `wording`: `not-found`, `expected`, `received`, `unsupported` (then `names` is the module's class). `quoted` tells
    a list of names from one string that looks like a list.
    """

    names: tuple[str, ...]
    wording: str
    line: int
    quoted: bool = True

    @property
    def patterned(self) -> bool:
        """Whether what was passed are patterns: no module has such letters in its name."""
        return any(sign in name for name in self.names for sign in "\\*(|^$")


@dataclass(frozen=True)
class LogFile:
    """A file or folder that a listing or a message names. `size` in bytes where it is told."""

    name: str
    line: int
    size: int | None = None
    folder: bool = False


@dataclass(frozen=True)
class LogUrl:
    """An address with the status the server answered (0: not told). `repo` and `file` are a Hub's, else empty."""

    url: str
    repo: str
    file: str
    status: int
    line: int


@dataclass(frozen=True)
class LogArgument:
    """A keyword that a call did not know, and what was called."""

    name: str
    called: str
    line: int


@dataclass(frozen=True)
class LogStatement:
    """What a sentence tells was seen of an adapter; `merged`: of one that was merged into its base.

    `seen`: `no-effect`, `garbage`, `differs-by-engine`, `at-start` (zero after a training), `nan`, `nan-somewhere` (no adapter is named near it), `constant` (one output for every
    input), `no-tensors`, `unknown-accepted` (a name that nobody loaded), `misfit-accepted`, `changes-by-load` (worse, or another one, after loading).
    """

    seen: str
    line: int
    merged: bool = False


@dataclass(frozen=True)
class Symptoms:
    """What `read` takes out of a pasted text. Every `line` is an index into `lines`.

    `lines` are the text's own, without escape codes and markup. `text` is all of it on one line, wrapped lines joined,
    `folded` the same in lower case; line `n` starts at `starts[n]` in both. `errors`, `warnings` and `frames` in the
    order of the text: of a chain, the innermost exception comes first. `keys` are tensor names said without telling
    what is wrong with them. `left_out` is the number of characters that were too many to be read.
    """

    lines: tuple[str, ...] = ()
    text: str = ""
    folded: str = ""
    starts: tuple[int, ...] = ()
    errors: tuple[LogError, ...] = ()
    warnings: tuple[LogError, ...] = ()
    frames: tuple[LogFrame, ...] = ()
    missing: tuple[LogKey, ...] = ()
    unexpected: tuple[LogKey, ...] = ()
    keys: tuple[LogKey, ...] = ()
    misshapen: tuple[LogShape, ...] = ()
    targets: tuple[LogTargets, ...] = ()
    arguments: tuple[LogArgument, ...] = ()
    files: tuple[LogFile, ...] = ()
    urls: tuple[LogUrl, ...] = ()
    statements: tuple[LogStatement, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
