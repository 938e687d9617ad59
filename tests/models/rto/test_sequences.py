"""Prompts and responses as one batch."""

import torch

from models.rto.sequences import Sequences


def example() -> Sequences:
    return Sequences(
        torch.tensor([[9, 9, 1, 2], [9, 3, 4, 5]]),
        torch.tensor([[False, False, True, True], [False, True, True, True]]),
        torch.tensor([[[6, 7, 9, 9], [9, 9, 9, 9]], [[8, 9, 9, 9], [1, 2, 3, 9]]]),
        torch.tensor([[[1, 1, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 1, 0]]]).bool(),
    )


def test_targets_are_the_real_response_tokens_row_after_row():
    assert example().targets_N().tolist() == [6, 7, 8, 1, 2, 3]


def test_values_spread_to_the_places_of_their_tokens_and_gradients_come_back():
    values_N = torch.arange(1.0, 7.0, requires_grad=True)
    spread_BGR = example().spread(values_N)
    assert spread_BGR.tolist() == [[[1, 2, 0, 0], [0, 0, 0, 0]], [[3, 0, 0, 0], [4, 5, 6, 0]]]
    (gradient_N,) = torch.autograd.grad((spread_BGR * torch.arange(16.0).view(2, 2, 4)).sum(), values_N)
    assert gradient_N.tolist() == [0, 1, 8, 12, 13, 14]


def test_some_prompts_come_with_all_their_responses_and_without_empty_columns():
    first = example().of(torch.tensor([0]))
    assert first.prompts_BP.tolist() == [[1, 2]]
    assert first.responses_BGR.tolist() == [[[6, 7], [9, 9]]]
    assert first.lengths_BG.tolist() == [[2, 0]]
    assert example().of(slice(1, 2)).prompts_BP.tolist() == [[3, 4, 5]]


def test_at_least_one_column_remains():
    nothing = Sequences(
        torch.tensor([[1]]), torch.tensor([[True]]), torch.zeros(1, 1, 3).long(), torch.zeros(1, 1, 3).bool()
    )
    assert nothing.trimmed().responses_BGR.shape == (1, 1, 1)
    assert nothing.targets_N().shape == (0,)
