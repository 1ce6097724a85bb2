"""`StampCallback` in a real training on the CPU, three steps long."""

from __future__ import annotations

import warnings

import pytest
import real

import adapterfit
from adapterfit.read.stamp import parse_stamp

pytestmark = pytest.mark.exact


class Texts:
    """Eight rows of tokens, for a language model to repeat."""

    def __len__(self):
        return 8

    def __getitem__(self, at):
        import torch

        row = (torch.arange(8) + at) % 256
        return {"input_ids": row, "labels": row}


def train(folder, *callbacks, model=None, **arguments):
    import transformers

    options = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        save_steps=1,
        per_device_train_batch_size=2,
        learning_rate=0.1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    with real.quiet():
        trainer = transformers.Trainer(
            model=model or real.trained(real.base(), **real.LORA),
            args=options,
            train_dataset=Texts(),
            callbacks=list(callbacks),
        )
        trainer.train()
    return trainer


@pytest.fixture
def kept():
    """Warnings are recorded here and not raised: the Trainer has some of its own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def test_every_checkpoint_is_stamped_with_the_base_of_the_training(tmp_path):
    train(tmp_path, adapterfit.StampCallback())
    folders = sorted(tmp_path.glob("checkpoint-*"))
    assert [folder.name for folder in folders] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    for folder in folders:
        assert parse_stamp((folder / "adapterfit.json").read_bytes()).touched == 4
        found = {finding.id for finding in adapterfit.check(str(folder), base=real.base()).findings}
        assert not found & {"base-changed", "config-edited", "stamp-outdated"}
    with pytest.raises(adapterfit.AdapterMisfit, match="base-changed"), real.quiet():
        adapterfit.load(real.base(seed=5), folders[-1])
    with real.quiet():
        assert adapterfit.load(real.base(), folders[-1]) is not None


def test_the_class_itself_may_be_given(tmp_path):
    train(tmp_path, adapterfit.StampCallback)
    assert len(list(tmp_path.glob("checkpoint-*/adapterfit.json"))) == 3


def test_a_training_without_an_adapter_is_let_alone(tmp_path):
    train(tmp_path, adapterfit.StampCallback(), model=real.base())
    assert list(tmp_path.glob("checkpoint-*"))
    assert not list(tmp_path.rglob("adapterfit.json"))


def test_another_process_than_the_main_one_writes_nothing(tmp_path):
    import types

    folder = real.saved(tmp_path / "checkpoint-1")
    state = types.SimpleNamespace(is_world_process_zero=False, global_step=1)
    arguments = types.SimpleNamespace(output_dir=str(tmp_path))
    adapterfit.StampCallback().on_save(arguments, state, None, model=real.trained(real.base(), **real.LORA))
    assert not (folder / "adapterfit.json").exists()


def spoiled(folder):
    """A Trainer whose checkpoints lose a tensor after they were written, as a full disk would have it."""
    import transformers

    class Spoiler(transformers.TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            real.rewrite(folder / f"checkpoint-{state.global_step}", lambda held: dict(list(held.items())[1:]))

    return Spoiler()


def test_a_checkpoint_that_could_not_be_loaded_is_a_warning(tmp_path, kept):
    import transformers

    trainer_free = adapterfit.StampCallback()
    model = real.trained(real.base(), **real.LORA)
    folder = real.saved(tmp_path / "checkpoint-1")
    real.rewrite(folder, lambda held: dict(list(held.items())[1:]))
    state = transformers.TrainerState(global_step=1)
    options = transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer_free.on_save(options, state, transformers.TrainerControl(), model=model)
    assert any("could not be loaded again" in str(each.message) for each in kept)
    assert not (folder / "adapterfit.json").exists()


def test_strict_stops_the_training_there(tmp_path):
    with pytest.raises(adapterfit.AdapterMisfit):
        train(tmp_path, spoiled(tmp_path), adapterfit.StampCallback(strict=True))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
