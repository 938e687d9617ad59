"""The policy's own tokenizer: texts and conversations as tokens, and whether it is the model's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import TemplateError

from models.common.errors import ConfigError, DataError
from models.rto.pair_rows import BadRow, Message
from models.rto.policy_config import HuggingFaceConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokenizer: TypeAlias = "PreTrainedTokenizerBase"

_SENTENCE_ENDS = (".", "!", "?", "\n")


@lru_cache(maxsize=8)
def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of this folder or Hub name; needs the extra."""
    try:
        from transformers import AutoTokenizer  # here: all but texts works without
    except ImportError:
        raise ConfigError(
            "preference files need `transformers`\ninstall it: make llm in the checkout, or pip install '.[llm]'"
        ) from None
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tokenizer '{name}' cannot be loaded: {error}\ngive a folder, or a name on the Hub"
        ) from error


def load_known_tokenizer(about: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that data were prepared with; refused where it has changed since."""
    tokenizer = load_tokenizer(about["name"])
    if fingerprint(tokenizer) != about["fingerprint"]:
        raise DataError(
            f"tokenizer '{about['name']}' is not the one that the data were prepared with\n"
            "prepare the data again, or put the old tokenizer back"
        )
    return tokenizer


def describe(tokenizer: Tokenizer, name: str, end: int) -> dict[str, Any]:
    """What a prepared dataset keeps of its tokenizer."""
    return {
        "name": name,
        "fingerprint": fingerprint(tokenizer),
        "tokens": size(tokenizer),
        "eos": tokenizer.eos_token_id,
        "end": end,
    }


def size(tokenizer: Tokenizer) -> int:
    """One more than the largest token number."""
    return 1 + max(tokenizer.get_vocab().values())


def fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 of the vocabulary and of which tokens are special."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    canonical = json.dumps([tokenizer.get_vocab(), special, sorted(tokenizer.all_special_ids)], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_is_of(about: Mapping[str, Any], model: HuggingFaceConfig) -> None:
    """Raises ConfigError where data of this tokenizer end a response as this pretrained model ends no text.

    Whether the model knows as many tokens is seen where it is loaded.
    """
    from models.rto.huggingface import read_shape  # here: it imports torch, which preparing data does not need

    if model.weights == "random":
        return
    eos = read_shape(model).eos_token_id
    ends = {eos} if isinstance(eos, int) else set(eos or ())
    if ends and not {about["eos"], about["end"]} & ends:
        raise ConfigError(
            f"tokenizer '{about['name']}' ends a response with token {about['end']}, and model '{model.model}' ends "
            f"a text with {sorted(ends)}\nprepare the data with the model's own tokenizer: task.tokenizer={model.model}"
        )


def end_token(tokenizer: Tokenizer, *, chat: bool) -> int:
    """The token that ends a response: the chat template's end of a turn, or where it has none the end of a text."""
    if chat:
        turn = _rendered(tokenizer, (Message("user", "question"), Message("assistant", "answer")))
        after = tokenizer(turn[turn.rindex("answer") + len("answer") :], add_special_tokens=False)["input_ids"]
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        ends = [token for token in after if token in special]
        if ends:
            return ends[0]
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"tokenizer '{tokenizer.name_or_path}' has no token that ends a text\nset its eos_token, and save it again"
        )
    return tokenizer.convert_tokens_to_ids(str(tokenizer.eos_token))  # pyright: ignore[reportReturnType] (one for one)


def delimiters(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end a sentence or a line."""
    texts = tokenizer.batch_decode([[token] for token in range(size(tokenizer))])
    return tuple(token for token, text in enumerate(texts) if text.strip(" ").endswith(_SENTENCE_ENDS))


def prompt_tokens(tokenizer: Tokenizer, prompt: str | Sequence[Message]) -> list[int]:
    """A text with the tokenizer's own beginning, or a conversation up to where the assistant's answer begins."""
    if not isinstance(prompt, str):
        text = _rendered(tokenizer, prompt, answer_follows=True)
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written them
    tokens = tokenizer(prompt)["input_ids"]
    # Some tokenizers end every text, but this one goes on.
    return tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens


def response_tokens(tokenizer: Tokenizer, prompt: str | Sequence[Message], response: str, end: int) -> list[int]:
    """The response as the policy would have to write it after the prompt's tokens, its end included."""
    if not isinstance(prompt, str):
        start = _rendered(tokenizer, prompt, answer_follows=True)
        whole = _rendered(tokenizer, (*prompt, Message("assistant", response)))
        if not whole.startswith(start):
            raise BadRow(
                "the chat template writes the conversation up to the answer differently when the answer is there; "
                "give the tokenizer a template that does not"
            )
        response = whole[len(start) :]
    tokens = tokenizer(response, add_special_tokens=False)["input_ids"]
    return [*(tokens[: tokens.index(end)] if end in tokens else tokens), end]


def decoded(tokenizer: Tokenizer, tokens: Sequence[int], *, special: bool = False) -> str:
    """The tokens as text, special ones left out unless asked for."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=not special)
    assert isinstance(text, str)
    return text


def _rendered(tokenizer: Tokenizer, messages: Sequence[Message], *, answer_follows: bool = False) -> str:
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"tokenizer '{tokenizer.name_or_path}' has no chat template, and the pairs are lists of messages\n"
            "take a tokenizer that has one, or give the pairs as texts"
        )
    conversation = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(conversation, add_generation_prompt=answer_follows, tokenize=False)
    except TemplateError as error:
        raise BadRow(f"the chat template refuses the conversation: {error}") from None
    assert isinstance(text, str)
    return text
