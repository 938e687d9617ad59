"""What the student writes: the same as from the whole row anew, token by token, whatever the rows beside it do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.decoding import room, write_chains, write_on
from models.relay.network import Decoder
from models.relay.network_config import NetworkConfig
from models.relay.problems import Group, Problems
from models.relay.task import EOS, PAD
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.parity import Parity

SMALL = NetworkConfig(layers=2, width=16, heads=2, feed_forward_width=32)
ARITHMETIC, PARITY = Group("arithmetic", 3), Group("parity", 4)
MOST = 30


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """Two tasks; those with brackets have problems of several widths in one length."""
    lengths = {"train_lengths": (3,), "label_lengths": (4,), "untouched_lengths": ()}
    with_brackets = Arithmetic(modulus=5, operators=("+", "-", "*"), brackets=True)
    tasks = (TaskLengths(task=with_brackets, **lengths), TaskLengths(task=Parity(), **lengths))
    ProblemsData(tasks=tasks, tests_per_length=48).prepare(tmp_path)
    return Problems.read(tmp_path)


def make_network(problems: Problems, seed: int = 1, **changes: object) -> Decoder:
    """A student that writes at random, rows of any length."""
    torch.manual_seed(seed)
    network = Decoder(SMALL.but(**changes), len(problems.vocabulary)).eval()
    with torch.no_grad():
        network.head.weight *= 4.0
    return network


def by_hand(network: Decoder, asked: np.ndarray, most: int) -> tuple[list[int], float]:
    """The likeliest token from the whole row, over and over, and the least probability of any of them."""
    tokens = torch.from_numpy(asked.astype(np.int64))[None]
    written, least = list[int](), 1.0
    while len(written) < most and EOS not in written:
        with torch.no_grad():
            probabilities = network(tokens)[0, -1].softmax(dim=-1)
        written.append(int(probabilities.argmax()))
        least = min(least, float(probabilities.max()))
        tokens = torch.cat([tokens, torch.tensor([[written[-1]]])], dim=1)
    return written, least


@pytest.mark.parametrize("positions", ["rope", "rope+alibi", "nope", "fire"])
def test_decoding_with_a_cache_is_decoding_from_the_whole_row(problems: Problems, positions: str):
    network = make_network(problems, positions=positions)
    asked_PL = np.random.default_rng(0).integers(2, len(problems.vocabulary), size=(24, 6)).astype(np.uint16)
    written_PW, least_P = write_on(network, asked_PL, MOST)
    for asked, row, least in zip(asked_PL, written_PW, least_P, strict=True):
        tokens, smallest = by_hand(network, asked, MOST)
        assert row.tolist() == tokens + [PAD] * (MOST - len(tokens))
        assert float(least) == pytest.approx(smallest, rel=1e-4)


def test_rows_that_end_early_do_not_change_those_that_go_on(problems: Problems):
    network = make_network(problems, seed=5)
    with torch.no_grad():
        network.head.bias[EOS] += 1.0
    asked_PL = np.random.default_rng(1).integers(2, len(problems.vocabulary), size=(64, 5)).astype(np.uint16)
    written_PW, _ = write_on(network, asked_PL, MOST)
    ends = {len(by_hand(network, asked, MOST)[0]) for asked in asked_PL}
    assert len(ends) > 5, "rows have to end at many different steps, or nothing is tried"
    for asked, row in zip(asked_PL, written_PW, strict=True):
        tokens, _ = by_hand(network, asked, MOST)
        assert row.tolist() == tokens + [PAD] * (MOST - len(tokens))


def test_problems_of_several_widths_are_each_read_without_padding(problems: Problems):
    network, tests_PL = make_network(problems), problems.tests(ARITHMETIC)
    asked_PL = problems.vocabulary.asked(ARITHMETIC.task, tests_PL)
    widths_P = (asked_PL != PAD).sum(axis=1)
    assert len(set(widths_P.tolist())) > 1
    writing = write_chains(network, problems, ARITHMETIC, tests_PL, most=MOST)
    for asked, width, row, sure in zip(asked_PL, widths_P, writing.written_PW, writing.confidence_P, strict=True):
        tokens, least = by_hand(network, asked[:width], MOST)
        own = problems.vocabulary.own(ARITHMETIC.task, np.array(tokens))
        assert row[: len(own)].tolist() == own.tolist()
        assert not row[len(own) :].any()
        assert float(sure) == pytest.approx(least, rel=1e-4)


def test_at_a_temperature_the_seed_decides(problems: Problems):
    network, tests_PL = make_network(problems), problems.tests(PARITY)

    def write(seed: int) -> np.ndarray:
        return write_chains(network, problems, PARITY, tests_PL, most=MOST, temperature=1.0, seed=seed).written_PW

    before = torch.get_rng_state()
    assert np.array_equal(write(1), write(1))
    assert not np.array_equal(write(1), write(2))
    assert torch.equal(before, torch.get_rng_state())


def test_at_a_temperature_tokens_come_as_often_as_their_probabilities_say(problems: Problems):
    network, temperature = make_network(problems), 2.0
    asked_PL = np.full((20_000, 3), 4, np.uint16)
    written_PW, least_P = write_on(network, asked_PL, 1, temperature, torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(torch.full((1, 3), 4))[0, -1]
    probabilities = ((logits / temperature).exp() / (logits / temperature).exp().sum()).numpy()
    shares = np.bincount(written_PW[:, 0], minlength=len(probabilities)) / 20_000
    np.testing.assert_allclose(shares, probabilities, atol=5 * 0.5 / 20_000**0.5)
    np.testing.assert_allclose(least_P, probabilities[written_PW[:, 0]], rtol=1e-4)


def test_there_is_room_for_the_widest_solution_and_a_problem_more(problems: Problems):
    tests_PL = problems.tests(ARITHMETIC)
    solutions_PW = problems.solutions(ARITHMETIC, tests_PL)
    assert room(problems, ARITHMETIC) == int((solutions_PW != PAD).sum(axis=1).max()) + tests_PL.shape[1]
