"""Laws 1 and 2: who may import what, and what a check leaves unimported."""

import json
import subprocess
import sys

import pytest
from source import FILES, imports

STAGES = {"read", "expect", "compare", "diagnose", "plan", "repair", "verify"}
#: What every stage may lean on.
COMMON = {
    "answers",
    "computed",
    "record",
    "records",
    "symptoms",
    "plans",
    "edits",
    "errors",
    "limits",
    "text",
    "discover",
}
#: Rooms that belong to one stage: causes are diagnose's axis, consumers are facts about loaders.
AXES = {"diagnose": {"causes"}, "causes": set(), "consumers": set()}
JUDGES = {"torch", "transformers", "peft"}
HEAVY = {"numpy", "rich", "jinja2", "huggingface_hub", "libcst", "ray", "duckdb", "pyarrow", "fsspec"}
#: Third-party imports at module level, each in one room.
LIGHT = {"click": {"cli"}, "libcst": {"lint"}}
#: A room that is made of a heavy library: lint's rules are written in libcst's nodes, and the command imports them when it
#: is used.
MADE_OF = {"libcst": "lint"}


def ours(module):
    parts = module.split(".")
    return parts[1] if parts[0] == "adapterfit" and len(parts) > 1 else None


def stage_files():
    return [file for file in FILES if file.room in STAGES | set(AXES)]


def test_a_stage_imports_only_records_and_itself():
    foreign = []
    for file in stage_files():
        allowed = COMMON | {file.room, None} | AXES.get(file.room, set())
        foreign += [
            f"{found.where} imports {found.module}" for found in imports(file) if ours(found.module) not in allowed
        ]
    assert foreign == []


def test_torch_transformers_and_peft_are_imported_only_by_the_judge_and_the_guard():
    found = [
        item.where
        for file in FILES
        for item in imports(file)
        if item.module.split(".")[0] in JUDGES and not item.for_types_only
        if file.room != "exact" and not (file.room == "guard" and item.inside_function)
    ]
    assert found == []


def test_heavy_libraries_are_imported_inside_functions():
    found = [
        item
        for file in FILES
        for item in imports(file)
        if item.module.split(".")[0] in HEAVY and MADE_OF.get(item.module.split(".")[0]) != file.room
    ]
    assert [item.where for item in found if not item.inside_function and not item.for_types_only] == []


def test_a_room_made_of_a_heavy_library_is_imported_inside_functions():
    rooms = set(MADE_OF.values())
    found = [item for file in FILES if file.room not in rooms for item in imports(file) if ours(item.module) in rooms]
    assert [item.where for item in found if not item.inside_function and not item.for_types_only] == []


def test_at_module_level_only_the_standard_library_and_ourselves():
    known = set(sys.stdlib_module_names) | {"adapterfit"}
    foreign = []
    for file in FILES:
        allowed = known | {name for name, rooms in LIGHT.items() if file.room in rooms}
        top = [item for item in imports(file) if not item.inside_function and not item.for_types_only]
        foreign += [item.where for item in top if item.module.split(".")[0] not in allowed and file.room != "exact"]
    assert foreign == []


def test_nothing_imports_the_judge():
    found = [
        item.where for file in FILES if file.room != "exact" for item in imports(file) if ours(item.module) == "exact"
    ]
    assert found == []


ABSENT = ("torch", "transformers", "peft", "numpy", "rich", "huggingface_hub", "jinja2", "safetensors", "libcst")
CHECK = """
import json, sys
from adapterfit.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(m for m in sys.modules if "." not in m)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [("check", "."), ("check", ".", "--format", "json"), ("check", ".", "--base", ".")], ids=" ".join
)
def test_a_check_in_a_fresh_interpreter_imports_nothing_heavy(arguments, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}')
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    result = subprocess.run(
        [sys.executable, "-c", CHECK, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    code, modules = json.loads(result.stderr.splitlines()[-1])
    assert code in (0, 1, 2)
    assert result.stdout, result.stderr
    assert [name for name in ABSENT if name in modules] == []


def test_importing_adapterfit_imports_nothing_else_of_ours():
    script = "import sys, adapterfit; print([m for m in sys.modules if m.startswith('adapterfit.')])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_a_check_that_finds_nothing_wrong_imports_nothing_of_a_repair(tmp_path):
    from adapterfit.testing import make
    from adapterfit.testing.disk import lay

    lay(tmp_path / "adapter", make.as_files(make.lora()))
    lay(tmp_path / "base", {"config.json": json.dumps(dict(make.base("llama").config)).encode()})
    script = CHECK.replace('if "." not in m', 'if m.startswith("adapterfit.")')
    result = subprocess.run(
        [sys.executable, "-c", script, "check", "adapter", "--base", "base"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    code, modules = json.loads(result.stderr.splitlines()[-1])
    assert code == 0
    rooms = {module.split(".")[1] for module in modules}
    assert rooms & {"plan", "plans", "repair", "verify", "fixing", "conversion"} == set()
