"""What an expression is worth, as far as it is certain; its calls and its uses of models go into the trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libcst as cst

from adapterfit.lint import known, texts
from adapterfit.lint.narrowing import narrow
from adapterfit.lint.trace import Argument, Call, Store
from adapterfit.lint.tree import children, dotted, walk
from adapterfit.lint.values import (
    UNKNOWN,
    Constant,
    Function,
    Items,
    Method,
    Model,
    Named,
    Object,
    Table,
    Text,
    Value,
    Weights,
    join,
)

if TYPE_CHECKING:
    from adapterfit.lint.flow import Flow


def evaluate(flow: Flow, node: cst.BaseExpression, *, dropped: bool = False, handing_on: bool = True) -> Value:
    """The value of an expression.

    `dropped`: nothing takes it. `handing_on`: a model that comes out is used as a whole, not for one of its attributes.
    """
    flow.step()
    if isinstance(node, cst.Call):
        return _call(flow, node, dropped=dropped)
    handler = _HANDLERS.get(type(node))
    value = handler(flow, node) if handler is not None else _parts(flow, node)
    if handing_on and isinstance(value, Model) and isinstance(node, (cst.Name, cst.Attribute)):
        flow.read(value, "", node)
    return value


def _parts(flow: Flow, node: cst.CSTNode) -> Value:
    """Of an expression that is not known as a whole, go through the parts."""
    for child in children(node):
        if isinstance(child, cst.BaseExpression):
            evaluate(flow, child)
        elif not isinstance(child, (cst.FunctionDef, cst.Lambda)):
            _parts(flow, child)
    return UNKNOWN


def _name(flow: Flow, node: Any) -> Value:
    return Constant(_WORDS[node.value]) if node.value in _WORDS else flow.scope.lookup(node.value)


_WORDS = {"True": True, "False": False, "None": None}


def _attribute(flow: Flow, node: Any) -> Value:
    name = dotted(node)
    bound = flow.scope.lookup(name) if name else UNKNOWN
    owner = evaluate(flow, node.value, handing_on=False)
    if isinstance(owner, Model):
        flow.read(owner, node.attr.value, node)
    if bound != UNKNOWN:
        return bound
    if isinstance(owner, (Model, Weights, Text, Object, Table)):
        found = known.attribute(owner, node.attr.value)
        return found if found is not None else Method(owner, node.attr.value)
    return flow.scope.member(owner, node.attr.value) if isinstance(owner, Named) else UNKNOWN


def _number(_flow: Flow, node: Any) -> Value:
    digits = node.value.replace("_", "")
    return Constant(int(digits)) if digits.isascii() and digits.isdigit() and len(digits) < 20 else UNKNOWN


def _text(_flow: Flow, node: Any) -> Value:
    value = node.evaluated_value
    return Text(value, value) if isinstance(value, str) else UNKNOWN


def _concatenated(flow: Flow, node: Any) -> Value:
    return texts.concatenate([evaluate(flow, node.left), evaluate(flow, node.right)])


def _formatted(flow: Flow, node: Any) -> Value:
    parts: list[Value] = []
    for part in node.parts:
        if isinstance(part, cst.FormattedStringText):
            parts.append(Text(part.value, part.value))
        else:
            value = evaluate(flow, part.expression)
            parts.append(value if part.conversion is None and part.format_spec is None else UNKNOWN)
    return texts.concatenate(parts)


def _binary(flow: Flow, node: Any) -> Value:
    left, right = evaluate(flow, node.left), evaluate(flow, node.right)
    if isinstance(node.operator, cst.Add):
        return texts.concatenate([left, right]) if isinstance(right, Text) or isinstance(left, Text) else UNKNOWN
    if isinstance(node.operator, cst.Modulo) and isinstance(left, Text):
        return texts.filled(left, texts.PERCENT)
    if isinstance(node.operator, cst.Divide) and isinstance(right, Text):
        return texts.join_path([left, right])
    return UNKNOWN


def _choice(flow: Flow, node: Any) -> Value:
    evaluate(flow, node.test)
    kept, place, branch, values = flow.scope.env, flow.place, flow.branch(node), []
    for arm, part in enumerate((node.body, node.orelse)):
        flow.scope.env = dict(kept)
        flow.place = dataclasses.replace(place, arms=(*place.arms, (branch, arm)))
        narrow(flow.scope, node.test, holds=arm == 0)
        values.append(evaluate(flow, part))
    flow.scope.env, flow.place = kept, place
    return join(*values)


def _named(flow: Flow, node: Any) -> Value:
    value = evaluate(flow, node.value)
    flow.scope.bind(dotted(node.target), value)
    return value


def _items(flow: Flow, node: Any) -> Value:
    values = [evaluate(flow, element.value) for element in node.elements]
    starred = any(isinstance(element, cst.StarredElement) for element in node.elements)
    return UNKNOWN if starred else Items(tuple(values))


def _table(flow: Flow, node: Any) -> Value:
    entries: dict[str, Value] = {}
    whole = True
    for element in node.elements:
        value = evaluate(flow, element.value)
        key = evaluate(flow, element.key) if isinstance(element, cst.DictElement) else UNKNOWN
        if isinstance(key, Text) and key.exact is not None:
            entries[key.exact] = value
        else:
            whole = False
    return Table(entries, whole)


def _subscript(flow: Flow, node: Any) -> Value:
    owner = evaluate(flow, node.value)
    index = node.slice[0].slice if len(node.slice) == 1 else None
    key = evaluate(flow, index.value) if isinstance(index, cst.Index) else UNKNOWN
    if (
        isinstance(owner, Items)
        and isinstance(key, Constant)
        and isinstance(key.value, int)
        and key.value < len(owner.items)
    ):
        return owner.items[key.value]
    if isinstance(owner, Table) and isinstance(key, Text) and key.exact is not None:
        return owner.get(key.exact)
    if isinstance(owner, Weights) and owner.of is None and isinstance(key, Text):  # a part of a larger checkpoint
        return Weights(changed=True, renamed=True, origin=owner.origin)
    return UNKNOWN


def _comprehension(flow: Flow, node: Any) -> Value:
    """A dict made of a state dict's entries is that state dict, worked over."""
    outer, source, loop = dict(flow.scope.env), None, node.for_in
    while loop is not None:
        value = evaluate(flow, loop.iter)
        source = value if source is None else UNKNOWN
        for name in walk(loop.target):
            if isinstance(name, cst.Name):
                flow.scope.bind(name.value, UNKNOWN)
        for condition in loop.ifs:
            evaluate(flow, condition.test)
        loop = loop.inner_for_in
    for part in (node.key, node.value) if isinstance(node, cst.DictComp) else (node.elt,):
        evaluate(flow, part)
    opened = _tensors_of(flow, node) if isinstance(node, cst.DictComp) else None
    flow.scope.env = outer
    if opened is not None:
        return opened
    is_copy = isinstance(source, Weights) and isinstance(node, cst.DictComp)
    if not is_copy or not isinstance(source, Weights):
        return UNKNOWN
    return dataclasses.replace(source, changed=True, renamed=source.renamed or not _keeps_names(node))


