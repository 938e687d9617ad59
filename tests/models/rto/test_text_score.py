"""Scores of texts: any Python function, and classifiers of transformers with a tokenizer of their own."""

import importlib
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError, DataError
from models.rto.text_score import TextModel, checked, load_function

transformers: Any = importlib.import_module("transformers")
tokenizers: Any = importlib.import_module("tokenizers")

CPU = torch.device("cpu")
RESPONSES = ["a b", "c"]


def test_a_function_is_found_by_its_name() -> None:
    assert load_function("math:fsum") is math.fsum


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "fits: module:function"),
        ("math", "fits: module:function"),
        ("math:", "fits: module:function"),
        ("no_such_module_here:score", "cannot be imported"),
        ("math:no_such", "no such name"),
        ("math:pi", "a float"),
    ],
)
def test_a_name_that_is_no_function_is_refused(name: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        load_function(name)


def test_a_module_that_fails_while_it_is_imported_shows_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_rewards.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        load_function("broken_rewards:score")


@pytest.mark.parametrize(
    "scores", [[1.0, 2.0], (1, 2), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]), [np.float32(1.0), 2]]
)
def test_any_list_of_numbers_is_a_score(scores: Any) -> None:
    assert checked(scores, RESPONSES) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (None, "returned None, which is no list"),
        (1.0, "which is no list"),
        ("12", "which is no list"),
        ({0: 1.0, 1: 2.0}, "which is no list"),
        (np.float64(1.0), "which is no list"),
        ([1.0], "returned 1 scores"),
        (torch.zeros(3), "returned 3 scores"),
        ([1.0, None], "None in row 1, for the response 'c'"),
        ([float("nan"), 1.0], "nan in row 0, for the response 'a b'"),
        ([1.0, float("inf")], "inf in row 1"),
        ([1.0, "2"], "'2' in row 1"),
        ([1.0, True], "True in row 1"),
        (torch.zeros(2, 1), r"\[0.0\] in row 0"),
        (np.zeros(()), "which is no list|one scores"),
    ],
)
def test_what_is_not_one_finite_number_for_each_response_is_refused_by_its_row(scores: Any, found: str) -> None:
    with pytest.raises(DataError, match=found):
        checked(scores, RESPONSES)


# A classifier with a tokenizer of its own


def saved(folder: Path, *, labels: int = 1, padding: str | None = "[PAD]", template: str | None = None) -> Any:
    """A random Llama classifier whose tokens are words; returns transformers' model."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "</s>", "user", "assistant", *"abcdefgh"]
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", eos_token="</s>", pad_token=padding, padding_side="right"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    shape = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=len(words),
        max_position_embeddings=8,
        num_labels=labels,
        initializer_range=0.5,
        pad_token_id=None if padding is None else 0,
    )
    model = transformers.LlamaForSequenceClassification(shape)
    model.save_pretrained(folder)
    return model.eval(), tokenizer


@torch.no_grad()
@pytest.mark.parametrize("padding", ["[PAD]", None])
def test_a_text_model_scores_each_pair_of_texts_as_alone(padding: str | None, tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path, padding=padding)
    prompts, responses = ["a b", "c", "d e f"] * 7, ["e </s>", "f g h a", "b"] * 7  # more than go at once
    found = TextModel(str(tmp_path), CPU)(prompts, responses)
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        tokens = torch.tensor([tokenizer(prompt)["input_ids"] + tokenizer(response)["input_ids"]])
        hidden = model.model(input_ids=tokens).last_hidden_state[0, -1]
        expected.append(float(model.score(hidden)))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


@torch.no_grad()
def test_the_tokenizers_chat_template_is_used_where_it_has_one(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}</s>"
    model, tokenizer = saved(tmp_path, template=template)
    found = TextModel(str(tmp_path), CPU)(["a b"], ["c"])
    tokens = torch.tensor([tokenizer("user a b assistant c </s>")["input_ids"]])
    assert found == pytest.approx(
        [float(model.score(model.model(input_ids=tokens).last_hidden_state[0, -1]))], abs=1e-5
    )


@torch.no_grad()
def test_a_long_prompt_loses_its_beginning_and_no_response_its_end(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    model, tokenizer = saved(tmp_path, template=template)
    found = TextModel(str(tmp_path), CPU)(["a b c d e f g h"], ["a b"])
    tokens = torch.tensor([tokenizer("c d e f g h a b")["input_ids"]])  # eight positions
    assert found == pytest.approx(
        [float(model.score(model.model(input_ids=tokens).last_hidden_state[0, -1]))], abs=1e-5
    )


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, labels=3)
    with pytest.raises(ConfigError, match="has 3 labels"):
        TextModel(str(tmp_path), CPU)


def test_a_folder_that_holds_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        TextModel(str(tmp_path), CPU)


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="make llm"):
        TextModel("any", CPU)


def test_a_name_in_a_module_that_is_no_function_lists_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_up_rewards")
    module.brevity = lambda prompts, responses: [0.0] * len(responses)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "made_up_rewards", module)
    with pytest.raises(ConfigError, match="fits: brevity of made_up_rewards"):
        load_function("made_up_rewards:brevty")
