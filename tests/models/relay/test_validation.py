"""The validator: sound tasks have no fault, and each made-up faulty one has the fault it was made for."""

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.relay.task import EOS, PAD, Task, Tokens, Worked
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem
from models.relay.validation import check_task, require_sound

SOUND = [
    Arithmetic(),
    Arithmetic(modulus=11, operators=("+", "-", "*", "/"), brackets=True),
    Arithmetic(modulus=5, operators=("*", "/")),
    EditDistance(),
    EditDistance(border="consistent", most_value=200),
    LongestIncreasing(fold=3),
    BinaryAddition(),
    Parity(),
    WordProblem(),
]


@pytest.mark.parametrize("task", SOUND, ids=lambda task: task.name)
def test_the_tasks_that_come_along_are_sound(task: Task):
    assert check_task(task, (1, 2, 3, 7, 11), problems_per_length=24) == []
    require_sound(task, (4,))


Change = Callable[[Tokens, Tokens, Tokens], Any]


def with_work(change: Change, base: type[Task] = Parity) -> Task:
    """A task whose rounds and answers are changed: in place, or to what `change` returns."""

    def work(self: Task, problems_PL: Tokens, length: int) -> Worked:
        worked = base.work(self, problems_PL, length)
        return change(problems_PL, *worked) or worked

    return with_parts(base, work=work)


def with_draw(change: Callable[[Tokens], Any]) -> Task:
    def draw(self: Task, rng: np.random.Generator, length: int, count: int) -> Tokens:
        drawn = Parity.draw(self, rng, length, count)  # pyright: ignore[reportArgumentType] it is one
        changed = change(drawn)
        return drawn if changed is None else changed

    return with_parts(draw=draw)


def with_parts(base: type[Task] = Parity, **parts: Any) -> Task:
    return type("Changed", (base,), {**parts, "__module__": __name__})()


CALLS = count()


def longer(problems: Tokens, rounds: Tokens, answers: Tokens) -> Worked:
    comma = rounds[:, :, -1:]
    return Worked(np.concatenate([*[rounds[:, :, :1]] * problems.shape[1], comma], axis=2), answers)


def put(place: Any, token: int, part: int = 1) -> Change:
    def change(*all_parts: Tokens) -> None:
        all_parts[part][place] = token

    return change


def pad_first(drawn: Tokens) -> None:
    drawn[:, 0] = PAD


def first_bit(problems: Tokens, rounds: Tokens, answers: Tokens) -> None:
    rounds[:, :, :-1] = 2
    answers[:] = problems[:, :1]


def other_last_round(problems: Tokens, rounds: Tokens, answers: Tokens) -> None:
    rounds[:, -1, 0] = (answers[:, 0] - 5 + 1) % 7 + 5


def by_batch(problems: Tokens, rounds: Tokens, answers: Tokens) -> None:
    if len(problems) > 1:
        rounds[:, 0, 0] = 5 - rounds[:, 0, 0]


def by_call(problems: Tokens, rounds: Tokens, answers: Tokens) -> None:
    if next(CALLS) % 2:
        rounds[:, 0, 0] = 5 - rounds[:, 0, 0]


