"""What an engine does with an adapter: its claims, read by the rules, and added up to one answer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapterfit import discover
from adapterfit.answers import Answer, Effect, Ratio, Sight
from adapterfit.consumers import cures, facts
from adapterfit.consumers.asked import LIBRARIES
from adapterfit.consumers.facts import Claim, Facts
from adapterfit.consumers.rules.modules import differs, has_place
from adapterfit.consumers.versions import version_range
from adapterfit.errors import CannotCheck
from adapterfit.records import NotChecked, TensorInfo
from adapterfit.text import quote

RULES = "adapterfit.consumers.rules"
ALL = "all"
_ASKED = re.compile(r"\s*(?P<name>[A-Za-z][A-Za-z0-9._ -]{0,40}?)\s*(?P<range>[<>=!].{0,80})?\s*")
#: Two scales are one where they differ by no more than rounding.
_SAME = 1e-6
#: Effect kinds that a claim which nobody has seen to be so may not have.
_WEIGHTY = ("refused", "dropped", "differs", "scaled", "flags")
#: What an engine must be known to do something about, where an adapter has it; else nothing it does is called fine.
_MATTERS = (
    "dora", "bias", "lora-bias", "saved-modules", "whole-weights", "trainable-tokens", "init-changes-base", "embedding",
    "lm-head", "fused-experts", "per-expert", "adapter-name-in-keys", "other-prefix", "wrapper-in-keys", "unpaired", "not-lora", "half-pairs", "vision", "torn-pairs", "rank-differs",
)  # fmt: skip


def engines() -> tuple[str, ...]:
    """The engines that have facts, by name."""
    return tuple(name for name in facts.names() if name not in LIBRARIES)


def answers(asked: Iterable[str], sight: Sight) -> tuple[Answer, ...]:
    """One answer for each engine asked for, such as `vllm==0.33.0`; `all` stands for every engine there are facts of.

    Raises:
        CannotCheck: A text is no name with a version.
    """
    found: dict[tuple[str, str], Answer] = {}
    for text in asked:
        if text.strip().lower() == ALL:
            rest = [name for name in engines() if name not in {seen for seen, _ in found}]
            given = [dataclasses.replace(_newest(name, sight), asked=False) for name in rest]
        else:
            given = [_answer(text, sight)]
        found.update({(each.name, each.version): each for each in given})
    return tuple(found.values())


def _newest(name: str, sight: Sight) -> Answer:
    known = facts.load(name)
    return judge(known, known.newest, sight)


def _answer(text: str, sight: Sight) -> Answer:
    match = _ASKED.fullmatch(text)
    if match is None:
        raise CannotCheck(f"the consumer {quote(text)} is not known; say a name and a version, such as vllm==0.33.0")
    wanted = match["range"] or ""
    name = named(match["name"])
    if name is None:
        from difflib import get_close_matches

        near = get_close_matches(match["name"].lower(), engines(), 1)
        meant = f"did you mean {near[0]}? " if near else ""
        return _unknown(match["name"], wanted, f"there are no facts about it; {meant}known: {', '.join(engines())}")
    known = facts.load(name)
    try:
        fitting = [each for each in releases(known) if each in version_range(wanted)]
    except ValueError as wrong:
        raise CannotCheck(f"the consumer {quote(text)}: {wrong}") from None
    if not fitting:
        have = f"only {', '.join(releases(known))} of {known.title} is known"
        return _unknown(name, wanted.removeprefix("=="), have, known.title)
    found = judge(known, fitting[-1], sight)
    if wanted and not wanted.startswith("=="):
        gap = NotChecked(f"the rest of {known.title} {wanted}", f"the facts are those of {fitting[-1]}")
        found = dataclasses.replace(found, not_checked=(*found.not_checked, gap))
    return found


def releases(known: Facts) -> tuple[str, ...]:
    """The versions whose behaviour is known."""
    return known.releases or (known.newest,)


def named(text: str) -> str | None:
    """The engine somebody means: its name, however its parts are joined, or one of its other names."""
    wanted = _plain(text)
    return next((name for name in engines() if wanted in {_plain(each) for each in (name, *_aliases(name))}), None)


def _aliases(name: str) -> tuple[str, ...]:
    return (*facts.load(name).aliases, facts.load(name).title)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _unknown(name: str, version: str, why: str, title: str = "") -> Answer:
    gap = (NotChecked(f"what {title or name} does with it", why),)
    effect = Effect("unknown", why.partition("; ")[0])
    return Answer(
        name, title or name, version, "cannot-tell", "unknown", effects=(effect,), not_checked=gap, known=False
    )


# ------------------------------------------------------------------------------------------------ one engine


def judge(known: Facts, at: str, sight: Sight) -> Answer:
    """The answer of one engine at one version."""
    claims = [claim for claim in known.at(at) if isinstance(claim.value, Mapping)]
    read = [(claim, _rule(claim)) for claim in claims]
    effects = [
        _signed(effect, claim) for claim, rule in read for effect in rule.effects({**claim.value, "release": at}, sight)
    ]
    launch = [line for claim, rule in read if hasattr(rule, "lines") for line in rule.lines(claim.value, sight)]
    ratios: tuple[Ratio, ...] = ()
    for claim, rule in read:
        if hasattr(rule, "ratios") and claim.mark != "suspected":
            ratios = _of_applied(rule.ratios(claim.value, sight), sight, effects)
            effects += [_signed(effect, claim) for effect in _scaled(ratios)]
    values = [claim.value for claim in claims if claim.mark != "suspected"]
    effects += _untold(values, sight)
    placed = any(value.get("by_leaf") or value["rule"] == "architecture-table" for value in values)
    effects += _misfits(effects, sight, placed=placed)
    return _added_up(known, at, sight, effects, ratios, launch)


def _rule(claim: Claim) -> Any:
    return discover.member(RULES, claim.value["rule"].replace("-", "_"))


def _untold(values: list[Mapping[str, Any]], sight: Sight) -> Iterable[Effect]:
    """What is special about the adapter and no claim speaks of."""
    told = {word for value in values for word in (value.get("feature"), *value.get("covers", ()))}
    spoken_of = {name for word in told for name in sight.features.get(word, ())}
    for word in _MATTERS:
        at = sight.features.get(word)
        if at is not None and word not in told and not (at and set(at) <= spoken_of):
            yield Effect("unknown", f"no facts about {word.replace('-', ' ')}", at=at, claim=word)
    if sight.pairs and not any(_speaks_of_scale(value, sight) for value in values):
        yield Effect("unknown", "no facts about the scale it applies", claim="scale")


def _speaks_of_scale(value: Mapping[str, Any], sight: Sight) -> bool:
    return value["rule"] == "scale" or (value["rule"] == "single-file" and sight.dialect in value["layouts"])


def _signed(effect: Effect, claim: Claim) -> Effect:
    """With where it is known from; what was only suspected is a note."""
    doubted = claim.mark == "suspected"
    kind = "note" if doubted and effect.kind in _WEIGHTY else effect.kind
    message = f"suspected: {effect.message}" if doubted else effect.message
    return dataclasses.replace(
        effect,
        kind=kind,
        message=message,
        claim=claim.id,
        mark=claim.mark,
        source=claim.source,
        date=claim.date.isoformat(),
    )


def _misfits(effects: Iterable[Effect], sight: Sight, *, placed: bool) -> Iterable[Effect]:
    """Tensors that do not fit the base, where no claim decides what becomes of them; `placed`: one finds their modules."""
    if sight.places is None:
        return
    decided = {name for effect in effects if effect.kind in _ORDER[:2] for name in effect.at}
    strangers = [pair for pair in sight.pairs if not has_place(pair, sight)]
    unplaced = [] if placed else [name for pair in strangers for name in pair.names]
    placed_pairs = [(pair, sight.places.get(pair.module)) for pair in sight.pairs if pair.kind != "experts"]
    odd = [name for pair, place in placed_pairs if place is not None and differs(pair, place) for name in pair.names]
    odd += [tensor.name for tensor in sight.others if _is_other_size(tensor, sight)]
    for names, what in ((unplaced, "modules that the base does not have"), (odd, "modules of other sizes")):
        left = tuple(name for name in names if name not in decided)
        if left:
            yield Effect("unknown", f"made for {what}; what it does with them is not known", at=left, claim="fit")


def _is_other_size(tensor: TensorInfo, sight: Sight) -> bool:
    """Whether a whole weight in the file has another shape than the base's own."""
    module = tensor.name.removeprefix("base_model.model.").removesuffix(".weight")
    place = (sight.places or {}).get(module)
    if place is None or place.width is None or place.height is None or len(tensor.shape) != 2:
        return False
    return sorted(tensor.shape) != sorted((place.width, place.height))


