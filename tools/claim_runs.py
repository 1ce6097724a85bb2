"""The claims about peft and transformers beside measured loads: which are borne out, which are refuted, and by how many.

    python tools/claim_runs.py [--rows FILE ...] [--seen FILE ...] [--record src/adapterfit/consumers/verified.jsonl]

A load speaks of a claim where our answer is another one without it, or with what the claim says of other versions in its
place: then what happened decides between the two, the outcome or the line that was raised. A claim is *confirmed* at a version
where such loads went as claimed, and *refuted* where the outcome of one of them was that without it. Where we say *cannot tell*
nothing is claimed. Loads come from the shared matrix and from `tools/measure_loads.py` (`--rows`, by any of the three loaders).
A claim that changes no outcome is asked by code (`tools/claim_code.py`, `--seen`): there the value that was seen is compared with
the one that is claimed. What `import-needs` says is held against which pairs could be imported at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import matrix, record_runs

from adapterfit.consumers import facts, runs
from adapterfit.consumers.choice import LOADERS, choose, merged
from adapterfit.consumers.versions import version_range
from adapterfit.records import Consumer

#: Loads asked about one claim and one pair, spread over the kinds of adapter: they are alike within a kind.
ENOUGH, OF_A_KIND = 40, 4
_DEFAULT = next(iter(LOADERS))


class Key(NamedTuple):
    """One claim at one version of its library, as one loader was run."""

    consumer: str
    version: str
    place: int


@cache
def as_read(name: str) -> facts.Facts:
    """The claims as the files say them: what earlier runs said must not decide this one."""
    return dataclasses.replace(facts.load(name), ran={})


def claims_of(row: dict[str, Any]) -> Iterator[tuple[Key, facts.Claim]]:
    """The claims that rules read where this load was made; those about another loader are left out."""
    pair = {"peft": row["loader_peft"], "transformers": row["loader_tf"]}
    mark = LOADERS[row.get("loader", _DEFAULT)]
    marks = tuple(filter(None, LOADERS.values()))
    for name, version in pair.items():
        for place, claim in enumerate(as_read(name).claims):
            own = not claim.id.startswith(marks) or (mark and claim.id.startswith(mark))
            if own and claim.value is not None and claim.holds(version, pair):
                yield Key(name, version, place), claim


class Heard(dict[str, Any]):
    """Rules that remember which of them were asked for."""

    def __init__(self, rules: dict[str, Any]) -> None:
        super().__init__(rules)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dictionary."""
        self.names.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)


def consumer_of(row: dict[str, Any], without: Key | None = None, instead: Any = None) -> Consumer:
    """Who loaded, with the rules of the claims as they are read; without one of them, or with another value for it."""
    loader = row.get("loader", _DEFAULT)
    pair = {"peft": row["loader_peft"], "transformers": row["loader_tf"]}
    who = choose(",".join(f"{name}=={version}" for name, version in pair.items()), loader)
    of = {name: as_read(name) for name in pair}
    if without is not None:
        known = of[without.consumer]
        changed = dataclasses.replace(known.claims[without.place], value=instead)
        claims = (*known.claims[: without.place], changed, *known.claims[without.place + 1 :])
        of[without.consumer] = dataclasses.replace(known, claims=claims)
    rules = merged(of["peft"].rules(pair["peft"], pair), of["transformers"].rules(pair["transformers"], pair), loader)
    return dataclasses.replace(who, rules=Heard({**pair, **rules}))


def score(each: matrix.Outcome) -> tuple[bool, bool] | None:
    """How well we said what happened: the outcome; and of an exception its line, as far as it was kept. None: we did not say."""
    if each.ours not in matrix.OUTCOMES:
        return None
    raised = each.report.raised if each.report is not None else None
    detail = each.row["detail"]
    if each.truth != "raises" or raised is None or not detail:
        return each.agrees, True
    kind, _, said = raised.text.partition(": ")
    there, _, line = detail.partition(": ")
    return each.agrees, kind == there and said[:40] == line[:40]


def spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some of the rows: a few of each kind of adapter and outcome, exceptions of each class."""
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for row in rows:
        alike = row["kind"], row["outcome"], row["detail"].partition(":")[0]
        seen[alike] += 1
        if seen[alike] <= OF_A_KIND:
            found.append(row)
    return found


class Evidence(NamedTuple):
    """The loads, or what was seen by code, that speak of one claim: for it, and against it."""

    claim: facts.Claim
    beside: dict[str, str]
    date: dt.date
    good: list[dict[str, Any]]
    bad: list[dict[str, Any]]


def evidence(rows: list[dict[str, Any]], date: dt.date) -> Iterator[tuple[Key, Evidence]]:
    """What the loads of one pair by one loader say about the claims that hold there."""
    asked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    whole: dict[int, matrix.Outcome] = {}
    mark = LOADERS[rows[0].get("loader", _DEFAULT)]
    who = consumer_of(rows[0])
    for row in spread(rows):
        heard = dataclasses.replace(who, rules=Heard(dict(who.rules)))
        whole[id(row)] = matrix.outcome(row, heard)
        for name in heard.rules.names:
            asked[name].append(row)
    pair = {"peft": rows[0]["loader_peft"], "transformers": rows[0]["loader_tf"]}
    for key, claim in claims_of(rows[0]):
        if claim.id == "import-needs":
            if mark:  # another loader may need more than the import
                continue
            right = (pair["transformers"] in version_range(claim.value)) is not _clashes(rows)
            yield key, Evidence(claim, pair, date, rows[:1] if right else [], [] if right else rows[:1])
            continue
        name = claim.id[len(mark) :] if mark and claim.id.startswith(mark) else claim.id
        found = Evidence(claim, pair, date, [], [])
        others = [consumer_of(rows[0], key, instead) for instead in instead_of(key, claim)]
        for row in spread(asked[name])[:: max(1, len(spread(asked[name])) // ENOUGH)]:
            ours = score(whole[id(row)])
            if ours is None:
                continue
            theirs = [score(matrix.outcome(row, dataclasses.replace(o, rules=dict(o.rules)))) for o in others]
            known = [other for other in theirs if other is not None]
            if any(other[0] and not ours[0] for other in known):
                found.bad.append(row)
            elif (None in theirs and ours[0]) or any(other < ours for other in known):
                found.good.append(row)
        yield key, found


def _clashes(rows: list[dict[str, Any]]) -> bool:
    """Whether the two libraries could not be imported together: no load said anything else."""
    words = ("ImportError: cannot import name", "ModuleNotFoundError: No module named 'transformers")
    return all(row["outcome"] == "error_load" and row["detail"].startswith(words) for row in rows)


def seen_by_code(path: Path) -> Iterator[tuple[Key, Evidence]]:
    """What `tools/claim_code.py` saw of each claim that holds where it ran; a claim of other versions must not be seen there."""
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        at, beside = row["with"][row["consumer"]], row["with"]
        for place, claim in enumerate(as_read(row["consumer"]).claims):
            if claim.id == row["claim"] and claim.holds(at, beside):
                told = {
                    "saver_peft": "",
                    "base": "",
                    "mode": "code",
                    "kind": claim.id,
                    "detail": f"saw {row['seen']!r}",
                }
                right = claim.value == row["seen"]
                date = dt.date.fromisoformat(row["date"])
                found = Evidence(claim, beside, date, [told] if right else [], [] if right else [told])
                yield Key(row["consumer"], at, place), found


def _of_group(rows: list[dict[str, Any]]) -> list[tuple[Key, Evidence]]:
    return list(evidence(rows, dt.date.fromisoformat(rows[0]["date"])))


def instead_of(key: Key, claim: facts.Claim) -> list[Any]:
    """What could be said in the place of a claim: nothing, or what it says of other versions."""
    elsewhere = [
        each.value for each in as_read(key.consumer).claims if each.id == claim.id and each.value != claim.value
    ]
    return [None, *elsewhere]


def main() -> int:
    """Exit code 0: no claim is refuted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, action="append", default=[], help="loads of tools/measure_loads.py, too")
    parser.add_argument("--seen", type=Path, action="append", default=[], help="what tools/claim_code.py saw, too")
    parser.add_argument("--no-matrix", action="store_true", help="only those, not the shared matrix")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what came of every claim")
    given = parser.parse_args()
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in [
        *(() if given.no_matrix else matrix.rows()),
        *(row for path in given.rows for row in matrix.measured(path)),
    ]:
        groups[row["loader_peft"], row["loader_tf"], row.get("loader", _DEFAULT), row["date"]].append(row)
    found: dict[Key, list[Evidence]] = defaultdict(list)
    with ProcessPoolExecutor(2) as pool:
        for part in pool.map(_of_group, [groups[key] for key in sorted(groups)]):
            for key, each in part:
                found[key].append(each)
    for key, each in (pair for path in given.seen for pair in seen_by_code(path)):
        found[key].append(each)
    made = [line for line in (told(key, each) for key, each in sorted(found.items())) if line is not None]
    print(summary(found))
    if given.record:
        again = {_same(line) for line in made}
        record_runs.write(given.record, made, lambda row: _same(row) in again or row["value"] not in today(row))
    return int(any(line["outcome"] != "confirmed" for line in made))


