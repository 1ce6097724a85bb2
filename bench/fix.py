"""`make bench`: renaming the keys of a 1 GB adapter beside `cp`, as ratios measured in one run.

The bytes are real (random), no holes. Every repetition runs all contestants in turn; the best of each is compared, as the
disk is shared with whoever else uses it. Beside it stand the ratios of each repetition, whose two runs follow each other.
Each ends with its bytes on the disk (`sync`).

`fix` reads every byte of both files more often than `cp`: the old file is copied, hashed and compared, the new one read
back, hashed and compared. What it takes longer is that, on a second core where there is one, during the copy and the wait for
the disk. The two hashes alone stand beside it: two files, two threads, by the hashlib that `fix` uses (sha256sum may be
several times slower). `cp` without `sync` is the time until its bytes are in memory, which no repair waits for less than.

    fix.py [--rounds N] [--mebibytes N]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import Run, goal, run

WRAPPER = "base_model.model._orig_mod."
WEIGHTS = "adapter_model.safetensors"
HIDDEN = 4096


def lay(root: Path, mebibytes: int) -> None:
    """A base of which only the config is there, and a LoRA whose keys carry torch.compile's prefix."""
    layers, rank = 32, mebibytes  # 2 * 32 * 4096 * 4 bytes for each rank
    base = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": 11008,
        "num_attention_heads": 32, "num_key_value_heads": 32, "num_hidden_layers": layers, "vocab_size": 32000,
        "rms_norm_eps": 1e-05,
    }  # fmt: skip
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj"],
    }
    for name in ("base", "adapter"):
        (root / name).mkdir(parents=True)
    (root / "base" / "config.json").write_text(json.dumps(base), "utf-8")
    (root / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2), "utf-8")
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for layer in range(layers):
        for side, shape in (("A", (rank, HIDDEN)), ("B", (HIDDEN, rank))):
            end = at + 4 * rank * HIDDEN
            name = f"{WRAPPER}model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
            at = end
    text = json.dumps(header).encode()
    block = os.urandom(1 << 24)
    with (root / "adapter" / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, at, len(block)):
            file.write(block[: min(len(block), at - start)])
        os.fsync(file.fileno())


def only_written(root: Path) -> None:
    """The renamed copy alone: staged, synced, moved to its place. Prints its seconds."""
    from adapterfit.edits import Rename
    from adapterfit.plan.making import made
    from adapterfit.read.adapter import read_adapter
    from adapterfit.read.sources.folder import FolderSource
    from adapterfit.repair.folder import Contents, write
    from adapterfit.repair.staging import Staging

    start = time.perf_counter()
    source = FolderSource(root / "adapter")
    adapter = read_adapter(source)
    edits = [Rename(one.name, one.name.replace("_orig_mod.", "")) for one in adapter.tensors]
    with Staging(root / "out") as stage:
        write(stage, source, Contents(adapter, made(adapter.tensors, edits), names=source.names()))
        stage.publish()
    print(time.perf_counter() - start)


def only_hashed(root: Path) -> None:
    """sha256 of the adapter and of its copy, both at once."""

    def digest(path: Path) -> None:
        found, held = hashlib.sha256(), memoryview(bytearray(1 << 19))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(held):
                found.update(held[:count])

    threads = [threading.Thread(target=digest, args=(root / name / WEIGHTS,)) for name in ("adapter", "out")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--only-written", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--only-hashed", metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only_written:
        only_written(Path(asked.only_written))
        return 0
    if asked.only_hashed:
        only_hashed(Path(asked.only_hashed))
        return 0
    with tempfile.TemporaryDirectory(prefix="adapterfit-bench-") as name:
        root = Path(name)
        lay(root, asked.mebibytes)
        return compared(root, asked.rounds)


def compared(root: Path, rounds: int) -> int:
    """Print all contestants and the ratios."""
    copy = "cp -r adapter out && sync out/*"
    hashes = f"{sys.executable} {__file__} --only-hashed ."
    commands = {
        "cp": ["cp", "-r", "adapter", "out"],
        "cp, sync": ["sh", "-c", copy],
        "renamed copy: written, synced": [sys.executable, __file__, "--only-written", "."],
        "cp, sync, sha256 of both at once": ["sh", "-c", f"{copy} && {hashes}"],
        "adapterfit fix (hashes, proof, receipt)": [
            sys.executable, "-m", "adapterfit", "fix", "adapter", "--base", "base", "--out", "out",
        ],
    }  # fmt: skip
    found: dict[str, list[Run]] = {what: [] for what in commands}
    written: dict[str, float] = {}
    for _ in range(rounds):
        # The first copy after `fix` is slower than others: memory comes back to the system. It is not counted.
        for what, command in [("", commands["cp"]), *commands.items()]:
            before = _mebibytes_written()
            one = _inside(command, root) if "--only-written" in command else run(command, root)
            written[what] = _mebibytes_written() - before
            shutil.rmtree(root / "out")
            os.sync()  # nobody waits for what another has left to do
            if what:
                found[what].append(one)
    best = {what: min(runs) for what, runs in found.items()}
    size = (root / "adapter" / WEIGHTS).stat().st_size
    print(f"\nRenaming the keys of an adapter of {size / 2**20:,.0f} MiB")
    print(f"  {'':<42}{'time':>13}{'peak memory':>14}{'written':>14}")
    for what, one in best.items():
        memory = f"{one.mebibytes:.1f} MiB" if one.mebibytes else ""
        print(f"  {what:<42}{one.seconds * 1000:>10.1f} ms{memory:>14}{written[what]:>10,.1f} MiB")
    bare, cp, renaming, by_hand, whole = best.values()
    _, copies, renamed, _, fixes = found.values()
    for what, runs in (("renamed copy / cp, sync", renamed), ("adapterfit fix / cp, sync", fixes)):
        pairs = sorted(one.seconds / other.seconds for one, other in zip(runs, copies))
        print(
            f"  {f'{what}, pair by pair':<42}{statistics.median(pairs):>10.1f} x    ({pairs[0]:.1f} to {pairs[-1]:.1f})"
        )
    for what, other in (("cp, sync", cp), ("cp", bare)):
        print(f"  {f'adapterfit fix / {what}':<42}{whole.seconds / other.seconds:>10.2f} x")
    met = [
        goal("renamed copy / cp, sync", renaming.seconds / cp.seconds, 1.2, "x", at_most=True),
        goal("fix / cp, sync, sha256 of both", whole.seconds / by_hand.seconds, 1.2, "x", at_most=True),
        goal("bytes written by fix / by cp", list(written.values())[-1] / written["cp"], 1.2, "x", at_most=True),
        goal("peak memory of fix", whole.mebibytes, 100, "MiB", at_most=True),
    ]
    return 0 if all(met) else 1


def _mebibytes_written() -> float:
    """By all processes that have ended; the system counts in blocks of 512 bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock * 512 / 2**20


def _inside(command: list[str], root: Path) -> Run:
    """A process that prints the seconds of its work, without those of starting Python."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return Run(float(done.stdout), 0.0)


if __name__ == "__main__":
    sys.exit(main())