def _of_applied(ratios: Iterable[Ratio], sight: Sight, effects: Iterable[Effect]) -> tuple[Ratio, ...]:
    """Without the modules whose tensors fall away."""
    lost = {name for effect in effects if effect.kind == "dropped" for name in effect.at}
    gone = {pair.module for pair in sight.pairs if set(pair.names) <= lost}
    return tuple(ratio for ratio in ratios if ratio.module not in gone)


def _scaled(ratios: tuple[Ratio, ...]) -> Iterable[Effect]:
    other = [ratio for ratio in ratios if not same(ratio)]
    if any(ratio.served is None for ratio in other):
        yield Effect("unknown", "the scale it applies cannot be told", at=tuple(ratio.module for ratio in other))
    elif other:
        message = f"applies {len(other)} of {len(ratios)} modules with another scale than PEFT"
        yield Effect(
            "scaled", message, at=tuple(ratio.module for ratio in other), cure="fold", page="served-differently"
        )


def same(ratio: Ratio) -> bool:
    """Whether the engine applies what PEFT applies."""
    if ratio.served is None:
        return False
    return abs(ratio.served - ratio.trained) <= _SAME * max(abs(ratio.trained), abs(ratio.served))


def _added_up(
    known: Facts, at: str, sight: Sight, effects: list[Effect], ratios: tuple[Ratio, ...], launch: list[str]
) -> Answer:
    kinds = {effect.kind for effect in effects}
    lost = {name for effect in effects if effect.kind == "dropped" for name in effect.at}
    every = sight.names
    left = len([name for name in every if name not in lost])
    gaps = list(_gaps(known, sight, effects))
    predicted = _predicted(kinds, lost, left, sight)
    if predicted == "loads" and (gaps or not every):
        predicted = "cannot-tell"
    refused = predicted == "raises"
    found = Answer(
        name=known.name,
        title=known.title,
        version=at,
        predicted=predicted,
        accepted=_accepted(kinds, predicted),
        tensors=len(every),
        applied=0 if refused else None if predicted == "cannot-tell" else left,
        ratios=() if refused else ratios,
        effects=cures.written(sorted(effects, key=lambda effect: _ORDER.index(effect.kind)), ratios, sight),
        launch=() if refused else tuple(launch),
        not_checked=tuple(gaps),
    )
    best = cures.best(found.deciding)
    return found if best is None else dataclasses.replace(found, cure=best.cure, run=best.run)


