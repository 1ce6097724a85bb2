"""What the config class makes of fields that are absent, null or given; aliases, sub-configs, what was never varied."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from adapterfit.expect.formulas import FormulaError, compile_formula, names_in
from architectures import layered, trace
from architectures.grow import Grower, literal
from architectures.learn import Effort, holds
from architectures.sample import Sampler, attribute, environment, is_depth, thinned
from architectures.stages import STAGES

#: What PEFT's `_prepare_prompt_learning_config` reads from `model.config.to_dict()`.
PROMPT_FIELDS = (
    *(
        [
            "num_hidden_layers",
            "num_layers",
            "n_layer",
            "hidden_size",
            "n_embd",
            "d_model",
            "num_attention_heads",
            "n_head",
            "num_heads",
        ]
    ),
    *(["encoder_attention_heads", "num_key_value_heads", "head_dim"]),
)
#: Numbers that scale, drop or initialise, and so build nothing.
_BUILDS_NOTHING = re.compile(
    r"eps|std|factor(?!s)|range|drop|prob|multiplier|scal|coef|noise|alpha|limit|theta|temperature|beta|gamma|value|init|"
    r"time_step_|_dt_(min|max|limit)|_log_(min|max)"
)
#: Samples to learn a field's default from: most are constants, which few show.
_FEW, _MANY = 12, 40
#: Configs that are asked whether a part's fields may stand in the file itself.
_FLAT = 8


class Defaults:
    """The config side of one model type. `envs` are the samples its trees were learned from."""

    def __init__(self, sampler: Sampler, envs: list[dict[str, Any]], activations: dict[str, str]) -> None:
        self.sampler, self.envs, self.activations, self.rng = sampler, envs, activations, sampler.rng
        self.doubts: list[str] = []
        self.unlearned: set[str] = set()
        self.missing: list[str] = []
        self.kept: set[str] = set()  # sub-configs that classes keep in place of the whole
        sampler.deepen()
        self.alias_map = self.aliases()

    def fields(self, written: Any) -> dict[str, Any]:
        """Every field that a formula reads → [value where absent, value where null, value where given].

        A field that is only asked for where another is absent (`missing`) is learned where that one is.
        """
        names = set(self.prompt_fields()) | set(_names(written))
        queue = sorted(names - {"i", "j", "num_labels"})
        found: dict[str, Any] = {}
        within: dict[str, list[str]] = {}
        while queue:
            name = queue.pop()
            head = name.split(".")[0]
            if name in found or (head in self.sampler.auto and "." in name) or name.endswith(STAGES):
                continue
            self.missing = within.get(name, [])
            found[name] = self.field(name)
            asked = {n for text in found[name] for n in names_in(text)} - set(found) - {"given", "num_labels", "i", "j"}
            queue += sorted(asked)
            for one in asked - names - names_in(found[name][2]):
                within.setdefault(one, [*self.missing, name])
        self.doubts += [
            f"field {name} null: no model was built with it"
            for name in sorted(found)
            if self._unseen(name, found[name])
        ]
        return {
            name: value[0] if value[1:] == ["null", "given"] else value[: 2 if value[2] == "given" else 3]
            for name, value in sorted(found.items())
        }

    def _unseen(self, name: str, learned: list[str]) -> bool:
        """Whether a field stays null where it is null, though it was never null in a model and is not by default."""
        flag = learned[0] in {"true", "false"}  # a model takes null for false
        if learned[1] != "null" or learned[0] == "null" or flag or not _may_be_null(self.sampler, name):
            return False
        return not any(env[name] is None for env in self.envs if name in env)

    def field(self, name: str) -> list[str]:
        """Its value where it is absent, where it is null, where it is given."""
        Effort.renew()
        absent = self._learned(name, "absent")
        null = self._learned(name, "null")
        if layered.key_of(name) != name:
            return [absent, "null" if null == "" else null, "given"]
        return [absent, "null" if null == "" else null, self._learned(name, "given")]

    def _learned(self, name: str, how: str) -> str:
        """What the config class makes of a field that is absent, null or given."""
        keys = {key: one for key, one in self.sampler.keys().items() if one.makes and key != name}
        few = self._seen(name, how, _FEW, keys)
        if how == "given" and not few:
            return "given"
        if not few:
            return "" if how == "null" else literal(_declared(self.sampler, name))
        text, doubts = self._formula(name, few)
        if doubts or not _plain(text):
            few += self._seen(name, how, _MANY, keys)
            if doubts or not self._holds(text, few):
                text, doubts = self._formula(name, few)
        waiting = sorted(keys.keys() - self.unlearned) if not doubts else []
        while waiting:
            key = waiting.pop()
            text = self._with_key(name, how, text, key, few, waiting)
        self.doubts += [f"field {name} {how}: {doubt}" for doubt in doubts]
        return text

    def _with_key(
        self, name: str, how: str, text: str, key: str, without: list[tuple[Any, ...]], later: Collection[str]
    ) -> str:
        """The formula where this key may be given, too; where none is found the key is `unlearned` and nothing changes."""
        one, others = self.sampler.keys()[key], self.sampler.keys().keys() - {key, name}
        seen = self._seen(name, how, _FEW, others, key)
        if seen and self._holds(text, seen):
            return text
        seen += self._seen(name, how, _MANY, others, key)
        if not seen:
            self.unlearned.add(key)
            return text
        more, doubts = self._formula(name, seen if one.default is None else seen + without)
        if one.default is None:
            more = f"{key} == null ? {f'({text})' if '?' in text else text} : {more}"
        fresh = self._seen(name, how, _FEW, {*self.unlearned, *later})
        if doubts or not self._holds(more, seen + without + fresh):
            self.unlearned.add(key)
            return text
        return more

    @staticmethod
    def _holds(text: str, seen: list[tuple[Any, ...]]) -> bool:
        """Whether the formula gives the field's value everywhere; lists and tuples are one."""
        formula = compile_formula(text)
        try:
            return all(_frozen(formula(env)) == _frozen(value) for env, value, *_ in seen)
        except (FormulaError, KeyError, TypeError):
            return False

    def _formula(self, name: str, seen: list[tuple[Any, ...]]) -> tuple[str, list[str]]:
        if "given" in seen[0][0] and all(
            env["given"] == value and type(value) is type(env["given"]) for env, value, *_ in seen
        ):
            return "given", []
        grower = Grower(self.activations)
        told = [lambda raw=raw, given=given: self._told(raw, name, given) for _, _, raw, given in seen]
        text = grower.value(name, [env for env, *_ in seen], [value for _, value, *_ in seen], told)
        return text, grower.doubts

    def _seen(self, name: str, how: str, count: int, without: Collection[str], key: str = "") -> list[tuple[Any, ...]]:
        """Configs where the field is so: the other fields, its value, the file, under which names it was given.

        None of them has a key of `without`; all have `key`.
        """
        names = self._spellings(name)
        seen: list[tuple[Any, ...]] = []
        for attempt in range(3 * count + 20):
            raw = self.sampler.raw()
            if attempt >= count + 10:
                raw = thinned(raw, name, self.rng)
            for one in (*without, *self.missing):
                _altered(raw, self._spellings(one), "absent")
            if key:
                self._put(raw, key)
            if not _altered(raw, names, how):
                continue
            given = next((value for one in names if (value := _dig(raw, one)) is not None), None)
            try:
                env = self.sampler.env(self.sampler.config(raw), raw)
            except Exception:
                continue
            if name not in env:
                continue
            value = env.pop(name)
            env = {one: have for one, have in env.items() if not one.endswith(layered.SUFFIX)}  # made of the others
            if how == "given":
                env = {"given": list(given) if isinstance(given, tuple) else given, **env}
            seen.append((env, value, raw, names if how == "given" else []))
            if len(seen) == count:
                break
        return seen

    def _spellings(self, name: str) -> list[str]:
        return [layered.key_of(name), *(alias for alias, real in self.alias_map.items() if real == name)]

    def _put(self, raw: dict[str, Any], key: str) -> None:
        """Give a key that no field keeps, in place."""
        *heads, leaf = key.split(".")
        for part in heads:
            raw = raw.setdefault(part, {})
        layers = next((value for name, value in raw.items() if is_depth(name) and value), 0) or self.sampler.depth()
        raw[leaf] = self.rng.choice(self.sampler.keys()[key].makes)(self.rng, layers)

    def _told(self, raw: dict[str, Any], name: str, given: list[str]) -> Any:
        """How the config class says that it computed this field, or each entry of it; empty where it does not."""
        trace.shadow()
        try:
            value: Any = self.sampler.config(trace.marked(raw, {**self.alias_map, **dict.fromkeys(given, "given")}))
        except Exception:
            return ""
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, (list, tuple)):
            return [one.text if isinstance(one, trace.Traced) else "" for one in value]
        return value.text if isinstance(value, trace.Traced) else ""

    def prompt_fields(self) -> list[str]:
        """The fields of `to_dict()` that PEFT reads, those of a `text_config` or another part of fixed type dotted."""
        found = [name for name in PROMPT_FIELDS if name in self.sampler.config({}).to_dict()]
        for key in ("text_config", *sorted(self.kept)):
            if key in self.sampler.specs and key not in self.sampler.auto:
                inner = getattr(self.sampler.config({}), key).to_dict()
                found += [f"{key}.{name}" for name in PROMPT_FIELDS if name in inner]
        return found

    def aliases(self) -> dict[str, str]:
        """`attribute_map` of the config and of its sub-configs of fixed type."""
        found = {alias: real for alias, real in self.sampler.cls.attribute_map.items() if alias != real}
        found.update(self.older_names())
        for key, part in self.sampler.parts.items():
            if key not in self.sampler.auto:
                found.update({f"{key}.{a}": f"{key}.{b}" for a, b in part.cls.attribute_map.items() if a != b})
        return found

    def older_names(self) -> dict[str, str]:
        """Names that the config class takes out of its keyword arguments and puts into a field, even over its value."""
        source = inspect.getsource(self.sampler.cls)
        found = {}
        for name in sorted(set(re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""", source))):
            raw = {**self.sampler.raw(tame=True), name: 97 * 101}
            try:
                env = environment(self.sampler.config(raw))
            except Exception:
                continue
            fields = [key for key, value in env.items() if value == 97 * 101 and key != name]
            if len(fields) == 1:
                found[name] = fields[0]
        return found

    def words(self, written: Any) -> dict[str, list[str]]:
        """Text fields that conditions ask for, and their values in the samples: another value decides nothing."""
        found = {}
        for name in sorted(set(re.findall(r"([\w.]+) == '", json.dumps(written)))):
            values = {env[name] for env in self.envs if isinstance(env.get(name), str)}
            if values:
                found[name] = sorted(values)
        return found

    def default_activations(self, fields: dict[str, Any]) -> dict[str, str]:
        """Class names of the activations that default configs name, so that one file is enough for them."""
        env = environment(self.sampler.config({}))
        values = {_text(env.get(name)) for name in fields}
        return {value: self.activations[value] for value in sorted(values) if value in self.activations}

    def fixed(self) -> dict[str, Any]:
        """Fields that models read while they are built, but that could not be varied: with another value nothing is known."""
        default = environment(self.sampler.config({}))
        for key in self.sampler.voidable.difference(self.sampler.auto):
            if default.get(key) is None:  # not there by default: its own defaults count where it is
                default.update(environment(self.sampler.parts[key].default, f"{key}."))
        frozen = {name for name in self.sampler.frozen if name in default}
        frozen |= set(self.sampler.known(undrawn=True)) | self._never_drawn(self.sampler, "")
        for key, part in self.sampler.parts.items():
            if key not in self.sampler.auto:
                frozen |= {f"{key}.{name}" for name in part.frozen} | self._never_drawn(part, f"{key}.")
        own = {name for name in self._never_drawn(self.sampler, "") if re.search(rf"self\.{name}\b", self._made_by())}
        found = {name: _value(self.sampler, name, default) for name in sorted(frozen & trace.read | own)}
        keys = {name: one for name, one in self.sampler.keys().items() if not one.makes or name in self.unlearned}
        return {**found, **self._lengths(set(found)), **{name: one.default for name, one in sorted(keys.items())}}

    def derived(self, fields: dict[str, Any]) -> list[str]:
        """Numbers and lists that are no fields, but made of them; a file may have them too, as no model was built with.

        Their formulas are added to `fields`.
        """
        made = environment(self.sampler.config({}))
        found = []
        for name in sorted(made.keys() - self.sampler.annotated.keys() - {"num_labels", "tie_word_embeddings"}):
            kept = type(made[name]) is int or isinstance(made[name], list)
            if not kept or "." in name or name[:1] == "_" or name not in trace.read | fields.keys():
                continue
            before = len(self.doubts)
            learned = fields.get(name) or self.field(name)
            if len(self.doubts) > before:
                del self.doubts[before:]
                continue
            fields.setdefault(name, learned)
            found.append(name)
        return found

    def _made_by(self) -> str:
        """The source that makes the config's other fields; what it reads shapes models that never ask for it."""
        made = vars(self.sampler.cls).get("__post_init__")
        return inspect.getsource(made) if made is not None else ""

    def _lengths(self, fixed: set[str]) -> dict[str, Any]:
        """`len(field)` of lists that models read and that had one length in all samples, whatever their items."""
        found = {}
        for name in sorted(trace.read - fixed):
            lengths = {len(value) for env in self.envs if isinstance(value := env.get(name), (list, tuple))}
            if len(lengths) == 1:
                found[f"len({name})"] = lengths.pop()
        return found

    def _never_drawn(self, sampler: Sampler, prefix: str) -> set[str]:
        """Fields that no model was built with another value of, and whose name does not say that they build nothing."""
        idle = set(sampler.fields) - sampler.varied - set(sampler.specs)
        return {f"{prefix}{name}" for name in idle if not _BUILDS_NOTHING.search(name)}

    def configs(self) -> dict[str, Any]:
        """Sub-configs: their type where the file does not say, whether any type may stand there, whether flat is read."""
        found = {}
        for key, spec in self.sampler.specs.items():
            entry: dict[str, Any] = {"type": spec.model_type}
            if key in self.sampler.auto:
                entry["any"] = True
                if beneath := self._beneath(key, spec.model_type):
                    entry["beneath"] = beneath
            if spec.init_kwargs:
                entry["absent"] = spec.init_kwargs
            if self._reads_flat(key):
                entry["flat"] = True
            found[key] = entry
        return found

    def of_one_type(self, written: Any) -> dict[str, str]:
        """Parts of any type that were not left to their own type's facts, and what was learned of one type alone."""
        kept = set(_sub_models(written))
        names = _names(written)
        lone = {f"{key}.model_type": model_type for key, model_type in self.sampler.lone.items()}
        return lone | {
            f"{key}.model_type": self.sampler.specs[key].model_type
            for key in self.sampler.auto
            if (key, "bare") not in kept
            and (
                (key, "BACKBONE") not in kept or any(n.startswith(f"{key}.") and not n.endswith(STAGES) for n in names)
            )
        }

    def stages(self) -> dict[str, list[Any]]:
        """Of a backbone, and of parts of fixed type that are: the number of stages, and whether one stands before the first."""
        parts = {key: part for key, part in self.sampler.parts.items() if key not in self.sampler.auto}
        found = {}
        for key, part in {"": self.sampler, **parts}.items():
            if part.staged and (count := self._stage_count(part)) is not None:
                dotted = count if not key or count.isdecimal() else count.replace("len(", f"len({key}.")
                found[key] = [
                    dotted if dotted != count or not key else f"{key}.{count}",
                    part.default.stage_names[0] == "stem",
                ]
        return found

    @staticmethod
    def _stage_count(part: Sampler) -> str | None:
        """The field that counts a backbone's stages."""
        configs = []
        for _ in range(_FLAT * 2):
            with suppress(Exception):
                configs.append(part.cls(**part.raw(tame=True)))
        envs = [environment(config) for config in configs]
        wanted = [sum(name != "stem" for name in config.stage_names) for config in configs]
        texts = [text for key in envs[0] for text in (key, f"len({key})")] + [str(wanted[0])]
        return next((text for text in texts if holds(text, envs, wanted)), None)

    def _beneath(self, key: str, model_type: str) -> dict[str, Any]:
        """What the config class gives a part of its usual type, where the file gives that part but not the field."""
        try:
            own = environment(CONFIG_MAPPING[model_type]())
            made = environment(getattr(self.sampler.config({key: {"model_type": model_type}}), key))
        except Exception:
            return {}
        handed = self.sampler.specs[key].init_kwargs
        if handed and all(made.get(n) == v for n, v in handed.items() if n in made and not isinstance(v, dict)):
            return dict(handed) if any(own.get(n) != v for n, v in handed.items() if n in made) else {}
        plain = {n: v for n, v in made.items() if "." not in n and own.get(n) != v and not isinstance(v, (list, float))}
        return {name: value for name, value in plain.items() if self._is_given(key, model_type, name, value)}

    def _is_given(self, key: str, model_type: str, name: str, value: Any) -> bool:
        """Whether the file's own value goes before."""
        other = not value if isinstance(value, bool) else 2 * value if isinstance(value, int) and value else value
        try:
            made = self.sampler.config({key: {"model_type": model_type, name: other}})
        except Exception:
            return True
        return bool(getattr(getattr(made, key), name, None) == other)

    def _reads_flat(self, key: str) -> bool:
        """Whether the part's fields are read from the file itself; asked of several configs, as not each can be built flat."""
        return any(self._reads_this_flat(key) for _ in range(_FLAT))

    def _reads_this_flat(self, key: str) -> bool:
        raw = self.sampler.raw()
        flat = raw.pop(key, None) or {}
        flat.pop("model_type", None)
        try:
            env = environment(self.sampler.config({**raw, **flat}))
        except Exception:
            return False
        probe = [n for n in flat if n.endswith(("hidden_size", "d_model", "vocab_size")) and flat[n] is not None]
        return bool(probe) and all(env.get(f"{key}.{n}") == flat[n] for n in probe)


def _sub_models(data: Any) -> Iterator[tuple[str, str]]:
    """Which parts other types' facts answer for, and as what, in these lines."""
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        if isinstance(value, list) and value[1:2] == ["@"]:
            yield value[2], (value[4] if value[4:] else {}).get("task", "bare")
        elif isinstance(value, (dict, list)):
            yield from _sub_models(value)


def _names(data: Any) -> set[str]:
    """Fields read by any formula in this data: strings that stand where formulas stand."""
    found: set[str] = set()
    if isinstance(data, dict):
        if "tasks" in data:
            for key in ("input_embeddings", "output_embeddings"):
                found |= names_in(data[key])
            for key in ("tied", "aliases"):
                for entry in data[key]:
                    found |= names_in(entry[0])
                    found |= names_in(entry[-1]["to"]) if isinstance(entry[-1], dict) else set()
            return found
        for value in data.values():
            found |= _names(value)
        return found
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict):
                found |= _names(item)
            elif isinstance(item, list):
                found |= _line_names(item)
    return found


def _line_names(line: list[Any]) -> set[str]:
    found: set[str] = set()
    if len(line) < 3 or line[1] == "@":
        return (
            set().union(*(names_in(v) for part in line[4:] for k, v in part.items() if k == "if"))
            if line[4:]
            else found
        )
    for dims in line[3].values() if len(line) > 3 else ():
        for dim in dims:
            found |= names_in(dim["if"] if isinstance(dim, dict) else dim)
    for key, value in line[4].items() if len(line) > 4 else ():
        if key in {"if", "each", "times", "groups"}:
            found |= names_in(value)
        elif key in {"act", "by"}:
            found.add(value if key == "act" else value[0])
    return found


def _plain(text: str) -> bool:
    """A constant, or the given value itself: nothing that a chance agreement of few samples could be taken for."""
    return not names_in(text) - {"given"} and "?" not in text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _declared(sampler: Sampler, name: str) -> Any:
    *heads, leaf = name.split(".")
    for part in heads:
        sampler = sampler.parts[part]
    return getattr(sampler.cls, leaf, None)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _may_be_null(sampler: Sampler, name: str) -> bool:
    *heads, leaf = name.split(".")
    for part in heads:
        sampler = sampler.parts[part]
    return "None" in str(getattr(sampler.annotated.get(leaf), "type", ""))


def _value(sampler: Sampler, name: str, default: dict[str, Any]) -> Any:
    """What a field has by default; a table as a file of today has it."""
    value = default.get(name)
    if value is None and "." not in name:
        made = attribute(sampler.default, name)
        value = made if isinstance(made, dict) and _is_json(made) else None
    return value


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _dig(raw: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def _altered(raw: dict[str, Any], names: list[str], how: str) -> bool:
    """Take the field away under all its names, or set it to null, in place; false where that cannot be."""
    *heads, _ = names[0].split(".")
    for part in heads:
        raw = raw.get(part) or {}
    leaves = [name.rpartition(".")[2] for name in names]
    present = [leaf for leaf in leaves if leaf in raw]
    if how == "absent":
        for leaf in present:
            raw.pop(leaf, None)  # two spellings may be one
    elif how == "null":
        raw[(present or leaves)[0]] = None
    else:
        return any(raw.get(leaf) is not None for leaf in leaves)
    return True
