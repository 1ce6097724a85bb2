"""The two sides of a fused experts' matrix exchanged: seen by its sizes, or, where it is square, by who wrote the file.

PEFT 0.17 to 0.19.0 took the first side of a parameter (experts, ., .) for its input, 0.19.1 and later the second, unless
transformers marks the layer as transposed, which it does for more layers since its version 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import finding
from adapterfit.causes.dates import loader
from adapterfit.edits import Edit, Rename, Reshape, SetConfig, Transpose
from adapterfit.records import Case, Diff, Finding, Fix, Match, Misshape, Module, TensorInfo
from adapterfit.text import quote, show

#: Types whose fused experts say `is_transposed` since transformers 5, and said nothing before.
MARKED_SINCE_5 = ("gpt_oss",)
#: A module that is one expert's.
EXPERT = re.compile(r"(?P<holder>.*\.experts)\.\d+\.(?P<leaf>\w+)", re.ASCII)
_DONE = "exchange A and B of every expert: A'[e, r, :] = B[:, r, e] and B'[:, r, e] = A[e, r, :]"
_SWAP = "exchange A and B of every expert (A'[e, r, :] = B[:, r, e]), or load with the versions of the training"


def by_size(case: Case, diff: Diff) -> Iterator[Finding]:
    """A and B of a fused layer have each other's sizes. Where one parameter shows it, it is true for square ones, too."""
    by_name = anatomy.modules(diff)
    wrong = {entry.key: entry for entry in diff.misshapen if anatomy.of_experts(by_name.get(entry.module))}
    swapped = [entry for entry in wrong.values() if is_exchanged(entry, wrong)]
    if swapped:
        first = swapped[0]
        square = [match for match in diff.matched if anatomy.of_experts(by_name.get(match.slot.module))]
        edits: tuple[Edit, ...] = ()
        if len(swapped) == len(diff.misshapen) and _all_square(square):
            edits = _exchange(
                case, by_name, {**{e.tensor: e.module for e in swapped}, **{m.tensor: m.slot.module for m in square}}
            )
        layers = evidence.layers_said(evidence.layer_number(entry.module) for entry in swapped)
        yield finding(
            f"A and B of the fused experts have each other's sizes{layers}: PEFT changed which side of a 3-D parameter is "
            "its input in 0.19, and transformers 5 which layers count as transposed",
            at=[entry.tensor for entry in swapped],
            predicted="raises",
            found=f"{quote(first.tensor.name)} {list(first.found)}",
            expected=str(list(first.wanted)),
            fix=Fix("safe", _DONE, edits) if edits else Fix("unsafe", _SWAP),
        )


def _exchange(case: Case, by_name: Mapping[str, Module], of: Mapping[TensorInfo, str]) -> tuple[Edit, ...]:
    """A'[e, r, :] = B[:, r, e] and B'[:, r, e] = A[e, r, :] for every pair; A lies as (E r, d), B as (d, r E).

    The version in the config goes along: it says which layout the file has. Empty where a pair is not of that kind.
    """
    named = {tensor.name: tensor for tensor in of}
    edits: list[Edit] = []
    for a in (tensor for tensor in of if tensor.name.endswith(".lora_A.weight")):
        b = named.get(a.name.replace(".lora_A.", ".lora_B."))
        sides = sorted((a.shape[1], b.shape[0])) if b is not None else []
        counts = [shape[0] for shape in anatomy.of_experts(by_name.get(of[a])).values() if sorted(shape[1:]) == sides]
        if b is None or not counts or a.shape[0] != b.shape[1] or a.shape[0] % counts[0]:
            return ()
        count, rank = counts[0], a.shape[0] // counts[0]
        edits += (Reshape(a.name, (count, rank, a.shape[1])), Reshape(b.name, (b.shape[0], rank, count)))
        edits += (Transpose(a.name, (2, 1, 0)), Transpose(b.name, (2, 1, 0)))
        edits += (Reshape(a.name, (a.shape[1], b.shape[1])), Reshape(b.name, (a.shape[0], b.shape[0])))
        edits += (Rename(a.name, b.name), Rename(b.name, a.name))
    whole = len(edits) == 4 * len(of)
    return (*edits, SetConfig("peft_version", case.consumer.peft)) if whole else ()


def is_exchanged(entry: Misshape, wrong: Mapping[str, Misshape]) -> bool:
    """Whether a tensor has the size wanted of its other factor, and the other way round. `wrong`: all, by key."""
    swap = {"lora_A": "lora_B", "lora_B": "lora_A"}
    key = re.sub(r"\blora_[AB]\b", lambda match: swap[match[0]], entry.key)
    other = wrong.get(key)
    return other is not None and entry.found == other.wanted[::-1] and other.found == entry.wanted[::-1]


