"""Every frozen record that crosses a stage border; no behaviour.

The stages and what they hand on::

    read ──► Case   expect ──► Expectation   compare ──► Diff   diagnose ──► Report   plan ──► Plan
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from adapterfit.record import dataclass

if TYPE_CHECKING:
    from adapterfit.answers import Answer
    from adapterfit.edits import Edit
    from adapterfit.read.source import Source
    from adapterfit.symptoms import Symptoms

Shape = tuple[int, ...]
#: Bits of one element, by safetensors' names. A dtype that is not here is refused by name.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

# ------------------------------------------------------------------------------------------------ read


@dataclass(frozen=True)
class Flaw:
    """Something a reader saw and must not pass over in silence. A cause turns it into a finding.

    `code` is a kebab-case name (`truncated-file`, `duplicate-name`); `message` one sentence that says what was found and where,
    already safe to print; `refused` says that the thing it concerns was not read. `predicted` is what PEFT itself does about it
    (`raises`, `warns`, `silent`, `none`), `raised` the line it raises, where that is known.
    """

    code: str
    message: str
    where: str = ""
    found: str = ""
    expected: str = ""
    severity: str = "error"
    refused: bool = True
    remedy: str = ""
    predicted: str = "raises"
    raised: str = ""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its container describes it. `dtype` in safetensors' spelling (`F32`, `BF16`, `I64` …).

    `span` is the absolute byte range `[start, end)` of its data in `file`; None where the data does not lie in one piece (a strided
    view in a `.bin`, a compressed member). Of a strided view `view` is the byte where it starts and its strides, in elements.
    """

    name: str
    dtype: str
    shape: Shape
    file: str = ""
    span: tuple[int, int] | None = None
    view: tuple[int, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Weights:
    """One weights file, read by its header only.

    A file that is cut off has no `tensors`, as no loader takes it; `intact` are those that lie before the cut, `lost` the names
    of the others.
    """

    file: str
    format: str
    size: int
    tensors: tuple[TensorInfo, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()
    intact: tuple[TensorInfo, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the file as a whole could not be read."""
        return any(flaw.refused for flaw in self.flaws)


@dataclass(frozen=True)
class AdapterConfig:
    """`adapter_config.json`: as it stands, and as PEFT would take it.

    `values` holds only the fields the newest known PEFT has for this `peft_type`, defaults filled in; a value of the wrong type is
    reported as a flaw and kept as it is. `known` is false for a method PEFT never had or no longer has. `oldest`/`newest` bound the
    PEFT versions that can have written the file. `newer`, `dropped`, `full` are for an older loader: see `read/config_then.py`.
    """

    file: str
    raw: Mapping[str, Any]
    values: Mapping[str, Any]
    peft_type: str = ""
    known: bool = False
    unknown_keys: tuple[str, ...] = ()
    oldest: str = ""
    newest: str = ""
    flaws: tuple[Flaw, ...] = ()
    newer: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileEntry:
    """A file (never a folder) found beside the adapter. `name` is relative to the source, `/`-separated."""

    name: str
    size: int


class Later:
    """A number that costs something to read, read when it is first asked for."""

    def __init__(self, read: Callable[[], int | None]) -> None:
        self._read = read
        self._known: tuple[int | None] | None = None

    def get(self) -> int | None:
        """The number, or None where it is not known."""
        if self._known is None:
            self._known = (self._read(),)
        return self._known[0]


@dataclass(frozen=True)
class WeightSample:
    """Some numbers of one weight, at places that its shape alone decides.

    `values` are float32 numbers, `dtype` what they were stored as. `digest` is of all its numbers rounded to bfloat16,
    where those were read; else empty.
    """

    shape: Shape
    dtype: str
    values: tuple[float, ...]
    digest: str = ""


@dataclass(frozen=True)
class Stamp:
    """`adapterfit.json`: the base and the adapter as they were when they were stamped. What is empty was not known then.

    `inventory`: last name of a weight → its shapes, each with how often it occurs behind it. `content`: weights of the
    base that the adapter acts on, by their names at runtime; `touched` is how many of those there are in all.
    `adapter_config` and `adapter_content` are the adapter's; `adapter_now` is what its file holds today.
    """

    file: str
    libraries: Mapping[str, str] = field(default_factory=dict)
    base_name: str = ""
    commit: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    class_name: str = ""
    inventory: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    content: Mapping[str, WeightSample] = field(default_factory=dict)
    touched: int = 0
    rows: int | None = None
    tokens: int | None = None
    tokenizer: str = ""
    adapter_config: AdapterConfig | None = None
    adapter_content: Mapping[str, WeightSample] = field(default_factory=dict)
    adapter_now: Mapping[str, WeightSample] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What was read of a base's numbers, because the adapter has a stamp to compare them with; `why_not` where not."""

    content: Mapping[str, WeightSample] = field(default_factory=dict)
    tokenizer: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Adapter:
    """Everything read about an adapter.

    `layout` says what kind of thing the folder is: `peft`, `weights-only`, `config-only`, `mlx`, `adapterhub`, `merged-model`,
    `trainer-checkpoint`, `diffusers`, `kohya`, `empty`, `other`. `weights` is the file PEFT would load; `others` are weight files
    beside it that were read too. `values` is filled by `--values` only: per tensor, a summary of its numbers.
    """

    label: str
    files: tuple[FileEntry, ...] = ()
    layout: str = "peft"
    config: AdapterConfig | None = None
    weights: Weights | None = None
    others: tuple[Weights, ...] = ()
    flaws: tuple[Flaw, ...] = ()
    tokenizer: Later | None = None
    values: Mapping[str, ValueSummary] | None = None
    stamp: Stamp | None = None

    @property
    def tokenizer_rows(self) -> int | None:
        """Tokens of the tokenizer beside the adapter, or None."""
        return self.tokenizer.get() if self.tokenizer is not None else None

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors of the file PEFT would load; empty where there is none or it was refused."""
        return self.weights.tensors if self.weights is not None else ()


@dataclass(frozen=True)
class ValueSummary:
    """The numbers of one tensor: how many are not finite, how many are zero (None: not counted, not all are), the largest magnitude, the L2 norm."""

    count: int
    not_finite: int
    zeros: int | None
    largest: float
    norm: float
    skipped: str = ""


@dataclass(frozen=True)
class Base:
    """Everything read about a base model. `tensors` are *checkpoint* names; `tree` is set for a live module only.

    `complete` is false where not every shard's header could be read (then missing names prove nothing). `opened`: what it was read from.
    """

    label: str
    config: Mapping[str, Any] | None = None
    config_file: str = ""
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    complete: bool = False
    tokenizer: Later | None = None
    revision: str = ""
    quantisation: str = ""
    remote_code: bool = False
    flaws: tuple[Flaw, ...] = ()
    tree: ModuleTree | None = None
    opened: Source | None = field(default=None, repr=False, compare=False)

    @property
    def tokenizer_rows(self) -> int | None:
        """Tokens of the tokenizer beside the base, or None."""
        return self.tokenizer.get() if self.tokenizer is not None else None

    @property
    def model_type(self) -> str:
        """`model_type` of config.json, or an empty string."""
        value = (self.config or {}).get("model_type")
        return value if isinstance(value, str) else ""

    @property
    def architecture(self) -> str:
        """The first entry of `architectures` in config.json, or an empty string."""
        value = (self.config or {}).get("architectures")
        first = value[0] if isinstance(value, (list, tuple)) and value else ""
        return first if isinstance(first, str) else ""


@dataclass(frozen=True)
class Consumer:
    """Who will load it: library names with exact versions. `given` is false for the default.

    `rules`: what an older pair does otherwise, by the ids of `consumers/peft.toml`; `unknown`: why nothing is known of it.
    `loader`: the call that loads, where it is not `PeftModel.from_pretrained`; what it does otherwise is in the rules, too.
    """

    peft: str = ""
    transformers: str = ""
    given: bool = False
    text: str = ""
    rules: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""
    loader: str = ""


@dataclass(frozen=True)
class Case:
    """What the read stage hands on: the adapter, the base (or None), and the consumer; `seen` for an adapter with a stamp; `served` where an engine is asked for."""

    adapter: Adapter
    base: Base | None
    consumer: Consumer
    seen: Seen | None = None
    served: bool = False


# ------------------------------------------------------------------------------------------------ expect


@dataclass(frozen=True)
class Module:
    """One entry of `model.named_modules()`.

    `kind`: `Linear`, `Conv1D` (transformers'), `Embedding`, `Conv1d`, `Conv2d`, `Conv3d`, `norm`, `MultiheadAttention`, `container`
    (has children) or `other`. `params` are its own, in registration order, name → shape (an `nn.Linear` weight is `(out, in)`, a
    Conv1D weight `(in, out)`). `groups` is a convolution's; `transposed_experts` `is_transposed` of fused expert modules. `fused`: in
    eval mode its forward takes the weights of everything below it itself (known of a live module only). `packing`: how a quantiser
    packed its weight (`gptq`, `bitsandbytes-4bit`); `params` then hold the shape of the matrix that it stands for.
    """

    name: str
    kind: str
    params: Mapping[str, Shape] = field(default_factory=dict)
    class_name: str = ""
    groups: int = 1
    transposed_experts: bool = False
    fused: bool = False
    packing: str = ""


@dataclass(frozen=True)
class LoadRename:
    """A renaming that transformers/PEFT apply to names while loading: regular expression → replacement."""

    pattern: str
    replacement: str


@dataclass(frozen=True)
class ModuleTree:
    """The modules of a base as the *runtime* names them, in `named_modules()` order, duplicates removed.

    `aliases`: a second path of a module object that is reachable twice → its first path. `tied`: names of parameters that share one storage,
    grouped. `known` says from where: `live`, `facts`, `headers`. `doubts` are the reasons why something in it may be wrong; with any, nothing
    *fits*. `adapter_renames` are applied to LoRA keys one after the other, `key_mapping` (of older loaders) to all keys, the first that matches.
    """

    class_name: str
    model_type: str
    modules: tuple[Module, ...]
    known: str
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    tied: tuple[tuple[str, ...], ...] = ()
    input_embeddings: str = ""
    output_embeddings: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    adapter_renames: tuple[LoadRename, ...] = ()
    expert_fusion: str = ""
    doubts: tuple[str, ...] = ()
    key_mapping: tuple[LoadRename, ...] = ()
    unembedded: str = ""  # the class that cannot say which its input embeddings are, where PEFT asks it about ties


@dataclass(frozen=True)
class Slot:
    """One tensor that PEFT would look for in the file.

    `key` is its name in the file, `model_key` the parameter it lands on (adapter called `default`). `role`: `tuner`, `saved-module`,
    `tokens`, `prompt`. `if_missing`: `raises`, `warns`, `silent`. An `optional` slot holds nothing that training changes or PEFT
    saves; a `still` one has no effect by itself. What fills it fills the slot too whose `model_key` it `shares`.
    """

    key: str
    model_key: str
    shape: Shape
    module: str
    role: str = "tuner"
    if_missing: str = "warns"
    optional: bool = False
    shares: str = ""
    still: bool = False


@dataclass(frozen=True)
class Raised:
    """What the loader would raise: the exception's class and its message as it prints it."""

    kind: str
    line: str
    stage: str = "load"

    @property
    def text(self) -> str:
        """`Kind: message`."""
        return f"{self.kind}: {self.line}"


@dataclass(frozen=True)
class Fusion:
    """How PEFT fuses per-expert LoRA tensors of older transformers while loading: leaf names of the old Linears."""

    gate_up: tuple[str, ...]
    down: str


@dataclass(frozen=True)
class Expectation:
    """What PEFT would create for this config on this base.

    `slots` and `state` in the order of the model's state dict; `state` is every parameter of the wrapped model, the base's own
    included (a file may carry some of those: saved biases, embeddings), name → shape. `raised` is set where the injection itself
    fails. `warns` are warnings of the injection. `doubts`: reasons why this may be wrong. `renames`: what the loader does to
    names in the file before it looks for them. `inert`: an adapter whose tensors were not loaded leaves the base's outputs as
    they are. `prefix` is the method's (`lora_`). `flaws` are things in the config that show on this base only (a pattern too slow
    to match against its module names). `packed`: modules of a quantised base that the method does not work on → `raises`,
    `nothing`, `differs`, or `fails` and the line that running it raises.
    """

    tree: ModuleTree
    peft_class: str
    config: Mapping[str, Any]
    slots: tuple[Slot, ...] = ()
    state: Mapping[str, Shape] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    raised: Raised | None = None
    warns: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    renames: tuple[LoadRename, ...] = ()
    fusion: Fusion | None = None
    inert: bool = False
    prefix: str = ""
    flaws: tuple[Flaw, ...] = ()
    packed: Mapping[str, str] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------ compare


@dataclass(frozen=True)
class Match:
    """A tensor of the file that lands on a slot with the right shape."""

    tensor: TensorInfo
    slot: Slot


@dataclass(frozen=True)
class Misshape:
    """A tensor of the file that lands on a parameter of another shape.

    `found` is the shape it arrives with: its own, or that of the fused tensor it is a part of.
    """

    tensor: TensorInfo
    key: str
    model_key: str
    wanted: Shape
    module: str
    found: Shape


@dataclass(frozen=True)
class Diff:
    """The file beside the expectation. Every tensor of the file is in exactly one of the first five lists.

    `overwrites` land on the base's own parameters. `extra` are dropped by the loader; so are `redundant`, second copies, under a
    wrapper's own name, of tensors that land. `renamed`: names the loader itself changes, file name → name it looks for. `warned`:
    parameters in PEFT's "Found missing adapter keys". `resized`: a field of the config, and a value with which every size fits.
    """

    expectation: Expectation
    matched: tuple[Match, ...] = ()
    overwrites: tuple[TensorInfo, ...] = ()
    misshapen: tuple[Misshape, ...] = ()
    extra: tuple[TensorInfo, ...] = ()
    redundant: tuple[TensorInfo, ...] = ()
    missing: tuple[Slot, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    warned: tuple[str, ...] = ()
    raised: Raised | None = None
    resized: tuple[tuple[str, int], ...] = ()


# ------------------------------------------------------------------------------------------------ diagnose


@dataclass(frozen=True)
class Fix:
    """A cure. `safe` means provably the same result; `edits` are empty where only a person can act.

    `far` says of an unsafe one with edits how far from the same result it may be: a number where there is one, else why.
    A repair that can be read in more than one way has no edits, but one sentence for each of its `readings`.
    """

    safety: str
    summary: str
    edits: tuple[Edit, ...] = ()
    far: str = ""
    readings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One cause, found. `at` are the names concerned (all of them; a reporter shows the first few).

    `predicted` is what the loader does about it by itself: `raises`, `warns`, `silent` or `none`. `code` is the reader's finer
    name, where the cause has several. `explains` are the tensor names and slot keys this finding accounts for: diagnose keeps those
    that explain the most. `differs`: every tensor is applied, yet the model computes something else than where the adapter was
    saved; `undecided`: nobody can tell. `idle`: those `at` act on nothing. `settles`: the prediction, though nothing was compared.
    """

    id: str
    severity: str
    message: str
    predicted: str = "none"
    confidence: str = "high"
    at: tuple[str, ...] = ()
    expected: str = ""
    found: str = ""
    fix: Fix | None = None
    code: str = ""
    explains: frozenset[str] = frozenset()
    differs: bool = False
    undecided: bool = False
    idle: bool = False
    settles: str = ""


@dataclass(frozen=True)
class NotChecked:
    """A question that was not answered, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Counts:
    """How many tensors fit, slots are missing, tensors are extra or misshapen."""

    matched: int = 0
    missing: int = 0
    extra: int = 0
    misshapen: int = 0


@dataclass(frozen=True)
class Exact:
    """What an installed PEFT itself did with the names and shapes. With `cannot` there is no answer, and why."""

    cannot: str = ""
    outcome: str = ""
    raised: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The answer. See `docs/json.md` for the meaning of every word in it; `consumers` are the engines asked for."""

    case: Case
    verdict: str
    predicted: str
    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    counts: Counts = Counts()
    raised: Raised | None = None
    diff: Diff | None = None
    next_step: str = ""
    exact: Exact | None = None
    consumers: tuple[Answer, ...] = ()


# ------------------------------------------------------------------------------------------------ why


@dataclass(frozen=True)
class Suspicion:
    """One cause that explains a pasted text.

    `likelihood` (0 to 1) orders the answers; `confidence` is the same in words. `evidence` are lines of the text.
    `apart` says what to look at to tell this cause from the others named. `confirmed`: what the files say, where
    they were looked at: `yes`, `no` or empty.
    """

    id: str
    message: str
    likelihood: float
    confidence: str = "low"
    evidence: tuple[str, ...] = ()
    fix: Fix | None = None
    apart: str = ""
    confirmed: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The answer of `why`: causes, the most likely first; none means that it cannot be told from the text.

    `unread` are parts of the text that no cause accounts for: errors, and what was too much to read.
    """

    symptoms: Symptoms
    causes: tuple[Suspicion, ...] = ()
    unread: tuple[str, ...] = ()
    report: Report | None = None
