"""One row of a file of preference pairs, in any of the common layouts, as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What is read of a row; a file may have more columns.
FIELDS = ("prompt", "chosen", "rejected", "info", "summaries", "choice")

_LAST_TURN = "\n\nAssistant:"


class BadRow(ValueError):
    """A row that cannot be used, and why; whoever reads the file adds where it stands."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class TextPair:
    """A prompt, as text or as the messages of a conversation, and two answers to it."""

    prompt: str | tuple[Message, ...]
    chosen: str
    rejected: str

    def __post_init__(self) -> None:
        if not self.prompt or (isinstance(self.prompt, str) and not self.prompt.strip()):
            raise BadRow("the prompt is empty; give what was answered")
        for name, answer in (("chosen", self.chosen), ("rejected", self.rejected)):
            if not answer.strip():
                raise BadRow(f"'{name}' is empty; a pair needs two answers")
        if self.chosen.strip() == self.rejected.strip():
            raise BadRow("'chosen' equals 'rejected', which prefers nothing")


def read_row(row: Any) -> TextPair:
    """The pair of a row; raises BadRow where it is none.

    Layouts: {prompt, chosen, rejected} as texts; {chosen, rejected} as whole dialogues in one text each, which part
    after the last "Assistant:" (Anthropic's hh-rlhf); chosen and rejected as lists of messages, with or without the
    prompt's (UltraFeedback-binarized); {info, summaries, choice} (OpenAI's TL;DR comparisons).
    """
    if not isinstance(row, Mapping):
        raise BadRow(f"is {_kind(row)}; a row is an object with 'prompt', 'chosen' and 'rejected'")
    if row.get("summaries") is not None:
        return _summaries(row)
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        found = ", ".join(sorted(str(name) for name, value in row.items() if value is not None)) or "nothing"
        raise BadRow(f"has no '{missing[0]}'; found: {found}")
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            return _dialogues(chosen, rejected)
        return TextPair(_text(prompt, "prompt"), chosen, rejected)
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _conversations(prompt, _messages(chosen, "chosen"), _messages(rejected, "rejected"))
    raise BadRow(f"'chosen' is {_kind(chosen)} and 'rejected' {_kind(rejected)}; both are texts or lists of messages")


def _conversations(prompt: Any, chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> TextPair:
    before = _messages(prompt, "prompt") if isinstance(prompt, list) else ()
    whole = []
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        if not messages:
            raise BadRow(f"'{name}' is empty; a pair needs two answers")
        if messages[-1].role != "assistant":
            raise BadRow(f"the last message of '{name}' is the {messages[-1].role}'s; it has to be the assistant's")
        if len(messages) == 1 and isinstance(prompt, str):
            messages = (Message("user", prompt), *messages)
        whole.append(messages if messages[: len(before)] == before else before + messages)
    chosen, rejected = whole
    if chosen[:-1] != rejected[:-1]:
        raise BadRow("'chosen' and 'rejected' answer different prompts; all their messages but the last have to agree")
    return TextPair(chosen[:-1], chosen[-1].content, rejected[-1].content)


def _messages(value: list[Any], name: str) -> tuple[Message, ...]:
    messages = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadRow(f"message {number} of '{name}' is no object with 'role' and 'content'")
        messages.append(Message(message["role"], _text(message.get("content"), f"{name}, message {number}, content")))
    return tuple(messages)


def _dialogues(chosen: str, rejected: str) -> TextPair:
    cuts = [text.rfind(_LAST_TURN) + len(_LAST_TURN) for text in (chosen, rejected)]
    if min(cuts) < len(_LAST_TURN):
        raise BadRow(f"has no 'prompt', and its texts do not part at a last {_LAST_TURN!r}")
    if chosen[: cuts[0]] != rejected[: cuts[1]]:
        raise BadRow(f"'chosen' and 'rejected' answer different prompts: they differ before the last {_LAST_TURN!r}")
    return TextPair(chosen[: cuts[0]], chosen[cuts[0] :], rejected[cuts[1] :])


def _summaries(row: Mapping[str, Any]) -> TextPair:
    """A TL;DR comparison, its post as Stiennon et al. 2020 put it to the model."""
    info, summaries, choice = row.get("info"), row["summaries"], row.get("choice")
    if not isinstance(info, Mapping):
        raise BadRow(f"'info' is {_kind(info)}; it holds 'subreddit', 'title' and 'post'")
    if not isinstance(summaries, list) or len(summaries) != 2 or not all(isinstance(one, Mapping) for one in summaries):
        raise BadRow("'summaries' is no list of two objects with 'text'")
    if choice not in (0, 1):
        raise BadRow(f"'choice' is {choice!r}; it is 0 or 1")
    subreddit, title, post = (_text(info.get(name), f"info, {name}") for name in ("subreddit", "title", "post"))
    chosen, rejected = (_text(summaries[one].get("text"), "summaries, text") for one in (choice, 1 - choice))
    prompt = f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
    return TextPair(prompt, chosen, rejected)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"'{name}' is {_kind(value)}; it has to be text")
    return value


def _kind(value: Any) -> str:
    names = {str: "text", list: "a list", dict: "an object", bool: "a truth value", type(None): "missing"}
    return names.get(type(value), f"of type {type(value).__name__}")