def _keeps_names(node: cst.DictComp) -> bool:
    """`{name: … for name, … in …}`; not where it looks for a wrapper's prefix, whose author knows of it."""
    target = node.for_in.target
    first = target.elements[0].value if isinstance(target, cst.Tuple) else target
    words = [part.evaluated_value for part in walk(node) if isinstance(part, cst.SimpleString)]
    knows = any(isinstance(word, str) and ("module" in word or "_orig_mod" in word) for word in words)
    return isinstance(node.key, cst.Name) and dotted(first) == node.key.value and not knows


def _tensors_of(flow: Flow, node: cst.DictComp) -> Weights | None:
    """`{name: file.get_tensor(name) for name in file.keys()}`, with safetensors' safe_open: what the file holds, as it stands."""
    key, call, loop = node.key, node.value, node.for_in
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute) or loop.inner_for_in is not None:
        return None
    file = evaluate(flow, call.func.value)
    given = [dotted(arg.value) for arg in call.args]
    plain = isinstance(key, cst.Name) and dotted(loop.target) == key.value and given == [key.value]
    if not plain or call.func.attr.value != "get_tensor" or not isinstance(file, Object):
        return None
    return Weights(path=file.arguments.get("path")) if file.class_name == "safetensors.safe_open" else None


def _lambda(_flow: Flow, node: Any) -> Value:
    return Function(node)


def _await(flow: Flow, node: Any) -> Value:
    return evaluate(flow, node.expression)


_HANDLERS: dict[type, Callable[[Flow, Any], Value]] = {
    cst.Name: _name,
    cst.Attribute: _attribute,
    cst.Integer: _number,
    cst.SimpleString: _text,
    cst.ConcatenatedString: _concatenated,
    cst.FormattedString: _formatted,
    cst.BinaryOperation: _binary,
    cst.IfExp: _choice,
    cst.NamedExpr: _named,
    cst.Tuple: _items,
    cst.List: _items,
    cst.Dict: _table,
    cst.Subscript: _subscript,
    cst.DictComp: _comprehension,
    cst.ListComp: _comprehension,
    cst.SetComp: _comprehension,
    cst.GeneratorExp: _comprehension,
    cst.Lambda: _lambda,
    cst.Await: _await,
}

