"""The seven stages composed; the one module that imports them all.

``read ──► expect ──► compare ──► diagnose ──► plan`` — repair and verify follow in later versions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterfit.compare.difference import compare
from adapterfit.consumers import asked
from adapterfit.consumers.choice import choose, default, others_installed
from adapterfit.diagnose.diagnosis import diagnose
from adapterfit.diagnose.steps import next_step
from adapterfit.edits import Edit
from adapterfit.errors import BadInput
from adapterfit.expect import plain
from adapterfit.expect.candidates import candidates
from adapterfit.expect.expectation import expect
from adapterfit.expect.places import places
from adapterfit.read.adapter import read_adapter
from adapterfit.read.base import read_base as read_base_source
from adapterfit.read.config import parse_config
from adapterfit.read.live import base_from_module, is_live
from adapterfit.read.locate import base_in_cache, locate
from adapterfit.read.seen import in_files, in_module
from adapterfit.records import (
    Adapter,
    AdapterConfig,
    Base,
    Case,
    Consumer,
    Diagnosis,
    Diff,
    Exact,
    ModuleTree,
    NotChecked,
    Report,
    Seen,
    TensorInfo,
)
from adapterfit.text import show

#: Outcomes from good to bad; among the classes a base may be loaded as, the best one is reported.
_BEST_FIRST = ("loads", "loads-differently", "loads-partly", "loads-without-effect", "raises", "cannot-tell")


def check(
    adapter: Any,
    base: Any = None,
    consumer: str | Sequence[str] | Consumer | None = None,
    *,
    online: bool = False,
    values: bool = False,
    base_class: str | None = None,
    exact: bool = False,
    python: str | None = None,
    loader: str | None = None,
) -> Report:
    """Does this adapter fit this base, and what will the loader do by itself?

    Args:
        adapter: A folder, a file, `hf://owner/name`, or an `Adapter` read before.
        base: A folder, `config.json`, a safetensors file or index, a Hub id, a live `nn.Module`, or a `Base` read
            before. Without one, the base the adapter names is looked up in the local Hub cache.
        consumer: Who will load it, such as `peft==0.21.2,transformers==5.23.0` or `vllm==0.33.0`; a list for several.
            `all` is every engine there are facts of. A `Consumer` chosen before serves as well. By default the
            installed peft and transformers; else, and where there are no facts of those, the newest known.
        online: Whether the network may be asked.
        values: Whether to read the numbers too.
        base_class: The transformers class the base is loaded as; by default what its config and the adapter say.
        exact: Whether to ask the installed PEFT too, in a process of its own; its answer is in `Report.exact`.
        python: The Python whose PEFT is asked; this one by default.
        loader: The call that loads: `PeftModel.from_pretrained` (the default), `PeftModel.load_adapter` (as a second adapter,
            beside one with the same config), or `model.load_adapter` (of transformers; the default where `consumer` names
            transformers alone).

    Raises:
        CannotCheck: A path is not there, cannot be read, or changed meanwhile.
    """
    libraries, engines = ((), ()) if isinstance(consumer, Consumer) else asked.sort(consumer)
    text = libraries[-1] if libraries else None
    ranged = text if text is not None and asked.is_range(text) else None
    who = consumer if isinstance(consumer, Consumer) else _chosen(text, loader, ranged=ranged is not None)
    found = adapter if isinstance(adapter, Adapter) else _adapter(str(adapter), online=online, values=values)
    case = Case(found, _base(base, found.config, online=online), who, served=bool(engines))
    case = dataclasses.replace(case, seen=_seen(case, base, full=values))
    report = _after_cure(_worst(case, ranged, base_class, loader) if ranged else _best(case, base_class))
    report = _together(report) if report.case.consumer.rules else report
    unlike = () if who.given or ranged else tuple(_not_for(other, who) for other in others_installed(who))
    report = dataclasses.replace(
        report,
        not_checked=(*report.not_checked, *_unseen(case), *unlike),
        next_step=next_step(report),
        exact=_exact(report, base_class, python) if exact else None,
    )
    return _served(report, engines) if engines else report


def _chosen(text: str | None, loader: str | None, *, ranged: bool) -> Consumer:
    """Who is asked for; of a range the newest, until each of its versions is asked."""
    return default(loader) if text is None else choose(None if ranged else text, loader)


def _worst(case: Case, text: str, base_class: str | None, loader: str | None) -> Report:
    """The report for the versions of a range that do worst."""
    from adapterfit.ranging import worst

    return worst(case, text, lambda one: _best(one, base_class), loader)


def _served(report: Report, engines: tuple[str, ...]) -> Report:
    """With what the engines asked for do."""
    from adapterfit.serving import served

    return served(report, engines)


def _together(report: Report) -> Report:
    """With install lines that work beside the other library that was asked about."""
    from adapterfit.consumers.installs import together

    return together(report)


def _not_for(other: str, who: Consumer) -> NotChecked:
    return NotChecked(
        f"{show(other)}, which is installed here",
        f"the answer is for peft {who.peft} and transformers {who.transformers}",
    )


def _exact(report: Report, base_class: str | None, python: str | None) -> Exact:
    """The judge's answer for the class our own answer is for."""
    from adapterfit.judging import judge

    base = report.case.base
    if base is not None and report.diff is not None and report.diff.expectation.packed:
        return Exact(
            cannot=f"the real PEFT is asked with plain modules, and this base's are packed ({base.quantisation})"
        )
    tree = report.diff.expectation.tree if report.diff is not None else None
    return judge(report.case, base_class or (tree.class_name if tree else base.architecture if base else ""), python)