def _same(line: dict[str, Any]) -> tuple[str, ...]:
    return tuple(line[key] for key in ("consumer", "version", "claim", "value"))


def today(line: dict[str, Any]) -> set[str]:
    """The digests of what is claimed today where a recorded line speaks: of another value it is no run any more."""
    claims = as_read(line["consumer"]).claims
    return {runs.digest(each.value) for each in claims if each.id == line["claim"] and line["version"] in each.versions}


def told(key: Key, found: list[Evidence]) -> dict[str, Any] | None:
    """The line to be recorded; None where no load speaks of the claim."""
    speaking = [each for each in found if each.good or each.bad]
    if not speaking:
        return None
    newest = max(speaking, key=lambda each: each.date)
    outcomes = [True] * sum(len(each.good) for each in speaking) + [False] * sum(len(each.bad) for each in speaking)
    return record_runs.line(key.consumer, key.version, newest.claim, outcomes, newest.beside, newest.date)


def summary(found: dict[Key, list[Evidence]]) -> str:
    """Per claim: the versions where loads bear it out, and what speaks against it; then those of which no load speaks."""
    lines, silent = [], []
    by_claim: dict[tuple[str, int], list[tuple[Key, Evidence]]] = defaultdict(list)
    for key, several in found.items():
        by_claim[key.consumer, key.place] += [(key, each) for each in several]
    for (name, place), entries in sorted(by_claim.items()):
        claim = as_read(name).claims[place]
        good = {key.version: len(each.good) for key, each in entries if each.good}
        lines.append(f"{name} {claim.id} {claim.versions.text}: {good or 'no load'}")
        lines += [
            f"    against, {each.beside}: {row['saver_peft']} {row['kind']} {row['base']} {row['mode']} {row['detail'][:90]}"
            for _, each in entries
            for row in each.bad[:3]
        ]
        silent += [] if good else [f"{name} {claim.id} {claim.versions.text}"]
    asked = {
        (name, place)
        for name in ("peft", "transformers")
        for place, c in enumerate(as_read(name).claims)
        if c.value is not None
    }
    borne = len(by_claim) - len(silent)
    return "\n".join(
        [*lines, f"{borne} of {len(asked)} claims are borne out by loads; no load speaks of: {'; '.join(silent)}"]
    )


if __name__ == "__main__":
    sys.exit(main())
