"""The responses of one iteration with all that the updates need of them: the same on every rank."""

# S responses, each with its prompt   B prompts   P tokens of a prompt   R tokens of a response   T = R + 1 states

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.rows import draw_rows
from models.rto.ragged import Ragged
from models.rto.sequences import Sequences


@dataclass(frozen=True)
class Buffer:
    """What is learnt from, response by response."""

    prompts_SP: Tensor
    prompt_real_SP: Tensor
    tokens_SR: Tensor
    real_SR: Tensor
    log_probs_SR: Tensor  # by the policy that wrote the response
    reference_SR: Tensor  # by the reference
    value_ST: Tensor  # by the critic as it was then; zeros where there is none
    return_SR: Tensor  # what the critic learns
    advantage_SR: Tensor  # what the policy learns from

    def __len__(self) -> int:
        return len(self.tokens_SR)

    def of(self, rows: Tensor) -> Buffer:
        """Some of the responses, cut to the longest of these."""
        some = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        longest = max(1, int(some["real_SR"].sum(dim=1).max()))
        kept = {name: value[:, :longest] if name.endswith("_SR") else value for name, value in some.items()}
        return Buffer(**kept | {"value_ST": some["value_ST"][:, : longest + 1]})

    @property
    def sequences(self) -> Sequences:
        """A batch in which every response has a prompt of its own, as a minibatch may part those of one prompt."""
        return Sequences(self.prompts_SP, self.prompt_real_SP, self.tokens_SR[:, None], self.real_SR[:, None]).trimmed()

    def state_dict(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name).cpu() for field in fields(self)}

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], device: torch.device) -> Buffer:
        return cls(**{name: value.to(device) for name, value in state.items()})


def rows_of_prompts(sequences: Sequences) -> dict[str, Tensor]:
    """The batch as rows of a buffer, each response with its prompt."""
    group = sequences.responses_BGR.shape[1]
    return {
        "prompts_SP": sequences.prompts_BP.repeat_interleave(group, dim=0),
        "prompt_real_SP": sequences.prompt_real_BP.repeat_interleave(group, dim=0),
        "tokens_SR": sequences.responses_BGR.flatten(0, 1),
        "real_SR": sequences.response_real_BGR.flatten(0, 1),
    }


def gather_rows(own: Mapping[str, Tensor], gather: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The rows of all ranks; those of tokens and states are padded on the right to the longest response of all."""
    own_width = own["real_SR"].sum(dim=1).max().reshape(1)
    width = max(1, int(gather(own_width).max()))
    widths = {"SR": width, "ST": width + 1}
    return {
        name: gather(_of_width(value, widths[name[-2:]]) if name[-2:] in widths else value)
        for name, value in own.items()
    }


def _of_width(value: Tensor, width: int) -> Tensor:
    return F.pad(value[:, :width], (0, max(0, width - value.shape[1])))


def distinct(prompts: Ragged) -> Ragged:
    """Each of the different prompts once, in the order of their first rows."""
    return prompts.take(
        list({prompt.tobytes(): row for row, prompt in reversed(list(enumerate(prompts)))}.values())[::-1]
    )


def draw_prompts(different: Ragged, count: int, iteration: int, seed: tuple[int, ...]) -> Ragged:
    """The prompts of an iteration: `count` of the different ones, be there four of them or many more than it takes."""
    return different.take(draw_rows(len(different), count, iteration, seed))
