"""Laws 3 and 4: what the source never does, and where it may write and print."""

import ast

import pytest
from source import FILES, calls, imports

#: `adapterfit run SCRIPT` runs what the user names, as `python SCRIPT` would.
RUNS_FOR_THE_USER = {("guard/script.py", "runpy")}
NEVER_IMPORTED = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "mmap",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "runpy",
}
NEVER_CALLED = {"eval", "exec", "compile", "__import__", "yaml.load", "os.system", "os.popen"}
#: Rooms that may write files: a repaired adapter, a stamp, a report, a fleet's store, builders for tests and the demo, and
#: the user's own source, which `lint --fix` mends on request.
WRITERS = {"repair", "guard", "report", "fleet", "testing", "exact", "lint"}
WRITING = {
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "rename",
    "replace",
    "unlink",
    "rmtree",
    "symlink_to",
    "touch",
    "chmod",
}
#: Names imported from a variable, each from a closed set of our own modules.
CLOSED_SETS = {"__init__.py", "discover.py", "diagnose/registry.py"}
STARTERS = {"subprocess", "multiprocessing", "socket"}


def test_no_module_that_runs_what_it_reads():
    found = {
        (file.name, item.module.split(".")[0])
        for file in FILES
        for item in imports(file)
        if item.module.split(".")[0] in NEVER_IMPORTED
    }
    assert found - RUNS_FOR_THE_USER == set()


def test_no_call_that_runs_what_it_is_given():
    found = [
        f"{file.name}:{node.lineno} {name}" for file in FILES for name, node in calls(file) if name in NEVER_CALLED
    ]
    assert found == []


def test_modules_are_imported_by_name_only_from_our_own_closed_sets():
    dynamic = {
        file.name
        for file in FILES
        for name, node in calls(file)
        if name.endswith("import_module") and not (node.args and isinstance(node.args[0], ast.Constant))
    }
    assert dynamic == CLOSED_SETS


def writes(name, node):
    """Whether a call writes to the file system, by its name and arguments."""
    method = name.split(".")[-1]
    if method == "open":
        modes = [
            arg.value for arg in (*node.args, *(kw.value for kw in node.keywords)) if isinstance(arg, ast.Constant)
        ]
        return any(isinstance(mode, str) and 0 < len(mode) <= 3 and set(mode) & set("wax+") for mode in modes)
    if method == "replace":  # str's takes two arguments, that of dataclasses has keywords
        return name == "os.replace" or (len(node.args) == 1 and not node.keywords)
    return method in WRITING and isinstance(node.func, ast.Attribute)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("open(path, 'w')", True),
        ("open(path, 'rb')", False),
        ("path.open('ab')", True),
        ("path.open()", False),
        ("a.replace(b)", True),
        ("a.replace('x', 'y')", False),
        ("replace(record, field=1)", False),
        ("os.replace(a, b)", True),
        ("path.write_bytes(b)", True),
        ("rename(name)", False),
    ],
)
def test_the_law_about_writing_sees(source, expected):
    node = ast.parse(source, mode="eval").body
    assert writes(ast.unparse(node.func), node) is expected


def test_files_are_written_only_in_the_rooms_that_may():
    outside = [file for file in FILES if file.room not in WRITERS]
    found = [
        f"{file.name}:{node.lineno} {name}" for file in outside for name, node in calls(file) if writes(name, node)
    ]
    assert found == []


def test_printing_is_the_command_lines_business():
    printers = ("print", "sys.stdout.write", "sys.stderr.write", "click.echo", "click.secho")
    outside = [file for file in FILES if file.room not in {"cli", "exact"}]
    assert [f"{file.name}:{node.lineno}" for file in outside for name, node in calls(file) if name in printers] == []


def test_no_processes_and_no_sockets_on_the_way_from_read_to_report():
    rooms = {"read", "expect", "compare", "diagnose", "causes", "consumers", "report", "records", "text", "pipeline"}
    found = [item for file in FILES if file.room in rooms for item in imports(file)]
    assert [item.where for item in found if item.module.split(".")[0] in STARTERS and not item.for_types_only] == []