def _best(case: Case, base_class: str | None) -> Report:
    """The report for the class of the base with which the adapter does best."""
    case = _as_loaded(case)
    reports = [diagnose(case, diff, why) for diff, why in _compared(case, base_class)]
    return min(reports, key=lambda one: _BEST_FIRST.index(one.predicted))


def _as_loaded(case: Case) -> Case:
    """The case with the adapter's config as an older PEFT takes it; unchanged for the newest."""
    if not case.consumer.rules:
        return case
    from adapterfit.consumers.refusals import CODES, refusals
    from adapterfit.read.config_then import as_loaded

    rules, adapter = case.consumer.rules, case.adapter
    others = tuple(flaw for flaw in adapter.flaws if flaw.code not in CODES)  # a case may come here twice
    config = as_loaded(adapter.config, rules) if adapter.config is not None else None
    taken = dataclasses.replace(adapter, config=config)
    flaws = (*refusals(rules, taken, case.base), *others)
    return dataclasses.replace(case, adapter=dataclasses.replace(taken, flaws=flaws))


def why(
    text: str,
    adapter: Any = None,
    base: Any = None,
    consumer: str | None = None,
    *,
    online: bool = False,
) -> Diagnosis:
    """Which causes explain this traceback, log or error line, the most likely first.

    Args:
        text: What was printed, as it was pasted: cut, coloured and wrapped is fine.
        adapter: The adapter it is about, as for `check`; with it the answer is confirmed on the files.
        base: The base it was loaded on, as for `check`.
        consumer: Who loaded it, as for `check`.
        online: Whether the network may be asked.

    Raises:
        CannotCheck: A path is not there, or cannot be read.
    """
    from adapterfit.diagnose.recognition import confirm, recognise
    from adapterfit.read.log import read_log

    diagnosis = recognise(read_log(text))
    if adapter is None:
        return diagnosis
    return confirm(diagnosis, check(adapter, base, consumer, online=online))


def read_base(base: Any, *, online: bool = False) -> Base:
    """Read a base once, to check many adapters against it.

    Raises:
        CannotCheck: The base is not there or cannot be read.
    """
    if isinstance(base, Base):
        return base
    if is_live(base):
        return base_from_module(base)
    with contextlib.closing(locate(str(base), kind="base", online=online)) as source:
        return read_base_source(source)


def _adapter(named: str, *, online: bool, values: bool) -> Adapter:
    with contextlib.closing(locate(named, kind="adapter", online=online)) as source:
        return read_adapter(source, values=values)


def _base(base: Any, config: AdapterConfig | None, *, online: bool) -> Base | None:
    if base is not None:
        return read_base(base, online=online)
    named = config.raw.get("base_model_name_or_path") if config is not None else None
    source = base_in_cache(named, config.raw.get("revision") if config is not None else None)
    if source is None:
        return None
    with contextlib.closing(source):
        return read_base_source(source)


def _seen(case: Case, given: Any, *, full: bool) -> Seen | None:
    """The base's numbers that the adapter's stamp knows; `full`: all of them, where the stamp has them."""
    stamp, base = case.adapter.stamp, case.base
    if stamp is None or base is None:
        return None
    if is_live(given):
        return in_module(given, stamp, full=full)
    if base.opened is None:
        return Seen(why_not="the base was read from a live model before; give the model itself")
    with contextlib.closing(base.opened):
        return in_files(base.opened, places(base, stamp.class_name), stamp, full=full)