# ------------------------------------------------------------------------------------------------ calls


def _call(flow: Flow, node: cst.Call, *, dropped: bool) -> Value:
    callee = evaluate(flow, node.func, handing_on=True)
    name, receiver = _name_of(flow, node, callee)
    positional, keywords, whole = _arguments(flow, node)
    call = Call(
        at=flow.now,
        name=name,
        node=node,
        place=flow.place,
        receiver=receiver,
        positional=positional,
        keywords=keywords,
        whole=whole,
        dropped=dropped or _thrown_away(flow, node),
    )
    flow.note(call)
    if name == "builtins.setattr":
        _set_attribute(flow, call)
    result = _inside(flow, callee, receiver, call)
    result = known.result(call) if result is None else result
    if isinstance(callee, Method) and callee.name in _CHANGES and isinstance(node.func, cst.Attribute):
        flow.scope.change(node.func.value)
    flow.trace.events[call.at] = dataclasses.replace(call, result=result)
    return result


def _set_attribute(flow: Flow, call: Call) -> None:
    """`setattr(model, "name", value)`."""
    if len(call.node.args) != 3 or not call.whole:
        return
    target, _, new = call.node.args
    receiver, name = call.positional[0].value, call.positional[1].value
    if isinstance(name, Text) and name.exact is not None and name.exact.isidentifier():
        if isinstance(receiver, Model):
            mentions = flow.mentions(new.value)
            flow.note(Store(flow.now, receiver, name.exact, call.node, flow.place, mentions))
        if dotted(target.value):
            flow.scope.bind(f"{dotted(target.value)}.{name.exact}", call.positional[2].value)


#: Methods that change what they are called on.
_CHANGES = frozenset({"update", "pop", "popitem", "clear", "setdefault"})


def _name_of(flow: Flow, node: cst.Call, callee: Value) -> tuple[str, Value]:
    """The canonical name of what is called, and what it is called on."""
    if isinstance(callee, Named):
        return callee.name, UNKNOWN
    if isinstance(callee, Method):
        return f"{_kind(flow, callee)}.{callee.name}", callee.receiver
    if isinstance(callee, Model):
        return "model()", callee
    if isinstance(callee, Function):
        return "local", UNKNOWN
    if isinstance(node.func, cst.Attribute):
        return f"?.{node.func.attr.value}", UNKNOWN
    return "?", UNKNOWN


def _kind(flow: Flow, callee: Method) -> str:
    value = callee.receiver
    if isinstance(value, Object):
        inherited = flow.method(value.class_name, callee.name) is None
        return (_of_library(flow, value.class_name) if inherited else "") or value.class_name
    return {Model: "model", Weights: "weights", Text: "text"}.get(type(value), "?")


def _of_library(flow: Flow, owner: str) -> str:
    """The library's class that a class of this file is derived from; empty where there is none."""
    return next((each for each in flow.scope.lineage(owner) if not each.startswith("local.")), "")


def _arguments(flow: Flow, node: cst.Call) -> tuple[tuple[Argument, ...], dict[str, Argument], bool]:
    positional, keywords, whole = [], {}, True
    for arg in node.args:
        value = evaluate(flow, arg.value)
        if arg.star == "**" and isinstance(value, Table) and value.whole:
            keywords.update({name: Argument(arg, entry) for name, entry in value.entries.items()})
        elif arg.star:
            whole = False
        elif arg.keyword is not None:
            keywords[arg.keyword.value] = Argument(arg, value)
        else:
            positional.append(Argument(arg, value))
    return tuple(positional), keywords, whole


def _thrown_away(flow: Flow, node: cst.Call) -> bool:
    """`_ = call()`."""
    statement = flow.place.statement
    if not isinstance(statement, cst.Assign) or statement.value is not node:
        return False
    return all(isinstance(target.target, cst.Name) and target.target.value == "_" for target in statement.targets)


def _inside(flow: Flow, callee: Value, receiver: Value, call: Call) -> Value | None:
    """What a function or class of this file gives back; None for all others."""
    if isinstance(callee, Function):
        return flow.run(callee, call)
    if isinstance(callee, Named) and callee.name.startswith("local.") and callee.name.count(".") == 1:
        start = flow.method(callee.name, "__init__")
        if start is not None:
            flow.run(start, call)
        made = known.made(_of_library(flow, callee.name), call) if start is None else UNKNOWN
        arguments = made.arguments if isinstance(made, Object) else Table(whole=False)
        return Object(callee.name, arguments, ids=known.fresh())
    if isinstance(callee, Method) and isinstance(receiver, Object):
        method = flow.method(receiver.class_name, callee.name)
        return flow.run(method, call) if method is not None else None
    return None