FAULTY: dict[str, tuple[Callable[[], Task], str]] = {
    "round longer than problem": (
        lambda: with_work(longer),
        r"round '. . .* ,' has \d+ tokens, more than its problem's",
    ),
    "too few rounds": (lambda: with_work(put((0, -1), PAD)), r"work gives 0 rounds, and loops\(3\) is 1"),
    "another number of loops": (
        lambda: with_parts(loops=lambda self, length: length),
        r"work gives 1 rounds, and loops\(3\) is 3",
    ),
    "work not repeatable": (lambda: with_work(by_call), "something else when asked again"),
    "work by neighbours": (lambda: with_work(by_batch), "alone than for the same one among others"),
    "draw not from rng": (
        lambda: with_draw(lambda drawn: np.full_like(drawn, next(CALLS) % 2 + 2)),
        "draw gives other problems for the same rng: '[01] [01] [01] [01]', then '",
    ),
    "token beyond symbols": (lambda: with_work(put((0, 0, 0), 6)), r"a round '#6 . . ,' holds tokens beyond 5"),
    "PAD inside a round": (lambda: with_work(put((0, 0, 1), PAD)), "a round '. <pad> . ,' holds PAD before its last"),
    "PAD inside a problem": (lambda: with_draw(pad_first), "a problem '<pad> . . =' holds PAD before"),
    "EOS in a round": (lambda: with_work(put((0, 0, 1), EOS)), "a round '. <eos> . ,' holds EOS"),
    "EOS as answer": (lambda: with_work(put(0, EOS, 2)), "an answer '<eos>' holds EOS"),
    "empty answer": (lambda: with_work(put(0, PAD, 2)), "an answer is empty"),
    "answer at random": (lambda: with_work(first_bit), r"answer '.' follows the same rounds as '.' of problem '"),
    "last round is not the answer": (
        lambda: with_work(other_last_round, Arithmetic),
        r"the last round is '\d' and the answer '\d', which are to be the same",
    ),
    "bare answer with an end": (
        lambda: with_work(put((0, -1, 1), 2), Arithmetic),
        r"the last round '\d =' holds '=', and it is to be the bare answer",
    ),
    "answer width": (
        lambda: with_parts(answer_width=lambda self, length: 2),
        r"answer '.' has not 2 tokens, as answer_width\(3\) says",
    ),
    "round without end": (lambda: with_work(put((0, 0, -1), 2)), "round '. . . 0' does not end in ','"),
    "end within a round": (lambda: with_work(put((0, 0, 0), 5)), "round ', . . ,' holds ',' before its end"),
    "is_last always": (
        lambda: with_parts(Arithmetic, is_last=lambda self, rounds: np.ones(len(rounds), bool)),
        r"is_last says that round 1 of 3, '.*', is the last one",
    ),
    "is_last never": (
        lambda: with_parts(Arithmetic, is_last=lambda self, rounds: np.zeros(len(rounds), bool)),
        r"is_last says that round 3 of 3, '\d', is not the last one",
    ),
    "symbols not unique": (
        lambda: with_parts(symbols=property(lambda self: ("0", "1", "=", ",", "0"))),
        "symbol '0' stands 2 times among symbols",
    ),
    "symbol with a blank": (
        lambda: with_parts(symbols=property(lambda self: ("0", "1", "=", ",", "a b"))),
        "symbol 'a b' cannot be told apart in a text",
    ),
    "end that is no symbol": (lambda: with_parts(round_end=";"), "round_end is ';', which is no symbol"),
    "name of several words": (lambda: with_parts(name=property(lambda self: "my task")), "name is 'my task'; files"),
    "widest problem": (
        lambda: with_parts(widest_problem=lambda self, length: length),
        r"a problem has 4 tokens, and widest_problem\(3\) is 3",
    ),
    "shape of boards": (
        lambda: with_parts(boards=lambda self, problems, length: problems),
        "boards has shape 64 x 4 of uint16; fits: 64 x 1 x 4, of uint16",
    ),
    "tokens of boards": (
        lambda: with_parts(boards=lambda self, problems, length: problems[:, None] + 2),
        "a board holds a token beyond the last symbol's; problem '",
    ),
    "shape of problems": (
        lambda: with_draw(lambda drawn: drawn[1:]),
        "draw has shape 63 x 4 of uint16; fits: 64 x any",
    ),
    "shape of rounds": (
        lambda: with_work(lambda problems, rounds, answers: Worked(rounds[:, 0], answers)),
        "rounds of work has shape 64 x 4 of uint16; fits: 64 x any x any",
    ),
    "kind of answers": (
        lambda: with_work(lambda problems, rounds, answers: (rounds, answers * 1.0)),
        "answers of work has shape 64 x 1 of float64; fits: 64 x any, of uint16",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_found_and_told_with_its_problem(fault: str):
    make, says = FAULTY[fault]
    task = make()
    assert re.search(says, " ".join(check_task(task, (3,))[:2]))  # what else it breaks comes after
    with pytest.raises(ConfigError, match=says):
        require_sound(task, (3,))


def test_a_fault_names_its_length_its_problem_and_how_many_have_it():
    told = check_task(with_parts(answer_width=lambda self, length: length), (1, 3), problems_per_length=5)
    assert len(told) == 1
    assert re.fullmatch(
        r"length 3: answer '.' has not 3 tokens, as answer_width\(3\) says; problem '. . . =' \(5 of 5 problems\)",
        told[0],
    )


def test_a_solver_that_disagrees_is_quoted():
    task = Parity()
    assert check_task(task, (6,), solver=lambda problem: str(problem.count("1") % 2)) == []
    told = check_task(task, (6,), solver=lambda problem: "1")
    assert len(told) == 1
    assert "the answer is '0', and the solver's '1'; problem '" in told[0]


def test_many_faults_are_cut_short_in_an_error():
    task = with_parts(answer_width=lambda self, length: 2)
    with pytest.raises(ConfigError, match="and 12 more\nmend") as refusal:
        require_sound(task, range(1, 21))
    assert str(refusal.value).startswith("task parity cannot be learnt as it is\nlength 1: ")
