"""The prepared folder: preference pairs, held-out pairs and demonstrations as tokens; and how they are padded."""

# B prompts   G responses of each   P tokens of a prompt   R tokens of a response

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import DataError
from models.rto.policy_config import HuggingFaceConfig, PolicyConfig
from models.rto.ragged import Ragged

if TYPE_CHECKING:
    from torch import Tensor

    from models.rto.sequences import Sequences
    from models.rto.tasks import Truth

_SETTINGS = "preferences.json"


@dataclass(frozen=True)
class Pairs:
    """Row n: a prompt, the response that was preferred, and the one that was not."""

    prompts: Ragged
    chosen: Ragged
    rejected: Ragged

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Preferences:
    """Everything that the stages learn from and are judged on.

    end: the token that ends a response, which then is part of it; None where all responses have one fixed length.
    delimiters: tokens that end a sentence; none in made-up tasks.
    about: the task's settings and what was counted; of files also the tokenizer.
    words: of a made-up task, how each token is shown.
    tables: of a made-up task, its hidden numbers, from which the true reward is computed.
    """

    train: Pairs
    held_out: Pairs
    demonstration_prompts: Ragged
    demonstrations: Ragged
    vocabulary: int
    end: int | None
    delimiters: tuple[int, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    tables: dict[str, NDArray[Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes .npy files and one of settings, the same bytes for the same content."""
        for name, ragged in self._parts().items():
            np.save(folder / f"{name}_tokens.npy", ragged.tokens.astype(np.int32), allow_pickle=False)
            np.save(folder / f"{name}_offsets.npy", ragged.offsets.astype(np.int64), allow_pickle=False)
        for name, table in self.tables.items():
            np.save(folder / f"table_{name}.npy", table, allow_pickle=False)
        settings = {
            "vocabulary": self.vocabulary,
            "end": self.end,
            "delimiters": self.delimiters,
            "words": self.words,
            "tables": sorted(self.tables),
            "about": self.about,
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Preferences:
        if not (folder / _SETTINGS).exists():
            raise DataError(f"{folder} holds no {_SETTINGS}\ngive a folder that PreferenceData prepared")
        settings = json.loads((folder / _SETTINGS).read_text())

        def pairs(part: str) -> Pairs:
            return Pairs(*(_read_ragged(folder, f"{part}_{name}") for name in ("prompts", "chosen", "rejected")))

        return cls(
            train=pairs("train"),
            held_out=pairs("held_out"),
            demonstration_prompts=_read_ragged(folder, "demonstration_prompts"),
            demonstrations=_read_ragged(folder, "demonstrations"),
            vocabulary=settings["vocabulary"],
            end=settings["end"],
            delimiters=tuple(settings["delimiters"]),
            about=settings["about"],
            words=tuple(settings["words"]),
            tables={name: np.load(folder / f"table_{name}.npy", allow_pickle=False) for name in settings["tables"]},
        )

    def _parts(self) -> dict[str, Ragged]:
        return {
            "train_prompts": self.train.prompts,
            "train_chosen": self.train.chosen,
            "train_rejected": self.train.rejected,
            "held_out_prompts": self.held_out.prompts,
            "held_out_chosen": self.held_out.chosen,
            "held_out_rejected": self.held_out.rejected,
            "demonstration_prompts": self.demonstration_prompts,
            "demonstrations": self.demonstrations,
        }

    @property
    def tokenizer(self) -> Mapping[str, Any] | None:
        """Of files: the tokenizer's name, fingerprint, size and end; None for a made-up task."""
        return self.about.get("tokenizer")

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt, of all parts."""
        return max(self.train.prompts.longest, self.held_out.prompts.longest, self.demonstration_prompts.longest)

    @property
    def longest_response(self) -> int:
        """Tokens of the longest response, of all parts."""
        return max(ragged.longest for name, ragged in self._parts().items() if not name.endswith("prompts"))

    def check_tokenizer(self, policy: PolicyConfig) -> None:
        """Raises ConfigError where the policy is a pretrained model of another tokenizer."""
        if self.tokenizer is not None and isinstance(policy, HuggingFaceConfig):
            from models.rto.tokenizer import check_is_of

            check_is_of(self.tokenizer, policy)

    def truth(self) -> Truth | None:
        """The true reward of a made-up task; None for files, where nobody knows it."""
        from models.rto.tasks import read_problem

        return None if self.tokenizer is not None else read_problem(self.about["task"], self.tables)

    def text(self, tokens: ArrayLike) -> str:
        """The tokens as a person reads them; of files, without the tokenizer's special tokens."""
        if self.tokenizer is None:
            return " ".join(self.token_texts(tokens))
        from models.rto.tokenizer import decoded, load_known_tokenizer

        return decoded(load_known_tokenizer(self.tokenizer), _numbers(tokens))

    def token_texts(self, tokens: ArrayLike) -> tuple[str, ...]:
        """Each token by itself, special ones too."""
        numbers = _numbers(tokens)
        if self.tokenizer is None:
            return tuple(self.words[number] for number in numbers)
        from models.rto.tokenizer import decoded, load_known_tokenizer

        tokenizer = load_known_tokenizer(self.tokenizer)
        return tuple(decoded(tokenizer, [number], special=True) for number in numbers)


def _numbers(tokens: ArrayLike) -> list[int]:
    return [int(token) for token in np.asarray(tokens).reshape(-1)]


def _read_ragged(folder: Path, name: str) -> Ragged:
    files = (folder / f"{name}_tokens.npy", folder / f"{name}_offsets.npy")
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise DataError(f"{folder} lacks {' and '.join(missing)}\nprepare the data again")
    return Ragged(*(np.load(file, allow_pickle=False) for file in files))


def padded_prompts(prompts: Ragged | Sequence[ArrayLike]) -> tuple[Tensor, Tensor]:
    """Prompts [B, P], padded on the left, and which of it is real."""
    import torch  # here and below: preparing data needs no torch

    prompts_BP, real_BP = Ragged.of(prompts).padded(left=True)
    return torch.from_numpy(prompts_BP), torch.from_numpy(real_BP)


def ragged_sequences(prompts: Ragged, responses: Sequence[Ragged], rows: ArrayLike | None = None) -> Sequences:
    """These rows (or all) as one batch: prompt n with row n of each of G sets of responses."""
    import torch

    from models.rto.sequences import Sequences

    numbers = np.arange(len(prompts)) if rows is None else np.asarray(rows, np.int64)
    together = Ragged.joined([each.take(numbers) for each in responses])
    tokens, real = (padded.reshape(len(responses), len(numbers), -1).swapaxes(0, 1) for padded in together.padded())
    return Sequences(
        *padded_prompts(prompts.take(numbers)),
        torch.from_numpy(np.ascontiguousarray(tokens)),
        torch.from_numpy(np.ascontiguousarray(real)),
    )


def sequences(prompts: Ragged | Sequence[ArrayLike], responses: Sequence[Sequence[ArrayLike]]) -> Sequences:
    """Prompts, each with its list of responses, equally many for each, as one batch."""
    sets = [Ragged.of(each) for each in zip(*responses, strict=True)]
    return ragged_sequences(Ragged.of(prompts), sets)


def pair_sequences(pairs: Pairs, rows: ArrayLike | None = None) -> Sequences:
    """These pairs (or all) as one batch with two responses of each prompt: chosen, rejected."""
    return ragged_sequences(pairs.prompts, (pairs.chosen, pairs.rejected), rows)


def unpadded(batch: Sequences) -> tuple[Ragged, Ragged]:
    """Prompts and responses of a batch, each response with its prompt: B * G rows of both, prompt by prompt."""
    prompts = Ragged.of_real(batch.prompts_BP.cpu(), batch.prompt_real_BP.cpu())
    responses = Ragged.of_real(batch.responses_BGR.cpu(), batch.response_real_BGR.cpu())
    return prompts.repeated(batch.responses_BGR.shape[1]), responses


def true_rewards(truth: Truth, batch: Sequences) -> NDArray[np.float64]:
    """The true reward of each response of a batch [B, G]."""
    return truth.score(*unpadded(batch)).reshape(batch.response_real_BGR.shape[:2])