def by_writer(case: Case, diff: Diff) -> Iterator[Finding]:
    """Everything lands, and the sides may be exchanged all the same: no size shows it."""
    by_name = anatomy.modules(diff)
    layers = {match.slot.module for match in diff.matched} & {
        name for name, m in by_name.items() if anatomy.of_experts(m)
    }
    landed = [match for match in diff.matched if match.slot.module in layers and "lora_" in match.slot.key]
    config = case.adapter.config
    if (
        not landed
        or diff.misshapen
        or not _all_square(landed)
        or config is None
        or any(EXPERT.match(evidence.parts(t.name).module) for t in case.adapter.tensors)
    ):
        return
    transposed = {by_name[match.slot.module].transposed_experts for match in landed}
    told = config.raw.get("peft_version")
    writer = told if isinstance(told, str) else config.newest
    before = _version(writer)
    if loader(diff).get("parameter-layout") == "plain":
        if before and before >= (0, 19, 1):
            yield _square_for_older(case, landed, writer, sure=case.base is not None and not _marked_later(case))
        return
    if transposed == {False} and before and before < (0, 19, 1):
        yield finding(
            f"written by PEFT {show(writer)}, which took the other side of the experts' square matrices for their "
            f"input: every tensor loads, and the experts{evidence.layers_said(map(evidence.layer_number, layers))} compute "
            "something else",
            at=[match.tensor for match in landed],
            predicted="silent",
            found=f"PEFT {show(writer)}",
            expected="PEFT 0.19.1 or later",
            fix=_fix_of_square(case, by_name, landed),
            differs=True,
        )
    elif transposed == {False} and not isinstance(told, str) and _version(config.oldest or "0") < (0, 19, 1):
        yield finding(
            "the experts' matrices are square, so no size shows which side the adapter took for their input, and no version of PEFT "
            "is recorded: it changed in 0.19.1",
            at=[match.tensor for match in landed],
            severity="warning",
            predicted="silent",
            confidence="low",
            undecided=True,
            found="square matrices",
            expected="peft_version in adapter_config.json",
            fix=Fix(
                "unsafe",
                f"if it was written by PEFT 0.17 to 0.19.0: {_SWAP}",
                readings=(
                    "written by PEFT 0.19.1 or later: it is right as it is",
                    f"written by PEFT 0.17 to 0.19.0: {_DONE}",
                ),
            ),
        )
    elif transposed == {True} and (not before or before >= (0, 19)):
        yield _by_unknown_transformers(landed, right=5, wrong=4)
    elif transposed == {False} and _marked_later(case):
        yield _by_unknown_transformers(landed, right=4, wrong=5)


def _marked_later(case: Case) -> bool:
    """Whether only a later transformers than the loader's says which side of these experts is their input."""
    return case.base is not None and case.base.model_type in MARKED_SINCE_5


def _by_unknown_transformers(landed: list[Match], *, right: int, wrong: int) -> Finding:
    """The side depends on the transformers of the writer, which no file records."""
    return finding(
        "the experts' matrices are square, so no size shows which side the adapter took for their input: right if it was "
        f"saved with transformers {right}, exchanged if with transformers {wrong}; the version is not recorded",
        at=[match.tensor for match in landed],
        severity="warning",
        predicted="silent",
        confidence="low",
        undecided=True,
        found="square matrices",
        expected=f"an adapter saved with transformers {right}",
        fix=Fix(
            "unsafe",
            f"if it was saved with transformers {wrong}: {_SWAP}",
            readings=(
                f"saved with transformers {right}: it is right as it is",
                f"saved with transformers {wrong}: {_DONE}",
            ),
        ),
    )


def _fix_of_square(case: Case, by_name: Mapping[str, Module], landed: list[Match]) -> Fix:
    edits = _exchange(case, by_name, {match.tensor: match.slot.module for match in landed})
    return Fix("safe", _DONE, edits) if edits else Fix("unsafe", _SWAP)


def _square_for_older(case: Case, landed: list[Match], writer: str, *, sure: bool) -> Finding:
    """A PEFT before 0.19 takes the first dimension for the input; a later one for the output, unless the module says so."""
    return finding(
        f"written by PEFT {show(writer)}, and PEFT {show(case.consumer.peft)} takes the other side of the experts' square matrices "
        "for their input" + ("" if sure else ", unless it was saved with transformers 5: the version is not recorded"),
        at=[match.tensor for match in landed],
        severity="error" if sure else "warning",
        predicted="silent",
        confidence="high" if sure else "low",
        found=f"PEFT {show(writer)}",
        expected=f"PEFT {show(case.consumer.peft)} or older",
        fix=Fix("unsafe", f"pip install 'peft>=0.19.1', or {_SWAP}"),
        differs=sure,
        undecided=not sure,
    )


def _all_square(landed: list[Match]) -> bool:
    """Whether the sides that A and B show are equal, for each parameter that has them."""
    widths: dict[str, set[int]] = {}
    for match in landed:
        parts = evidence.parts(match.slot.key)
        known = anatomy.size(parts.leaf, match.slot.shape)
        if known is not None:
            widths.setdefault(parts.module, set()).add(known[1])
    return all(len(sides) == 1 for sides in widths.values())


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if evidence.is_number(part))