_ORDER = ("refused", "dropped", "differs", "scaled", "unknown", "flags", "note")


def _predicted(kinds: set[str], lost: set[str], left: int, sight: Sight) -> str:
    """The worst that is certain; what cannot be told counts where nothing is amiss."""
    if "refused" in kinds:
        return "raises"
    if lost and not left:
        return "loads-without-effect"
    if lost and sight.pairs and all(name in lost for pair in sight.pairs for name in pair.names):
        return "loads-without-effect"
    if lost:
        return "loads-partly"
    if kinds & {"differs", "scaled"}:
        return "loads-differently"
    return "cannot-tell" if "unknown" in kinds else "loads"


def _accepted(kinds: set[str], predicted: str) -> str:
    if predicted == "raises":
        return "no"
    if predicted == "cannot-tell":
        return "unknown"
    return "with-flags" if "flags" in kinds else "yes"


def _gaps(known: Facts, sight: Sight, effects: Iterable[Effect]) -> Iterable[NotChecked]:
    """What keeps an answer from being whole."""
    if not sight.names:
        yield NotChecked(f"{known.title}: the tensors", "the adapter's weights could not be read")
    for effect in effects:
        if effect.kind == "unknown":
            yield NotChecked(f"{known.title}: {effect.claim or 'what it does'}", effect.message)
    if sight.places is None and sight.dialect in ("peft", "transformers", ""):
        what = f"{known.title}: whether the base has these modules, and takes a LoRA"
        yield NotChecked(what, "no base is known; in the adapter's own files nothing speaks against it")
