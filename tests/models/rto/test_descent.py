"""Updates: the learning rate's course, batches in pieces, and which rows a step takes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.common.optimizer_config import OptimizerConfig
from models.common.rows import draw_rows
from models.common.warmup_descent import Descent, learning_rate
from models.rto.batches import pieces
from tests.fixtures.worlds import world_of


def test_a_cosine_goes_up_in_a_line_and_then_as_that_of_torch() -> None:
    config = OptimizerConfig(learning_rate=0.2, schedule="cosine", warmup_share=0.1, final_rate=0.25)
    rates = [learning_rate(config, step, 50) for step in range(51)]
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=45, eta_min=0.05)
    for rate in rates[5:]:
        assert rate == pytest.approx(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()


def test_a_constant_rate_stays_after_its_warm_up_and_none_is_zero() -> None:
    config = OptimizerConfig(learning_rate=1e-3, schedule="constant", warmup_share=0.5)
    assert [learning_rate(config, step, 4) for step in range(6)] == [5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]
    assert learning_rate(config.but(warmup_share=0.0), 0, 4) == 1e-3
    assert learning_rate(config.but(warmup_share=1.0, schedule="cosine"), 4, 4) == 1e-3


def test_a_batch_in_pieces_takes_the_same_step_and_a_wrong_number_of_them_is_noticed() -> None:
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", warmup_share=0.0, clip_norm=0.5)
    x_BD, y_B = torch.randn(6, 3), torch.randn(6)

    def losses(network: nn.Module, size: int) -> list[Tensor]:
        errors = [
            (network(x_BD[at : at + size]).squeeze(-1) - y_B[at : at + size]).square() for at in range(0, 6, size)
        ]
        return [error.sum() / 6 for error in errors]

    found = []
    for size in (6, 2):
        torch.manual_seed(1)
        network = nn.Linear(3, 1)
        descent = Descent(network, config, 10, world_of({}, None))
        norms = [descent.update(iter(losses(network, size)), 6 // size)[1] for _ in range(3)]
        found.append((norms, network.weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])
    with pytest.raises(AssertionError, match="3 pieces of a batch came, where 2"):
        descent.update(iter(losses(network, 2)), 2)


def test_each_pass_takes_every_row_once_and_passes_differ() -> None:
    drawn = np.concatenate([draw_rows(10, 4, step, (3, 1)) for step in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    assert set(Counter(draw_rows(3, 9, 7, (3, 1)).tolist()).values()) == {3}
    assert list(draw_rows(10, 4, 2, (3, 1))) == list(draw_rows(10, 4, 2, (3, 1)))
    assert list(draw_rows(100, 20, 0, (3, 1))) != list(draw_rows(100, 20, 0, (3, 2)))


def test_pieces_hold_each_row_once_and_those_of_one_length_together() -> None:
    lengths = np.array([5, 1, 9, 9, 2, 7])
    rows = np.array([0, 2, 4, 5, 3])
    assert [piece.tolist() for piece in pieces(rows, lengths, 2)] == [[2, 3], [5, 0], [4]]
    assert [piece.tolist() for piece in pieces(rows, lengths, None)] == [rows.tolist()]


def test_a_state_goes_through_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config, world = OptimizerConfig(learning_rate=0.1), world_of({}, None)
    one, two = (Descent(nn.Linear(3, 1), config, 10, world) for _ in range(2))
    x_BD = torch.randn(4, 3)
    one.update(one.engine(x_BD).square().mean())
    torch.save(one.state_dict(more=7).shared, tmp_path / "state.pt")
    shared = torch.load(tmp_path / "state.pt")
    assert shared["more"] == 7
    two.load_state_dict(type(one.state_dict())(shared))
    steps = [each.update(each.engine(x_BD).square().mean()) for each in (one, two)]
    assert steps[0] == steps[1]
    assert torch.equal(one.engine.weights()["weight"], two.engine.weights()["weight"])
