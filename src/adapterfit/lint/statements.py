"""Statements: what each of them binds, which way it may go on, and what is known in its branches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from adapterfit.lint import names
from adapterfit.lint.evaluate import evaluate
from adapterfit.lint.narrowing import narrow
from adapterfit.lint.scope import Env, merged
from adapterfit.lint.trace import Call, Store
from adapterfit.lint.tree import dotted, walk
from adapterfit.lint.values import (
    UNKNOWN,
    Constant,
    Function,
    Items,
    Model,
    Named,
    Outcome,
    Table,
    Tensor,
    Value,
    join,
)

if TYPE_CHECKING:
    from adapterfit.lint.flow import Flow


def small(flow: Flow, node: cst.BaseSmallStatement) -> bool:
    """A statement on a line. Returns whether what follows is reached."""
    if isinstance(node, cst.Expr):
        evaluate(flow, node.value, dropped=True)
    elif isinstance(node, cst.Assign):
        value = evaluate(flow, node.value)
        for target in node.targets:
            assign(flow, target.target, value, node)
    elif isinstance(node, cst.AnnAssign):
        assign(flow, node.target, evaluate(flow, node.value) if node.value else UNKNOWN)
    elif isinstance(node, cst.AugAssign):
        evaluate(flow, node.value)
        assign(flow, node.target, UNKNOWN)
    elif isinstance(node, cst.Del):
        assign(flow, node.target, UNKNOWN)
    elif isinstance(node, (cst.Import, cst.ImportFrom)):
        _import(flow, node)
    elif isinstance(node, cst.Return):
        flow.returned.append(evaluate(flow, node.value) if node.value else Constant(None))
    elif isinstance(node, (cst.Raise, cst.Assert)):
        found = node.exc if isinstance(node, cst.Raise) else node.test
        if found is not None:
            evaluate(flow, found)
    return not isinstance(node, (cst.Return, cst.Raise, cst.Continue, cst.Break))


def _import(flow: Flow, node: cst.Import | cst.ImportFrom) -> None:
    if isinstance(node, cst.Import):
        for alias in node.names:
            name = dotted(alias.name)
            first = name.partition(".")[0]
            flow.scope.bind(alias.evaluated_alias or first, names.imported(name if alias.evaluated_alias else first))
        return
    module = dotted(node.module) if node.module and not node.relative else ""
    if isinstance(node.names, cst.ImportStar):
        flow.scope.bind_all(module)
        return
    for alias in node.names:
        name = dotted(alias.name)
        flow.scope.bind(alias.evaluated_alias or name, names.imported(f"{module}.{name}") if module else UNKNOWN)


def assign(flow: Flow, target: cst.BaseExpression, value: Value, node: cst.Assign | None = None) -> None:
    """Bind a target of an assignment; `node` is the assignment, where there is one."""
    if isinstance(value, Outcome):
        value = value.model if flow.scope.lookup(dotted(target)) is value.model else UNKNOWN
    if isinstance(target, cst.Name):
        flow.scope.bind(target.value, value)
    elif isinstance(target, cst.Attribute):
        receiver = evaluate(flow, target.value, handing_on=False)
        if node is not None and isinstance(receiver, Model):
            flow.note(Store(flow.now, receiver, target.attr.value, node, flow.place, flow.mentions(node.value)))
        if dotted(target):
            flow.scope.bind(dotted(target), value)
    elif isinstance(target, (cst.Tuple, cst.List)):
        found = value.items if isinstance(value, Items) and len(value.items) == len(target.elements) else ()
        for at, element in enumerate(target.elements):
            assign(flow, element.value, found[at] if found else UNKNOWN)
    elif isinstance(target, cst.Subscript):
        evaluate(flow, target)
        if isinstance(value, Tensor):
            _collect(flow, target, value)
        else:
            flow.scope.change(target.value)


def _collect(flow: Flow, target: cst.Subscript, tensor: Tensor) -> None:
    """`weights[name] = file.get_tensor(name)`: an empty dict becomes what the file holds."""
    name, index = dotted(target.value), target.slice[0].slice
    held = flow.scope.lookup(name)
    same = isinstance(index, cst.Index) and dotted(index.value) == tensor.name != ""
    if name and same and (held == Table() or held == tensor.weights):
        flow.scope.bind(name, tensor.weights)
    else:
        flow.scope.change(target.value)


def mentions(flow: Flow, node: cst.CSTNode, seen: set[cst.CSTNode]) -> Iterator[str]:
    """The names of libraries that an expression uses, functions of this file that it names included."""
    seen.add(node)
    for part in walk(node):
        value = flow.scope.lookup(dotted(part)) if isinstance(part, (cst.Name, cst.Attribute)) else UNKNOWN
        if isinstance(value, Named):
            yield value.name
        if isinstance(value, Function) and value.node not in seen:
            yield from mentions(flow, value.node, seen)


# ------------------------------------------------------------------------------------------------ branches


def compound(flow: Flow, node: cst.CSTNode) -> bool:
    """A statement with a body. Returns whether what follows is reached."""
    handler = _COMPOUND.get(type(node))
    return handler(flow, node) if handler is not None else True


def _if(flow: Flow, node: Any) -> bool:
    evaluate(flow, node.test)
    flow.step(len(flow.scope.env) // 50)
    branch, before = flow.branch(node), dict(flow.scope.env)
    narrow(flow.scope, node.test, holds=True)
    first = _arm(flow, branch, 0, lambda: flow.block(node.body.body))
    after, flow.scope.env = flow.scope.env, before
    narrow(flow.scope, node.test, holds=False)
    second = _arm(flow, branch, 1, lambda: _otherwise(flow, node.orelse))
    if first and second:
        flow.scope.env = merged(after, flow.scope.env)
    elif first:
        flow.scope.env = after
    if first != second:  # what follows is the other arm's
        flow.arms = (*flow.arms, (branch, 1 if second else 0))
    return first or second


def _otherwise(flow: Flow, node: cst.If | cst.Else | None) -> bool:
    if isinstance(node, cst.If):
        return _if(flow, node)
    return flow.block(node.body.body) if node is not None else True


def _arm(flow: Flow, branch: int, arm: int, go: Callable[[], bool]) -> bool:
    outer, flow.arms = flow.arms, (*flow.arms, (branch, arm))
    ends = go()
    flow.arms = outer
    return ends


def _for(flow: Flow, node: Any) -> bool:
    value = evaluate(flow, node.iter)
    item = functools.reduce(join, value.items) if isinstance(value, Items) and value.items else UNKNOWN
    rounds = 1 if isinstance(value, Items) and len(value.items) < 2 else 2
    before = dict(flow.scope.env)
    assign(flow, node.target, item)
    if flow.block(node.body.body) and rounds == 2 and _goes_on(before, flow.scope.env):
        assign(flow, node.target, item)
        flow.block(node.body.body)
    return _after(flow, before, node.orelse)


def _goes_on(before: Env, after: Env) -> bool:
    """Whether a round of a loop leaves another model under a name than it found there."""
    return any(isinstance(value, Model) and before.get(name) is not value for name, value in after.items())


def _while(flow: Flow, node: Any) -> bool:
    evaluate(flow, node.test)
    before = dict(flow.scope.env)
    flow.block(node.body.body)
    return _after(flow, before, node.orelse)


def _after(flow: Flow, before: Env, orelse: cst.Else | None) -> bool:
    """Behind a loop whose body may have been left out."""
    flow.scope.env = merged(before, flow.scope.env)
    if orelse is not None:
        flow.block(orelse.body.body)
    return True


def _try(flow: Flow, node: Any) -> bool:
    before = dict(flow.scope.env)
    ends = flow.block(node.body.body)
    if node.orelse is not None and ends:
        ends = flow.block(node.orelse.body.body)
    after = flow.scope.env
    reached = [ends]
    for handler in node.handlers:
        flow.scope.env = merged(before, after)
        if handler.name is not None:
            assign(flow, handler.name.name, UNKNOWN)
        reached.append(_arm(flow, flow.branch(handler), 0, functools.partial(flow.block, handler.body.body)))
        if reached[-1]:
            after = _fallback(after, flow.scope.env) if ends else flow.scope.env
    flow.scope.env = after
    final = flow.block(node.finalbody.body.body) if node.finalbody is not None else True
    return final and any(reached)


def _fallback(tried: Env, handled: Env) -> Env:
    """After try/except: an import that has a fallback is taken for the import."""
    out = merged(tried, handled)
    out.update({name: value for name, value in tried.items() if isinstance(value, Named)})
    return out


def _match(flow: Flow, node: Any) -> bool:
    evaluate(flow, node.subject)
    branch, before, after = flow.branch(node), dict(flow.scope.env), dict(flow.scope.env)
    for arm, case in enumerate(node.cases):
        flow.scope.env = dict(before)
        for part in walk(case.pattern):
            if isinstance(part, cst.Name):
                flow.scope.bind(part.value, UNKNOWN)
        if _arm(flow, branch, arm, functools.partial(flow.block, case.body.body)):
            after = merged(after, flow.scope.env)
    flow.scope.env = after
    return True


def _with(flow: Flow, node: Any) -> bool:
    outer = flow.within
    for item in node.items:
        start = flow.now
        value = evaluate(flow, item.item)
        called = (
            event.name for event in flow.trace.events[start:] if isinstance(event, Call) and event.node is item.item
        )
        flow.within = (*flow.within, *called)
        if item.asname is not None:
            assign(flow, item.asname.name, value)
    ends = flow.block(node.body.body)
    flow.within = outer
    return ends


# ------------------------------------------------------------------------------------------------ definitions


def _function(flow: Flow, node: Any) -> bool:
    for decorator in node.decorators:
        evaluate(flow, decorator.decorator)
    flow.scope.bind(node.name.value, Function(node))
    flow.pending.append((node, ""))
    return True


def _class(flow: Flow, node: Any) -> bool:
    owner = f"local.{node.name.value}"
    flow.scope.parents[owner] = tuple(value.name for value in _bases(flow, node))
    flow.scope.bind(node.name.value, Named(owner))
    for part in node.body.body:
        if isinstance(part, cst.SimpleStatementLine):
            _class_line(flow, node, owner, part)
        if isinstance(part, cst.FunctionDef):
            static = any(dotted(decorator.decorator) == "staticmethod" for decorator in part.decorators)
            flow.methods[owner, part.name.value] = Function(part, "" if static else owner)
            flow.pending.append((part, "" if static else owner))
    return True


def _bases(flow: Flow, node: cst.ClassDef) -> Iterator[Named]:
    values = (flow.scope.lookup(dotted(base.value)) for base in node.bases)
    return (value for value in values if isinstance(value, Named))


def _class_line(flow: Flow, node: cst.ClassDef, owner: str, line: cst.SimpleStatementLine) -> None:
    """Attributes of a class. A field of a dataclass or of some other library's class is no more than a default."""
    for part in line.body:
        if isinstance(part, cst.Assign):
            value = evaluate(flow, part.value)
            for target in part.targets:
                if isinstance(target.target, cst.Name):
                    flow.scope.leave(owner, target.target.value, value)
        elif isinstance(part, cst.AnnAssign) and part.value and isinstance(part.target, cst.Name):
            value = evaluate(flow, part.value)
            flow.scope.leave(owner, part.target.value, UNKNOWN if node.bases or node.decorators else value)


_COMPOUND: dict[type, Callable[[Flow, Any], bool]] = {
    cst.If: _if,
    cst.For: _for,
    cst.While: _while,
    cst.Try: _try,
    cst.TryStar: _try,
    cst.Match: _match,
    cst.With: _with,
    cst.FunctionDef: _function,
    cst.ClassDef: _class,
}
