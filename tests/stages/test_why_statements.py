"""Reports in words: what was seen is read from many wordings, and sentences about something else say nothing."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.read.log import read_log

_SEEN = {
    "no-effect": [
        "I load the LoRA, but the answers are exactly the same as those of the base model.",
        "My adapter doesn't seem to have any effect on the generated text.",
        "The model acts as if no adapter had been loaded.",
        "With or without the LoRA, the responses are identical.",
        "There is no visible difference between the outputs with the adapter and without it.",
        "Our adapter is silently ignored by the endpoint.",
        "Both models, with the LoRA and without it, say the same.",
        "I can't get my LoRA to make the slightest difference.",
        "The fine-tuned adapter is never applied when I call generate.",
        "The DoRA loads fine and then does absolutely nothing.",
        "It seems the LoRA is not being used at all, is something missing?",
        "Same problem here, I cannot get the trained adapter to make even a tiny bit of visible difference in what it writes.",
        "After export the merged model remains the original one, nothing of the LoRA is in it.",
        "LoRA 加载成功，但是没有任何效果。",
        "微调之后的输出和原模型完全一样。",
        "合并之后还是原来的模型，lora 没有生效。",
    ],
    "at-start": ["After training my LoRA, every lora_B is still 0.", "I compared them before and after: the weights of my adapter are not updated by the training."],
    "differs-by-engine": ["The adapter's answers in SGLang don't match those of transformers."],
    "garbage": ["Once the adapter is active, the server only returns gibberish.", "The LoRA makes it answer with random characters.", "The fused adapter gives bad results.", "With the LoRA enabled the server returns corrupted output.", "合并 lora 之后输出全是乱码。"],
    "nan": ["With the adapter enabled all logits are nan at inference.", "My LoRA only makes black images."],
    "no-tensors": ["The saved adapter file has just 40 bytes, what happened?", "After the run adapters.npz is only 312 bytes big.", "I merge the LoRA, but the saved model is almost empty."],
    "unknown-accepted": ["Requests with a non-existent adapter name do not fail, they are answered by the base model."],
    "misfit-accepted": ["The script discards the return value after the adapter is loaded.", "The loader silently skips mismatched adapter tensors in the file.", "Of my LoRA a missing key is logged and skipped by the loader."],
    "changes-by-load": [
        "After reloading the adapter the accuracy is much worse than at the end of training.",
        "Predictions of my LoRA are different each time I load it.",
        "Loading the trained adapter gives random weights each time.",
    ],
}  # fmt: skip

_SILENT = [
    "Switching to flash attention has no effect on memory for my LoRA run.",
    "Training with a LoRA takes the same time as without LoRA.",
    "I get the same error with and without the adapter.",
    "The rank of the adapter has no effect on the eval loss.",
    "How do I set the learning rate of the LoRA parameters?",
    "My fine-tuning loss goes to nan with the adapter after a few hundred steps.",
    "The tokenizer gives the same result for both strings of the base model.",
    "Batch size has no effect on the training time.",
    "The chat template is not applied unless I use the chat endpoint.",
    "The seed is ignored, and every run gives a random answer.",
    "The pad token is ignored in the loss of my model.",
    "The config file is only 120 bytes, is this right?",
    "The loss of my fine-tuned model does not match the one in the paper.",
    "My fine-tuned model forgets facts that the base model knew.",
    "The images of my dataset are black and white, is a LoRA able to learn colours?",
    "lora_dropout has no influence at inference, right?",
    "SGLang answers differently than transformers for the base model, no LoRA involved.",
    "I would like to evaluate the base model and the adapter with the same script.",
    "The network adapter gives the same result with and without a reboot.",
    "The loss is 0 and grad_norm is nan when I train a LoRA with fp16.",
    "How do I disable the adapter to get the same output as the original model?",
    "Should lora_alpha be the same as the rank?",
    "Each epoch takes longer than the one before.",
    "With temperature 0 the answers are the same each time.",
    "Does the documentation of the adapter format exist anywhere?",
    "LoRA 训练速度没有变化，显存也一样。",
    "请问如何合并 lora？",
    "数据集和原来一样，lora 的 loss 没有变化。",
]


@pytest.mark.parametrize(("seen", "text"), [(seen, text) for seen, texts in _SEEN.items() for text in texts])
def test_a_sentence_tells_what_was_seen(seen: str, text: str) -> None:
    assert seen in {statement.seen for statement in read_log(text).statements}


@pytest.mark.parametrize("text", _SILENT)
def test_a_sentence_about_something_else_is_no_statement(text: str) -> None:
    assert read_log(text).statements == ()


@pytest.mark.parametrize("text", [text for seen, texts in _SEEN.items() if seen != "garbage" for text in texts])
def test_words_are_answered_and_never_certain(text: str) -> None:
    causes = adapterfit.why(text).causes
    assert causes
    assert causes[0].apart
    assert {cause.confidence for cause in causes} <= {"low", "medium"}


@pytest.mark.parametrize("text", ["Once the adapter is active, it only returns gibberish.", _SEEN["garbage"][1]])
def test_garbage_that_is_compared_with_nothing_has_no_answer(text: str) -> None:
    assert adapterfit.why(text).causes == ()


def test_a_traceback_beside_the_words_decides() -> None:
    text = "The adapter has no effect at all.\nValueError: Target modules {'query'} not found in the base model."
    assert adapterfit.why(text).causes[0].id == "target-modules-not-found"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("vLLM serves the LoRA, but the answers are the same as those of the base model.", "served-without-effect"),
        ("In ComfyUI my LoRA has no effect on the images.", "diffusion-key-format"),
        ("After PeftModel.from_pretrained the outputs are identical to those of the base model.", "loader-drops-keys-silently"),
        ("I merged the adapter into the 4-bit model and the merged model answers just as the base model does: identical.", "merge-into-quantised-base"),
        ("The LoRA works fine in PEFT. In SGLang it produces garbage.", "served-differently"),
        ("I train a LoRA with FSDP and the saved checkpoint has no effect on the answers.", "fsdp-shard-saved"),
        ("I train a LoRA with ZeRO-3, and the saved adapter has no effect on the answers.", "zero3-empty-weights"),
        ("After reloading the classifier's adapter the accuracy is much worse.", "head-not-restored"),
    ],
)  # fmt: skip
def test_who_serves_the_adapter_tells_the_causes_apart(text: str, cause: str) -> None:
    assert adapterfit.why(text).causes[0].id == cause
