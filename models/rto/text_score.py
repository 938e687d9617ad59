"""The score of a response as text: a plain function, or a sequence classifier with a tokenizer of its own."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Protocol

import torch

from models.common.errors import ConfigError, DataError

AT_ONCE = 16  # texts of one forward pass


class Score(Protocol):
    """What scores responses: one finite number each, the same for the same texts."""

    def __call__(self, prompts: list[str], responses: list[str], /) -> Sequence[float]: ...


def load_function(name: str) -> Score:
    """The function of this name, as in "package.module:function"; raises ConfigError where there is none."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(
            f"score.function is '{name}'\n"
            "fits: module:function, as in my_project.rewards:brevity, which Python can import"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"score.function is '{name}', and its module cannot be imported: {error}\n"
            "fits: a module in an installed package, or in the folder that the run is started from"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        found = "there is no such name in it" if function is None else f"that is a {type(function).__name__}"
        fits = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ConfigError(
            f"score.function is '{name}', and {found}\nfits: {', '.join(fits) or 'nothing'} of {module_name}"
        )
    score: Score = function  # pyright: ignore[reportAssignmentType]
    return score


def checked(scores: Any, responses: Sequence[str], *, source: str = "the score function") -> list[float]:
    """The scores as numbers; raises DataError, naming the row, where they are not one finite number a response."""
    what = f"{source}, called with {len(responses)} prompts and {len(responses)} responses,"
    fits = f"fits: a list of {len(responses)} finite numbers, in the order of the responses"
    if isinstance(scores, str | bytes | dict) or not hasattr(scores, "__len__") or not hasattr(scores, "__getitem__"):
        raise DataError(f"{what} returned {_shown(scores)}, which is no list\n{fits}")
    if hasattr(scores, "tolist"):  # an array or a tensor
        scores = scores.tolist()
    if not isinstance(scores, Sequence) or len(scores) != len(responses):
        count = len(scores) if isinstance(scores, Sequence) else "one"
        raise DataError(f"{what} returned {count} scores\n{fits}")
    for row, (score, response) in enumerate(zip(scores, responses, strict=True)):
        if isinstance(score, bool) or not isinstance(score, Real) or not math.isfinite(score):
            raise DataError(
                f"{what} returned {_shown(score)} in row {row}, for the response {_shown(response)}\n{fits}"
            )
    return [float(score) for score in scores]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class TextModel:
    """A sequence classifier of one label, which reads prompt and response in its own tokens."""

    def __init__(self, name: str, device: torch.device) -> None:
        from models.rto.huggingface import require

        transformers = require("transformers")
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
                name, dtype="auto", trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            found = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"score.text_model '{name}' cannot be read: {found}\n"
                "fits: a folder with a sequence classifier and its tokenizer, or a name on the Hub that this machine "
                "reaches"
            ) from None
        if self.model.config.num_labels != 1:
            raise ConfigError(
                f"score.text_model '{name}' has {self.model.config.num_labels} labels\n"
                "fits: a classifier of one label, the score, as reward models are published"
            )
        # Such a model reads its score at the last token that is no padding. With the end token as padding it would
        # pass over a response's own end; without padding, texts go one by one.
        self.at_once = 1 if self.tokenizer.pad_token_id is None else AT_ONCE
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.tokenizer.truncation_side = (
            "left"  # what a prompt begins with is left out before what a response ends with
        )
        self.model.requires_grad_(requires_grad=False).eval().to(device)

    @torch.no_grad()
    def __call__(self, prompts: list[str], responses: list[str], /) -> list[float]:
        scores: list[float] = []
        for start in range(0, len(prompts), self.at_once):
            batch = self._tokens(prompts[start : start + self.at_once], responses[start : start + self.at_once])
            scores += self.model(**batch.to(self.model.device)).logits[:, 0].float().tolist()
        return scores

    def _tokens(self, prompts: list[str], responses: list[str]) -> Any:
        """By the tokenizer's chat template where it has one, else as pairs of texts."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        most = min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)
        options: dict[str, Any] = {"padding": self.at_once > 1, "return_tensors": "pt"}
        if most < int(1e9):  # a tokenizer without a bound says 1e30
            options |= {"truncation": True, "max_length": most}
        if self.tokenizer.chat_template is None:
            return self.tokenizer(prompts, responses, **options)
        turns = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        return self.tokenizer.apply_chat_template(turns, return_dict=True, **options)
