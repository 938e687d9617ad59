"""Tokens of prompts and responses, and whether a tokenizer is the model's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from models.common.errors import ConfigError, DataError
from models.rto import tokenizer as own
from models.rto.data_config import BigramTask, PreferenceData
from models.rto.pair_rows import BadRow, Message
from models.rto.policy_config import DecoderConfig, HuggingFaceConfig
from models.rto.tasks import preferences_of_task
from tests.models.rto.tokenizers import CHATML, byte_tokenizer

PROMPT = (Message("user", "why?"),)


def test_prompt_and_response_together_are_the_whole_conversation_up_to_its_end():
    tokenizer = byte_tokenizer(CHATML)
    end = own.end_token(tokenizer, chat=True)
    tokens = own.prompt_tokens(tokenizer, PROMPT) + own.response_tokens(tokenizer, PROMPT, "so.", end)
    conversation = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so."}]
    whole = tokenizer.apply_chat_template(conversation, tokenize=False)
    assert f"{tokenizer.decode(tokens)}\n" == whole
    assert tokenizer.convert_ids_to_tokens([end]) == ["<|im_end|>"]


def test_a_response_ends_once_even_where_its_text_holds_an_end():
    tokenizer = byte_tokenizer()
    end = own.end_token(tokenizer, chat=False)
    assert end == tokenizer.eos_token_id
    plain = own.response_tokens(tokenizer, "why?", "so", end)
    assert plain == [*tokenizer.encode("so"), end]
    assert own.response_tokens(tokenizer, "why?", "so<|end|> and more", end) == plain


def test_a_template_without_an_end_of_its_own_takes_the_end_of_a_text():
    tokenizer = byte_tokenizer("{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}")
    assert own.end_token(tokenizer, chat=True) == tokenizer.eos_token_id


def test_a_prompt_does_not_end_where_the_tokenizer_ends_every_text():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    assert isinstance(tokenizer.eos_token_id, int)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", tokenizer.eos_token_id)]
    )
    assert tokenizer("why?")["input_ids"][-1] == tokenizer.eos_token_id
    assert own.prompt_tokens(tokenizer, "why?") == tokenizer.encode("why?", add_special_tokens=False)


def test_messages_need_a_chat_template():
    with pytest.raises(ConfigError, match="no chat template"):
        own.prompt_tokens(byte_tokenizer(), PROMPT)


def test_a_conversation_that_the_template_refuses_is_a_bad_row():
    tokenizer = byte_tokenizer("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(BadRow, match="roles must alternate"):
        own.prompt_tokens(tokenizer, PROMPT)


def test_a_template_that_rewrites_the_prompt_once_it_is_answered_is_refused():
    tokenizer = byte_tokenizer("{{ messages|length }} {{ messages[-1].content }}")
    with pytest.raises(BadRow, match="writes the conversation up to the answer differently"):
        own.response_tokens(tokenizer, PROMPT, "so", 0)


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="no token that ends a text"):
        own.end_token(byte_tokenizer(eos=None), chat=False)


def test_a_tokenizer_that_is_nowhere_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        own.load_tokenizer(str(tmp_path / "nowhere"))


def test_a_tokenizer_changed_since_the_data_were_prepared_is_refused(tmp_path: Path):
    name = str(tmp_path)
    byte_tokenizer().save_pretrained(name)
    loaded = own.load_tokenizer(name)
    about = own.describe(loaded, name, own.end_token(loaded, chat=False))
    assert own.load_known_tokenizer(about).get_vocab() == loaded.get_vocab()
    changed = byte_tokenizer()
    changed.add_tokens(["new"])
    changed.save_pretrained(name)
    own.load_tokenizer.cache_clear()
    with pytest.raises(DataError, match="not the one that the data were prepared with"):
        own.load_known_tokenizer(about)


@pytest.mark.parametrize(
    ("eos", "said"),
    [
        (lambda end: end, None),
        (lambda end: [3, end], None),
        (lambda _: None, None),
        (lambda _: 3, r"a text with \[3\]"),
    ],
    ids=["the same", "one of several", "unknown", "another"],
)
def test_data_are_refused_whose_responses_end_as_the_model_ends_no_text(
    tmp_path: Path, eos: Callable[[int], Any], said: str | None
):
    tokenizer = byte_tokenizer()
    end = own.end_token(tokenizer, chat=False)
    about = own.describe(tokenizer, "bytes", end)
    assert about["tokens"] == len(tokenizer) == 259
    LlamaConfig(vocab_size=259, eos_token_id=eos(end)).save_pretrained(tmp_path)
    data = preferences_of_task(PreferenceData(pairs=2, held_out_pairs=2, demonstrations=2), BigramTask(length=3))
    model = HuggingFaceConfig(model=str(tmp_path))
    data.check_tokenizer(model)  # a made-up task has no tokenizer
    of_files = replace(data, about={"tokenizer": about})
    of_files.check_tokenizer(DecoderConfig())
    of_files.check_tokenizer(model.but(weights="random"))
    if said is None:
        of_files.check_tokenizer(model)
    else:
        with pytest.raises(ConfigError, match=said):
            of_files.check_tokenizer(model)
