"""Follow values through a script, statement by statement, without running anything.

Every branch is gone through once, every loop's body once, and a function's body at each of its calls; what is not certain
at the end of a branch is forgotten (see `values.join`). A function that nothing in the file calls is gone through by
itself, with its parameters unknown unless an annotation or a default tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import libcst as cst

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.lint import known, names
from adapterfit.lint.evaluate import dotted, evaluate
from adapterfit.lint.trace import Arms, Call, Place, Read, Store, Trace
from adapterfit.lint.tree import children, walk
from adapterfit.lint.values import UNKNOWN, Constant, Function, Items, Model, Named, Object, Table, Value, Weights, join

Env = dict[str, Value]
#: Functions inside functions inside … that are gone through at a call.
_CALL_DEPTH = 6


class Outline(NamedTuple):
    """What is known of a script before following it: the names that are called anywhere, and its generators."""

    called: frozenset[str]
    generators: frozenset[cst.CSTNode]


def outline(module: cst.Module) -> Outline:
    """Look a script over."""
    called, generators = set(), set()
    found: list[tuple[cst.CSTNode, cst.CSTNode]] = [(module, module)]
    while found:
        node, owner = found.pop()
        if isinstance(node, cst.Call):
            called.add(dotted(node.func).rpartition(".")[2])
        elif isinstance(node, cst.Yield):
            generators.add(owner)
        inner = node if isinstance(node, (cst.FunctionDef, cst.Lambda)) else owner
        found += [(part, inner) for part in children(node)]
    return Outline(frozenset(called), frozenset(generators))


def follow(module: cst.Module) -> Trace:
    """What the script does.

    Classes take a second run: what one method puts on `self` another may read, in whatever order they stand.

    Raises:
        CannotCheck: It is too complex.
    """
    try:
        found = outline(module)
        first = Flow(module, found)
        return Flow(module, found, first.attributes).trace if first.attributes else first.trace
    except RecursionError as error:
        raise CannotCheck("it is nested too deeply") from error


class Flow:
    """The state of going through one script. `trace` is what comes out."""

    def __init__(
        self, module: cst.Module, outline: Outline, attributes: Mapping[tuple[str, str], Value] | None = None
    ) -> None:
        """Go through `module`; `attributes` are those of its classes, from an earlier run."""
        self.trace = Trace()
        self.env: Env = {}
        self.globals = self.env
        self.arms: Arms = ()
        self.within: tuple[str, ...] = ()
        self.place = Place(None, None)
        self.returned: list[Value] = []
        self.stack: list[cst.CSTNode] = []
        self.attributes: dict[tuple[str, str], Value] = dict(attributes or {})
        self.methods: dict[tuple[str, str], cst.FunctionDef] = {}
        self.pending: list[tuple[cst.FunctionDef, str]] = []
        self.outline = outline
        self.heads: set[str] = set()
        self.reached: set[cst.CSTNode] = set()
        self._steps = 0
        self._branches = 0
        self.block(module.body)
        self._finish()

    # ------------------------------------------------------------------------------------------ statements

    def step(self, cost: int = 1) -> None:
        """Count one step, or one that costs more.

        Raises:
            CannotCheck: There were too many.
        """
        self._steps += cost
        if self._steps > limits.LINT_STEPS:
            raise CannotCheck(f"it is too complex: following its values takes more than {limits.LINT_STEPS:,} steps")

    def block(self, body: Sequence[cst.CSTNode]) -> bool:
        """Go through statements. Returns whether the end is reached (no return, raise, continue or break)."""
        outer = self.arms
        try:
            block = tuple(body)
            for node in block:
                if not self._statement(node, block):
                    return False
        finally:
            self.arms = outer
        return True

    def _statement(self, node: cst.CSTNode, block: tuple[cst.CSTNode, ...]) -> bool:
        self.step()
        if isinstance(node, cst.SimpleStatementLine):
            for small in node.body:
                self.place = Place(small, node, block, self.within, self.arms, self.stack[-1] if self.stack else None)
                if not self._small(small):
                    return False
            return True
        before, self.place = self.place, Place(None, None, block, self.within, self.arms, None)
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        ends = handler(node) if handler is not None else True
        self.place = before
        return ends is not False

    def _small(self, node: cst.BaseSmallStatement) -> bool:
        if isinstance(node, cst.Expr):
            evaluate(self, node.value, dropped=True)
        elif isinstance(node, cst.Assign):
            value = evaluate(self, node.value)
            for target in node.targets:
                self.assign(target.target, value, node)
        elif isinstance(node, cst.AnnAssign):
            self.assign(node.target, evaluate(self, node.value) if node.value else UNKNOWN)
        elif isinstance(node, cst.AugAssign):
            evaluate(self, node.value)
            self.assign(node.target, UNKNOWN)
        elif isinstance(node, (cst.Import, cst.ImportFrom)):
            self._import(node)
        elif isinstance(node, cst.Del):
            self.assign(node.target, UNKNOWN)
        elif isinstance(node, cst.Return):
            self.returned.append(evaluate(self, node.value) if node.value else Constant(None))
            return False
        elif isinstance(node, cst.Raise):
            if node.exc:
                evaluate(self, node.exc)
            return False
        elif isinstance(node, cst.Assert):
            evaluate(self, node.test)
        return not isinstance(node, (cst.Continue, cst.Break))

    def _import(self, node: cst.Import | cst.ImportFrom) -> None:
        if isinstance(node, cst.Import):
            for alias in node.names:
                name = dotted(alias.name)
                bound = alias.evaluated_alias
                self.env[bound or name.split(".")[0]] = names.imported(name if bound else name.split(".")[0])
            return
        module = dotted(node.module) if node.module and not node.relative else ""
        if isinstance(node.names, cst.ImportStar):
            self.env[f"*{module}"] = Named(module)
            return
        for alias in node.names:
            name = dotted(alias.name)
            self.env[alias.evaluated_alias or name] = names.imported(f"{module}.{name}") if module else UNKNOWN

    def assign(self, target: cst.BaseExpression, value: Value, node: cst.Assign | None = None) -> None:
        """Bind a target of an assignment."""
        if isinstance(target, cst.Name):
            self.bind(target.value, value)
        elif isinstance(target, cst.Attribute):
            receiver = evaluate(self, target.value, handing_on=False)
            if node is not None and isinstance(receiver, Model):
                mentions = frozenset(self._mentions(node.value, set()))
                self.trace.events.append(
                    Store(len(self.trace.events), receiver, target.attr.value, node, self.place, mentions)
                )
            name = dotted(target)
            if name:
                self.bind(name, value)
        elif isinstance(target, (cst.Tuple, cst.List)):
            found = value.items if isinstance(value, Items) and len(value.items) == len(target.elements) else ()
            for at, element in enumerate(target.elements):
                self.assign(element.value, found[at] if found else UNKNOWN)
        elif isinstance(target, cst.Subscript):
            evaluate(self, target)
            self.change(target.value)

    def change(self, node: cst.BaseExpression) -> None:
        """Note that something is put into, or taken out of, what a name stands for."""
        name = dotted(node)
        value = self.lookup(name) if name else UNKNOWN
        if isinstance(value, (Table, Items)):
            self.bind(name, UNKNOWN)
        elif isinstance(value, Weights):
            self.bind(name, dataclasses.replace(value, changed=True))

    def bind(self, name: str, value: Value) -> None:
        """Bind a name; what hung on it is forgotten."""
        if name in self.heads:
            for other in [other for other in self.env if other.startswith(f"{name}.")]:
                del self.env[other]
        head = name.rpartition(".")[0]
        while head:
            self.heads.add(head)
            head = head.rpartition(".")[0]
        self.env[name] = value

    def _keep_attributes(self, node: cst.FunctionDef, owner: str) -> None:
        """What a method leaves on `self` is there for the other methods, next to what they leave."""
        listed = [*node.params.posonly_params, *node.params.params]
        start = f"{listed[0].name.value}." if listed else "."
        for name, value in self.env.items():
            key = (owner, name[len(start) :])
            if name.startswith(start) and "." not in key[1]:
                self.attributes[key] = join(self.attributes[key], value) if key in self.attributes else value

    def _mentions(self, node: cst.CSTNode, seen: set[cst.CSTNode]) -> Iterator[str]:
        """The names of libraries that an expression uses, functions of this file that it names included."""
        seen.add(node)
        for part in walk(node):
            value = self.lookup(dotted(part)) if isinstance(part, (cst.Name, cst.Attribute)) else UNKNOWN
            if isinstance(value, Named):
                yield value.name
            if isinstance(value, Function) and value.node not in seen:
                yield from self._mentions(value.node, seen)

    # ------------------------------------------------------------------------------------------ branches

    def _if(self, node: cst.If) -> bool:
        evaluate(self, node.test)
        self._branches += 1
        self.step(len(self.env) // 50)
        branch, before = self._branches, dict(self.env)
        self._narrow(node.test, holds=True)
        first = self._arm(branch, 0, lambda: self.block(node.body.body))
        after, self.env = self.env, dict(before)
        self._narrow(node.test, holds=False)
        second = self._arm(branch, 1, lambda: self._otherwise(node.orelse))
        self._merge(first, after, second, self.env)
        if first != second:  # what follows is the other arm's
            self.arms = (*self.arms, (branch, 1 if second else 0))
        return first or second

    def _otherwise(self, node: cst.If | cst.Else | None) -> bool:
        if isinstance(node, cst.If):
            return self._if(node)
        return self.block(node.body.body) if node is not None else True

    def _arm(self, branch: int, arm: int, go: Callable[[], bool]) -> bool:
        outer, self.arms = self.arms, (*self.arms, (branch, arm))
        ends = go()
        self.arms = outer
        return ends

    def _merge(self, first: bool, one: Env, second: bool, two: Env) -> None:
        if first and second:
            self.env = merged(one, two)
        else:
            self.env = one if first else two

    def _narrow(self, test: cst.BaseExpression, *, holds: bool) -> None:
        """`isinstance(model, PeftModel)` tells what it asks."""
        if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
            self._narrow(test.expression, holds=not holds)
        elif isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And) and holds:
            self._narrow(test.left, holds=True)
            self._narrow(test.right, holds=True)
        elif isinstance(test, cst.Call) and dotted(test.func) == "isinstance" and len(test.args) == 2:
            name = dotted(test.args[0].value)
            if name:
                self._narrow_to(name, evaluate(self, test.args[1].value), holds=holds)

    def _narrow_to(self, name: str, cls: Value, *, holds: bool) -> None:
        value = self.lookup(name)
        asked = known.of_annotation(cls.name) if isinstance(cls, Named) else UNKNOWN
        if not isinstance(asked, Model):
            return
        if holds and not isinstance(value, Model):
            self.bind(name, asked)
        elif not holds and isinstance(value, Model) and value.wrapped is None:
            self.bind(name, UNKNOWN)

    def _for(self, node: cst.For) -> None:
        evaluate(self, node.iter)
        self._maybe(node.body.body, node.orelse, node.target)

    def _while(self, node: cst.While) -> None:
        evaluate(self, node.test)
        self._maybe(node.body.body, node.orelse)

    def _maybe(
        self, body: Sequence[cst.CSTNode], orelse: cst.Else | None, target: cst.BaseExpression | None = None
    ) -> None:
        before = dict(self.env)
        if target is not None:
            self.assign(target, UNKNOWN)
        self.block(body)
        self.env = merged(before, self.env)
        if orelse is not None:
            self.block(orelse.body.body)

    def _try(self, node: cst.Try) -> bool:
        before = dict(self.env)
        ends = self.block(node.body.body)
        if node.orelse is not None and ends:
            ends = self.block(node.orelse.body.body)
        after = self.env
        reached = [ends]
        for handler in node.handlers:
            self._branches += 1
            self.env = merged(before, after)
            if handler.name is not None:
                self.assign(handler.name.name, UNKNOWN)
            reached.append(self._arm(self._branches, 0, functools.partial(self.block, handler.body.body)))
            if reached[-1]:
                after = _fallback(after, self.env) if ends else self.env
        self.env = after
        if node.finalbody is not None:
            return self.block(node.finalbody.body.body) and any(reached)
        return any(reached)

    def _match(self, node: cst.Match) -> bool:
        evaluate(self, node.subject)
        self._branches += 1
        branch, before, after = self._branches, dict(self.env), dict(self.env)
        for arm, case in enumerate(node.cases):
            self.env = dict(before)
            for name in _captured(case.pattern):
                self.bind(name, UNKNOWN)
            if self._arm(branch, arm, functools.partial(self.block, case.body.body)):
                after = merged(after, self.env)
        self.env = after
        return True

    def _with(self, node: cst.With) -> bool:
        outer = self.within
        for item in node.items:
            value = evaluate(self, item.item)
            call = next((e for e in reversed(self.trace.events) if isinstance(e, Call) and e.node is item.item), None)
            if call is not None:
                self.within = (*self.within, call.name)
            if item.asname is not None:
                self.assign(item.asname.name, value)
        ends = self.block(node.body.body)
        self.within = outer
        return ends

    # ------------------------------------------------------------------------------------------ functions

    def _functiondef(self, node: cst.FunctionDef) -> None:
        for decorator in node.decorators:
            evaluate(self, decorator.decorator)
        self.bind(node.name.value, Function(node))
        self.pending.append((node, ""))

    def _classdef(self, node: cst.ClassDef) -> None:
        owner = f"local.{node.name.value}"
        self.bind(node.name.value, Named(owner))
        for part in node.body.body:
            if isinstance(part, cst.FunctionDef):
                self.methods[owner, part.name.value] = part
                self.pending.append((part, owner))

    def _finish(self) -> None:
        """Go through the functions that nothing calls, then through those that no call reached."""
        for only_uncalled in (True, False):
            for node, owner in list(self.pending):
                called = node.name.value in self.outline.called and not node.name.value.startswith("__")
                if node not in self.reached and not (only_uncalled and called):
                    self.run(node, owner, None)
                    self.place = Place(None, None)

    def run(self, node: cst.FunctionDef | cst.Lambda, owner: str, call: Call | None) -> Value:
        """Go through a function's body, once for each call. Returns what it gives back."""
        if node in self.stack or len(self.stack) >= _CALL_DEPTH:
            return UNKNOWN
        self.reached.add(node)
        with self._scope(node):
            self._parameters(node.params, owner, call)
            if isinstance(node, cst.Lambda):
                return evaluate(self, node.body)
            if self.block(node.body.body):
                self.returned.append(Constant(None))
            if owner:
                self._keep_attributes(node, owner)
            result = self.returned[0] if self.returned else UNKNOWN
            for value in self.returned[1:]:
                result = join(result, value)
            return UNKNOWN if node.asynchronous or node in self.outline.generators else result

    @contextlib.contextmanager
    def _scope(self, node: cst.CSTNode) -> Iterator[None]:
        kept = self.env, self.returned, self.place, self.within, self.arms
        if not self.stack:
            self.globals = self.env
        self.env, self.returned = {}, []
        self.stack.append(node)
        try:
            yield
        finally:
            self.stack.pop()
            self.env, self.returned, self.place, self.within, self.arms = kept

    def _parameters(self, parameters: cst.Parameters, owner: str, call: Call | None) -> None:
        listed = [*parameters.posonly_params, *parameters.params]
        given = list(call.positional) if call is not None else []
        if owner and listed:
            self.env[listed[0].name.value] = Object(owner, Table(whole=False))
            listed = listed[1:]
        for at, param in enumerate([*listed, *parameters.kwonly_params]):
            name = param.name.value
            default = evaluate(self, param.default) if param.default is not None else UNKNOWN
            if call is not None and name in call.keywords:
                value = call.keywords[name].value
            elif call is not None and at < len(given) and at < len(listed):
                value = given[at].value
            else:
                value = default if call is None or call.whole else UNKNOWN
            self.env[name] = self._annotated(param) if value == UNKNOWN or value == Constant(None) else value
        for star in (parameters.star_arg, parameters.star_kwarg):
            if isinstance(star, cst.Param):
                self.env[star.name.value] = UNKNOWN

    def _annotated(self, param: cst.Param) -> Value:
        if param.annotation is None:
            return UNKNOWN
        node = param.annotation.annotation
        name = node.evaluated_value if isinstance(node, cst.SimpleString) else dotted(node)
        value = self.lookup(name) if isinstance(name, str) else UNKNOWN
        return known.of_annotation(value.name) if isinstance(value, Named) else UNKNOWN

    # ------------------------------------------------------------------------------------------ names

    def lookup(self, name: str) -> Value:
        """What a name, or a dotted one, stands for here."""
        for env in (self.env, self.globals) if self.stack else (self.env,):
            if name in env:
                return env[name]
        head, _, last = name.rpartition(".")
        if head:
            return self._member(self.lookup(head), last)
        if name in _BUILTINS:
            return Named(f"builtins.{name}")
        stars = [
            value.name
            for key, value in (self.globals if self.stack else self.env).items()
            if key.startswith("*") and isinstance(value, Named)
        ]
        return next((names.imported(f"{module}.{name}") for module in stars if _exports(module, name)), UNKNOWN)

    def _member(self, value: Value, name: str) -> Value:
        if isinstance(value, Named):
            return names.imported(f"{value.name}.{name}")
        if isinstance(value, Object) and (value.class_name, name) in self.attributes:
            return self.attributes[value.class_name, name]
        found = known.attribute(value, name)
        return found if found is not None else UNKNOWN

    def read(self, model: Model, attribute: str, node: cst.BaseExpression) -> None:
        """Note that a model is used."""
        self.trace.events.append(Read(len(self.trace.events), model, attribute, node, self.place))


_BUILTINS = frozenset({"str", "open", "dict", "print", "len", "isinstance", "getattr", "hasattr"})


def _exports(module: str, name: str) -> bool:
    """Whether `from module import *` brings a name that rules know."""
    if module == "peft":
        return name.startswith(("Peft", "AutoPeft", "get_peft", "set_peft", "prepare_model")) or name.endswith("Config")
    return module == "transformers" and name.startswith(("Auto", "Trainer"))


def merged(one: Env, two: Env) -> Env:
    """What holds after one of two branches. What only one of them binds is not there for sure."""
    return {
        name: join(one[name], two[name]) if name in one and name in two else UNKNOWN for name in one.keys() | two.keys()
    }


def _fallback(tried: Env, handled: Env) -> Env:
    """After try/except: an import that has a fallback is taken for the import."""
    out = merged(tried, handled)
    out.update({name: value for name, value in tried.items() if isinstance(value, Named)})
    return out


def _captured(pattern: cst.MatchPattern) -> list[str]:
    return [node.value for node in walk(pattern) if isinstance(node, cst.Name)]