def _unseen(case: Case) -> tuple[NotChecked, ...]:
    why = case.seen.why_not if case.seen is not None else ""
    return (NotChecked("the base's numbers beside the stamp", why),) if why else ()


def _compared(case: Case, base_class: str | None) -> Iterable[tuple[Diff | None, list[NotChecked]]]:
    """One comparison per class the base may be loaded as, until one fits."""
    why = _unknown(case)
    if why is not None or case.base is None or case.adapter.config is None:
        yield None, [why] if why is not None else []
        return
    try:
        trees = candidates(case.base, case.adapter.config, base_class)
    except BadInput as bad:
        yield None, [NotChecked("the base's modules", bad.flaw.message)]
        return
    known = [tree for tree in trees if tree.modules]
    if not known:
        yield None, [NotChecked("whether it fits", doubt) for tree in trees for doubt in tree.doubts]
        return
    for tree in known:
        diff = _diff(tree, case)
        yield diff, [NotChecked("whether it fits", doubt) for doubt in diff.expectation.doubts]
        if _clean(diff) and not diff.missing:
            return


def _diff(tree: ModuleTree, case: Case) -> Diff:
    adapter, rules = case.adapter, case.consumer.rules
    if adapter.config is None:
        raise AssertionError("an expectation needs a config")

    def made(config: AdapterConfig) -> Diff:
        return (
            _as_then(tree, config, adapter.tensors, rules) if rules else compare(adapter.tensors, expect(tree, config))
        )

    diff = made(adapter.config)
    if diff.misshapen:
        from adapterfit.resizing import resized

        diff = dataclasses.replace(diff, resized=resized(diff, adapter.config, made))
    # A tree from headers that has no doubts is one reading of a plain module: it is taken if it explains everything.
    if tree.known != "headers" or tree.doubts or _clean(diff):
        return diff
    return dataclasses.replace(diff, expectation=dataclasses.replace(diff.expectation, doubts=(plain.DOUBT,)))


def _as_then(tree: ModuleTree, config: AdapterConfig, tensors: Sequence[TensorInfo], rules: Mapping[str, Any]) -> Diff:
    """The comparison as older libraries make it."""
    from adapterfit.expect.history import as_built

    return compare(tensors, expect(as_built(tree, rules), config, rules))


def _clean(diff: Diff) -> bool:
    """Every tensor lands, and every slot that training fills is filled."""
    empty = any(not slot.optional for slot in diff.missing)
    return diff.raised is None and not (empty or diff.extra or diff.misshapen or diff.expectation.doubts)


def _unknown(case: Case) -> NotChecked | None:
    """What keeps us from comparing at all."""
    adapter = case.adapter
    if adapter.config is None:
        return NotChecked("whether it fits", "the adapter has no readable adapter_config.json")
    if not adapter.config.known:
        return NotChecked("whether it fits", "the adapter's method is unknown, or its config cannot be read")
    if adapter.weights is None or adapter.weights.refused:
        return NotChecked("whether it fits", "the adapter's weights could not be read")
    if any(flaw.refused for flaw in adapter.config.flaws):
        return NotChecked("whether it fits", "adapter_config.json has values that PEFT cannot take")
    if case.base is None:
        return NotChecked(
            "whether it fits", "no base was given, and the one the adapter names is not in the local Hub cache"
        )
    if case.consumer.unknown:
        return NotChecked("whether it fits", case.consumer.unknown)
    return None


def cured(report: Report, edits: tuple[Edit, ...]) -> Report:
    """The report on the adapter as it would be after `edits`, carried out on the records alone."""
    from adapterfit.plan.apply import apply
    from adapterfit.read.formats._names import remarks

    case = dataclasses.replace(report.case, adapter=apply(report.case.adapter, edits, reparse, remarks))
    wanted = report.diff.expectation.tree.class_name if report.diff is not None else None
    return _best(case, wanted if case.base is not None and case.base.tree is None else None)


def _after_cure(report: Report) -> Report:
    """*does not fit* becomes *fits after fix* where the safe cures, tried on the records, make it load."""
    if report.verdict != "does-not-fit":
        return report
    if not any(found.fix is not None and found.fix.edits for found in report.findings):
        return report
    from adapterfit.fixing import planned
    from adapterfit.plan.cures import stays

    if any(map(stays, report.findings)):
        return report
    _, after = planned(report, cured)
    return dataclasses.replace(report, verdict="fits-after-fix") if after.verdict == "fits" else report


def reparse(raw: dict[str, Any]) -> AdapterConfig:
    """A config as it would be read from the disk."""
    return parse_config(json.dumps(raw).encode())
