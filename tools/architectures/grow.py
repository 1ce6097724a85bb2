"""From many observed trees of one class to one learned tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Callable

from transformers.activations import ACT2CLS, ACT2FN

from adapterfit.expect.formulas import FormulaError, compile_formula
from adapterfit.expect.growth import copies
from architectures.learn import (
    Env,
    NotFoundError,
    Numbers,
    Spec,
    decides,
    find_condition,
    holds,
    literals,
    merged_order,
)
from architectures.observe import Node
from architectures.told import from_told

Seen = tuple[Env, Node]
#: So many loops of several turns must agree, turn by turn, before a loop is thought not to matter.
_AGREEING = 6
#: Children that are counted by the number in their name, and how many there must be somewhere.
_NUMBERED, _ROW = re.compile(r"(.*\D)(\d+)"), 3
#: Values that a field may have to be told apart by conditions.
_CASES = 4


def activation_classes() -> dict[str, str]:
    """Name of an activation → class name, for those that are one module without parameters or children."""
    found = {}
    for name in ACT2CLS:
        try:
            module = ACT2FN[name]
        except Exception:
            continue
        if not list(module.children()) and not list(module.parameters()):
            found[name] = type(module).__name__
    return dict(sorted(found.items()))


class Grower:
    """Learns one class. `doubts` collects what no formula was found for, in words.

    `proven`: formulas of this type's other classes, tried first, so that equal sub-trees get equal formulas;
    `used`: those of this class.
    """

    def __init__(self, activations: dict[str, str], proven: dict[str, list[str]] | None = None) -> None:
        self.numbers, self.activations = Numbers(), activations
        self.proven = {"numbers": [], "conditions": []} if proven is None else proven
        self.doubts: list[str] = []
        self.used: dict[str, list[str]] = {}
        self.outer: dict[int, Env] = {}
        self.loop_envs: dict[tuple[int, str, int], Env] = {}

    # ---------------------------------------------------------------------------------------- one module

    def variants(self, path: str, seen: list[Seen]) -> list[tuple[str, Spec]]:
        """The module at `path` in its variants: (condition, what it is)."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        varying = _of_many_ranks([node for _, node in seen])
        for at, (_, node) in enumerate(seen):
            ranks = tuple(len(node.params.get(name, ())) for name in varying)
            groups.setdefault((node.kind, "" if node.opaque else node.cls, node.opaque, *ranks), []).append(at)
        if len(groups) == 1:
            return [("true", self.module(path, seen))]
        by = self._by_field(seen)
        if by is not None:
            spec = self.module(path, seen)
            spec.by = by
            return [("true", spec)]
        found = []
        for members in groups.values():
            truth = [at in set(members) for at in range(len(seen))]
            condition = self.condition(path, [env for env, _ in seen], truth)
            found.append((condition, self.module(path, [seen[at] for at in members])))
        return found

    def module(self, path: str, seen: list[Seen]) -> Spec:
        """One variant: its parameters, its count or its children."""
        first = seen[0][1]
        spec = Spec(first.kind, first.cls, opaque=first.opaque)
        envs = [env for env, _ in seen]
        self._params(path, spec, seen)
        told = [node.groups_text for _, node in seen]
        spec.groups = self.number(f"{path} groups", envs, [node.groups for _, node in seen], told)
        spec.transposed = "true" if first.transposed else "false"
        if self._is_loop(seen):
            spec.each = self.number(f"{path} count", envs, [len(node.children) for _, node in seen])
            self._loop(path, spec, seen)
        else:
            self._children(path, spec, seen)
        return spec

    def _params(self, path: str, spec: Spec, seen: list[Seen]) -> None:
        counts = [len(node.params) for _, node in seen]
        if len(set(counts)) > 1 and all(
            list(node.params) == list(map(str, range(n))) for (_, node), n in zip(seen, counts)
        ):
            self._numbered(path, spec, seen, counts)
            return
        for name in self.order(path, [list(node.params) for _, node in seen]):
            having = [(env, node.params[name], node.texts.get(name)) for env, node in seen if name in node.params]
            condition = self.condition(f"{path}.{name}", [e for e, _ in seen], [name in n.params for _, n in seen])
            ranks = {len(shape) for _, shape, _ in having}
            if len(ranks) != 1:
                self.doubts.append(f"{path}.{name}: its number of dimensions varies")
                continue
            envs = [env for env, _, _ in having]
            dims = [
                self.number(
                    f"{path}.{name} dimension {at}",
                    envs,
                    [shape[at] for _, shape, _ in having],
                    [texts[at] if texts else "" for _, _, texts in having],
                )
                for at in range(ranks.pop())
            ]
            spec.params[name] = (condition, dims)

    def _numbered(self, path: str, spec: Spec, seen: list[Seen], counts: list[int]) -> None:
        """A list of parameters of one shape: `*`, with how many there are in place of a condition."""
        every = [(env, shape) for env, node in seen for shape in node.params.values()]
        if len({len(shape) for _, shape in every}) != 1:
            self.doubts.append(f"{path}.*: its number of dimensions varies")
            return
        sizes = zip(*(shape for _, shape in every))
        dims = [
            self.number(f"{path}.* dimension {at}", [env for env, _ in every], list(one))
            for at, one in enumerate(sizes)
        ]
        spec.params["*"] = (self.number(f"{path} count of parameters", [env for env, _ in seen], counts), dims)

    # ---------------------------------------------------------------------------------------- children

    def _is_loop(self, seen: list[Seen]) -> bool:
        names = [list(node.children) for _, node in seen]
        counted = all(list(map(str, range(len(n)))) == n for n in names)
        if not counted or not any(names):
            return False
        counts = {len(n) for n in names}
        return len(counts) > 1 and min(counts) < max(counts) and self._alike(seen)

    def _alike(self, seen: list[Seen]) -> bool:
        """Whether children of one list mostly are the same thing: else it is a fixed sequence with options."""
        most = max((node for _, node in seen), key=lambda node: len(node.children))
        classes = Counter(child.cls for child in most.children.values())
        return most.cls in {"ModuleList", "Sequential"} and classes.most_common(1)[0][1] >= max(
            2, len(most.children) // 2
        )

    def _loop(self, path: str, spec: Spec, seen: list[Seen]) -> None:
        var = "j" if "i" in seen[0][0] else "i"
        inner = [
            (self._loop_env(env, var, at), child)
            for env, node in seen
            for at, child in enumerate(node.children.values())
        ]
        for condition, child in self.variants(f"{path}.*" if path else "*", inner):
            spec.children.append(("*", condition, child))

    def _loop_env(self, env: Env, var: str, at: int) -> Env:
        key = (id(env), var, at)
        if key not in self.loop_envs:
            inner = self.loop_envs[key] = {**env, var: at}
            self.outer[id(inner)] = env
        return self.loop_envs[key]

    def _without_loop(self, envs: list[Env], values: list[Any]) -> tuple[list[Env], list[Any]] | None:
        """One row per turn of the outer loop, where all turns of the inner one agree; None where they do not."""
        if not all(id(env) in self.outer for env in envs):
            return None
        rows: dict[int, tuple[Env, Any]] = {}
        turns = Counter(id(self.outer[id(env)]) for env in envs)
        if sum(count > 1 for count in turns.values()) < min(_AGREEING, len(turns)):
            return None
        for env, value in zip(envs, values):
            outer = self.outer[id(env)]
            if rows.setdefault(id(outer), (outer, value))[1] != value:
                return None
        return [env for env, _ in rows.values()], [value for _, value in rows.values()]

    def _children(self, path: str, spec: Spec, seen: list[Seen]) -> None:
        rows = self._rows(path, seen)
        for name in self.order(path, [_shortened(node, rows) for _, node in seen]):
            where = f"{path}.{name}" if path else name
            if name in rows:
                count, inner = rows[name]
                for when, child in self.variants(where, inner):
                    child.times = count
                    spec.children.append((name, when, child))
                continue
            present = [name in node.children for _, node in seen]
            condition = self.condition(where, [env for env, _ in seen], present)
            having = [(env, node.children[name]) for env, node in seen if name in node.children]
            for inner, child in self.variants(where, having):
                spec.children.append((name, _both(condition, inner), child))

    def _rows(self, path: str, seen: list[Seen]) -> dict[str, tuple[str, list[Seen]]]:
        """`expert_*` → how many there are, and all of them, where children are numbered under one word and a field counts."""
        var = "j" if "i" in seen[0][0] else "i"
        found = {}
        stems = {m[1] for _, node in seen for name in node.children if (m := _NUMBERED.fullmatch(name))}
        for stem in sorted(stems):
            counts = [_count(node, stem) for _, node in seen]
            inner = [
                (self._loop_env(env, var, at), node.children[f"{stem}{at}"])
                for (env, node), count in zip(seen, counts)
                for at in range(count)
            ]
            if len(set(counts)) < 2 or min(counts) < 0 or max(counts) < _ROW or len({n.cls for _, n in inner}) > 1:
                continue
            before = len(self.doubts)
            count = self.number(f"{path} count of {stem}", [env for env, _ in seen], counts)
            if count == "unknown":
                del self.doubts[before:]
            else:
                found[f"{stem}*"] = (count, inner)
        return found

    # ---------------------------------------------------------------------------------------- searches

    def _by_field(self, seen: list[Seen]) -> tuple[str, dict[str, str]] | None:
        """A text field whose value alone decides the class of a childless module."""
        if any(node.children or node.params for _, node in seen):
            return None
        best = None
        for key in seen[0][0]:
            table: dict[str, str] = {}
            if not all(isinstance(env.get(key), str) for env, _ in seen):
                continue
            if all(table.setdefault(env[key], node.cls) == node.cls for env, node in seen):
                plain = all(self.activations.get(value) == cls for value, cls in table.items())
                if plain and (best is None or best[1] or "act" in key):
                    best = (key, {})
                best = best or (key, table)
        return best

    def condition(self, what: str, envs: list[Env], truth: list[bool]) -> str:
        """A condition that holds exactly where `truth` does; `true`, with a doubt, where none is found."""
        if all(truth):
            return "true"
        rows = self._without_loop(envs, truth)
        if rows is not None:
            return self.condition(what, *rows)
        known = next((text for text in self.proven["conditions"] if decides(text, envs, truth)), "")
        try:
            text = known or find_condition(envs, truth)
        except NotFoundError:
            self.doubts.append(f"{what}: no condition found for its presence ({sum(truth)} of {len(truth)} samples)")
            return "true"
        self.used.setdefault("conditions", []).append(text)
        return text

    def number(self, what: str, envs: list[Env], values: list[int], told: Sequence[str] = ()) -> str:
        """A formula for these sizes, `told` by the model or searched; `unknown`, with a doubt, where none is found."""
        if any(told):
            choices = [text for text in self.proven["numbers"] if "?" in text] if len(set(told)) > 1 else []
            text = next((one for one in choices if holds(one, envs, values)), "") or from_told(envs, values, told)
            if "?" in text and text not in choices:  # one formula says more than one for each case that was seen
                text = self._flat(envs, values) or text
            if text:
                self.used.setdefault("numbers", []).append(text)
                return text
        if len(set(values)) == 1:
            return str(values[0])
        rows = self._without_loop(envs, values)
        if rows is not None:
            return self.number(what, *rows)
        known = next((text for text in self.proven["numbers"] if holds(text, envs, values)), "")
        try:
            text = known or self.numbers.find(envs, values)
        except NotFoundError:
            self.doubts.append(f"{what}: no formula found for {sorted(set(values))[:4]}")
            return "unknown"
        self.used.setdefault("numbers", []).append(text)
        return text

    def _flat(self, envs: list[Env], values: list[int]) -> str:
        """One formula without a condition; empty where there is none."""
        try:
            return self.numbers.find(envs, values, 0) if len(set(values)) > 1 else ""
        except NotFoundError:
            return ""

    def order(self, what: str, sequences: list[list[str]]) -> list[str]:
        """One order that agrees with all."""
        try:
            return merged_order(sequences)
        except NotFoundError:
            self.doubts.append(f"{what}: its parts come in different orders")
            return list(dict.fromkeys(name for sequence in sequences for name in sequence))

    # ---------------------------------------------------------------------------------------- values

    def value(self, what: str, envs: list[Env], values: list[Any], told: Sequence[Callable[[], Any]] = ()) -> str:
        """A formula for any plain value: constant, another field, a size, a condition, or a table over a text field."""
        first = values[0]
        if all(value == first and type(value) is type(first) for value in values):
            return literal(first)
        for key in sorted(envs[0], key=lambda name: name.count(".")):  # a part may hand on what the whole has
            if all(env.get(key) == value and type(env.get(key)) is type(value) for env, value in zip(envs, values)):
                return key
        if "given" in envs[0] and holds("split(given)", envs, [tuple(v) if isinstance(v, list) else v for v in values]):
            return "split(given)"
        if "given" in envs[0] and holds("pair(given)", envs, [tuple(v) if isinstance(v, list) else v for v in values]):
            return "pair(given)"
        if all(isinstance(value, bool) for value in values):
            return self.condition(what, envs, values)
        if all(isinstance(value, int) for value in values):
            texts = [tell() for tell in told]
            return self.number(what, envs, values, texts) if any(texts) else self._few_numbers(what, envs, values)
        if "given" in envs[0] and (text := self._spread(envs, values) or self._given_or(envs, values)):
            return text
        if all(isinstance(value, list) for value in values):
            return self._listing(what, envs, values, [tell() for tell in told])
        if all(isinstance(value, list) or value is None for value in values):
            when = self.condition(what, envs, [value is None for value in values])
            given = [at for at, value in enumerate(values) if value is not None]
            rest = self._listing(what, [envs[at] for at in given], [values[at] for at in given])
            return f"{f'({when})' if '?' in when else when} ? null : {rest}"
        return self._table(what, envs, values)

    @staticmethod
    def _spread(envs: list[Env], values: list[Any]) -> str:
        """A list as it is given, or a number for each of as many as a field says; empty where it is neither."""
        if not all(isinstance(value, list) for value in values) or not any(type(env["given"]) is int for env in envs):
            return ""
        counts = [key for key in envs[0] if key != "given" and all(type(env.get(key)) is int for env in envs)]
        wanted = [tuple(value) for value in values]
        texts = (f"spread(given, {key})" for key in counts)
        return next((text for text in texts if holds(text, [_listed(env) for env in envs], wanted)), "")

    @staticmethod
    def _given_or(envs: list[Env], values: list[Any]) -> str:
        """`condition ? given : …` for one other value; empty where there are several, or no condition is found."""
        apart = [value for env, value in zip(envs, values) if env["given"] != value]
        if not apart or len(apart) == len(values) or any(value != apart[0] for value in apart):
            return ""
        unclear = [env["given"] == apart[0] for env in envs]  # both are right there
        truth = [env["given"] == value for env, value in zip(envs, values)]
        try:
            when = find_condition(
                [env for env, both in zip(envs, unclear) if not both],
                [yes for yes, both in zip(truth, unclear) if not both],
            )
        except NotFoundError:
            return ""
        return f"{f'({when})' if '?' in when else when} ? given : {literal(apart[0])}"

    def _listing(self, what: str, envs: list[Env], values: list[list[Any]], told: Sequence[Any] = ()) -> str:
        """`each(n, …)`: a list with as many items as layers, each by its place; null, with a doubt, where none is found."""
        if "given" in envs[0] and len({str(value[-1:]) for value in values}) == 1 and values[0]:
            text = f"each(len(given), i == len(given)-1 ? {literal(values[0][-1])} : given[i])"
            if holds(text, envs, [tuple(value) for value in values]):
                return text
        count = self.number(what, envs, [len(value) for value in values])
        progress = self._progression(what, envs, values)
        if progress:
            return f"each({count}, {progress})"
        items = [({**env, "i": at}, item) for env, value in zip(envs, values) for at, item in enumerate(value)]
        if count == "unknown" or not items:
            return "null"
        if all(isinstance(texts, list) and len(texts) == len(value) for texts, value in zip(told, values)):
            tells = [partial(str, text) for texts in told for text in texts]
        else:
            tells = []
        inner = self.value(what, [env for env, _ in items], [item for _, item in items], tells)
        return f"each({count}, {inner})"

    def _progression(self, what: str, envs: list[Env], values: list[list[Any]]) -> str:
        """The item at place i of lists that grow by equal steps, such as every third layer; empty where they are none."""
        having = [at for at, value in enumerate(values) if value]
        if any(type(item) is not int for value in values for item in value):
            return ""
        steps = {at: values[at][1] - values[at][0] for at in having if len(values[at]) > 1}
        if not steps or any(
            values[at] != [values[at][0] + n * steps.get(at, 0) for n in range(len(values[at]))] for at in having
        ):
            return ""
        before = len(self.doubts)
        start = self.number(what, [envs[at] for at in having], [values[at][0] for at in having])
        step = self.number(what, [envs[at] for at in steps], list(steps.values()))
        if len(self.doubts) > before:
            del self.doubts[before:]
            return ""
        if step == "0":
            return _bracketed(start)
        turn = "i" if step == "1" else f"i*({step})"
        return turn if start == "0" else f"{_bracketed(start)}+{turn}"

    def _few_numbers(self, what: str, envs: list[Env], values: list[int]) -> str:
        """A size, else one of few numbers by conditions."""
        before = len(self.doubts)
        if 1 < len(set(values)) <= _CASES:  # before the long search, that is: few numbers rarely are sizes
            try:
                return self.numbers.find(envs, values, 0)
            except NotFoundError:
                if cases := self._cases(envs, values):
                    return cases
        text = self.number(what, envs, values)
        if text == "unknown" and (cases := self._cases(envs, values)):
            del self.doubts[before:]
            return cases
        return text

    def _table(self, what: str, envs: list[Env], values: list[Any]) -> str:
        for text, mask in literals(envs).items():
            yes = [at for at in range(len(envs)) if mask >> at & 1]
            no = [at for at in range(len(envs)) if not mask >> at & 1]
            if not yes or not no or any(values[at] != values[yes[0]] for at in yes):
                continue
            rest = [values[at] for at in no]
            if all(v == rest[0] for v in rest):
                return f"{text} ? {literal(values[yes[0]])} : {literal(rest[0])}"
        for key in envs[0]:
            table: dict[str, Any] = {}
            if all(isinstance(env.get(key), str) for env in envs) and all(
                table.setdefault(env[key], value) == value for env, value in zip(envs, values)
            ):
                changed = {k: v for k, v in table.items() if k != v}
                tail = key if len(changed) < len(table) else "null"
                return " : ".join([f"{key} == '{k}' ? {literal(v)}" for k, v in sorted(changed.items())] + [tail])
        text = self._cases(envs, values)
        if not text:
            self.doubts.append(f"{what}: no formula found for its value")
        return text or "null"

    def _cases(self, envs: list[Env], values: list[Any]) -> str:
        """`condition ? one : condition ? other : rest` over few values, the commonest last; empty where none is found."""
        said = Counter(map(literal, values))
        left, text = list(range(len(values))), ""
        if not 2 <= len(said) <= _CASES:
            return ""
        for one, _ in reversed(said.most_common()[1:]):
            truth = [literal(values[at]) == one for at in left]
            try:
                when = find_condition([envs[at] for at in left], truth)
            except NotFoundError:
                return ""
            text += f"{f'({when})' if '?' in when else when} ? {one} : "
            left = [at for at, yes in zip(left, truth) if not yes]
        return text + said.most_common()[0][0]


def _listed(env: Env) -> Env:
    return {**env, "given": tuple(env["given"])} if isinstance(env["given"], list) else env


def _of_many_ranks(nodes: list[Node]) -> list[str]:
    """Parameters that do not have the same number of dimensions everywhere."""
    ranks: dict[str, set[int]] = {}
    for node in nodes:
        for name, shape in node.params.items():
            ranks.setdefault(name, set()).add(len(shape))
    return sorted(name for name, found in ranks.items() if len(found) > 1)


def _count(node: Node, stem: str) -> int:
    """How many children are numbered from 0 on under this word, one after another; -1 where they are otherwise."""
    at = [n for n, name in enumerate(node.children) if (m := _NUMBERED.fullmatch(name)) and m[1] == stem]
    names = list(node.children)
    in_order = all(names[at[0] + n] == f"{stem}{n}" for n in range(len(at))) if at else True
    return len(at) if in_order else -1


def _shortened(node: Node, rows: Mapping[str, object]) -> list[str]:
    """The names of the children, those of a row as one."""
    starred = [_NUMBERED.sub(lambda m: f"{m[1]}*" if f"{m[1]}*" in rows else m[0], name) for name in node.children]
    return list(dict.fromkeys(starred))


def predict(spec: Spec, env: Env, activations: dict[str, str], path: str = "") -> list[tuple[Any, ...]]:
    """What the learned tree says about one config, as `Node.flat` says it; formulas that fail give nothing."""

    def value(text: str) -> Any:
        return compile_formula(text)(env)

    cls = spec.cls
    if spec.by is not None:
        cls = (spec.by[1] or activations).get(env[spec.by[0]], "")
    params = tuple(
        (one, tuple(map(value, dims)))
        for name, (when, dims) in spec.params.items()
        for one in copies(name, value(when))
    )
    rows = [(path, spec.kind, "" if spec.opaque else cls, params, value(spec.groups), spec.transposed == "true")]
    turns = [env]
    if spec.each:
        var = "j" if "i" in env else "i"
        turns = [{**env, var: at} for at in range(value(spec.each))]
    for turn in turns:
        for name, when, child in spec.children:
            if child.times:
                var = "j" if "i" in turn else "i"
                for at in range(value(child.times)):
                    step = name.replace("*", str(at))
                    rows += predict(child, {**turn, var: at}, activations, f"{path}.{step}" if path else step)
            elif compile_formula(when)(turn):
                step = str(turn["j" if "j" in turn else "i"]) if spec.each else name
                rows += predict(child, turn, activations, f"{path}.{step}" if path else step)
    return rows


def agrees(spec: Spec, seen: Seen, activations: dict[str, str]) -> bool:
    """Whether the learned tree equals the real one."""
    env, node = seen
    try:
        return predict(spec, env, activations) == node.flat()
    except (FormulaError, KeyError, TypeError):
        return False


def literal(value: Any) -> str:
    """A plain value in the language of formulas."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, str):
        return f"'{value}'"
    return repr(value) if value >= 0 else f"0-{-value}"


def _both(a: str, b: str) -> str:
    if "true" in (a, b):
        return b if a == "true" else a
    return f"({a}) & ({b})"


def _bracketed(text: str) -> str:
    return f"({text})" if "?" in text else text
