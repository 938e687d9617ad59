"""Whether a task keeps what networks, labels and reports count on; what a new task breaks, in words."""

# P problems   L tokens of a problem   T rounds   R tokens of a round   A tokens of an answer   W tokens of anything

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ConfigError
from models.relay.task import EOS, FIRST_SYMBOL, PAD, Task, Tokens, Worked, widened, widths_of

_SHOWN = 8  # faults of an error message

Solver = Callable[[str], str]
Fault = tuple[int, str]  # the problem's row, and what is wrong with it


class _Worked(NamedTuple):
    """Problems of one length, and what the task made of them."""

    task: Task
    length: int
    problems_PL: Tokens
    rounds_PTR: Tokens
    answers_PA: Tokens

    def text(self, tokens: Tokens) -> str:
        return _text(self.task, tokens)

    def problem(self, row: int) -> str:
        return self.text(self.problems_PL[row])


def require_sound(task: Task, lengths: Sequence[int]) -> None:
    """Raises ConfigError with the faults of the task, if it has any."""
    faults = check_task(task, lengths)
    if faults:
        shown = [*faults[:_SHOWN], *([f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else [])]
        raise ConfigError("\n".join([f"task {task.name} cannot be learnt as it is", *shown, "mend the task's class"]))


def check_task(
    task: Task, lengths: Sequence[int], problems_per_length: int = 64, seed: int = 0, solver: Solver | None = None
) -> list[str]:
    """What is wrong with a task, a line each, found on random problems of these lengths; empty where nothing is.

    Of each kind of fault a line names the first problem of a length that has it. solver: the answer to a problem, both
    as text, by another way than the task's.
    """
    faults = list(_of_names(task))
    if faults:
        return faults
    for length in lengths:
        faults += [f"length {length}: {fault}" for fault in _of_length(task, length, problems_per_length, seed, solver)]
    return faults


def shows_boards(task: Task, length: int) -> bool:
    """Whether a teacher can be asked to show boards of its problems."""
    return task.boards(task.draw(np.random.default_rng(0), length, 1), length) is not None


def tells_last_rounds(task: Task, length: int) -> bool:
    """Whether a round of the task says by itself that it is the last one."""
    return task.is_last(task.draw(np.random.default_rng(0), length, 1)) is not None


def _of_names(task: Task) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9_]+", task.name):
        yield f"name is '{task.name}'; files are named after it: use a to z, 0 to 9 and _"
    symbols = Counter(task.symbols)
    for symbol, times in symbols.items():
        if times > 1:
            yield f"symbol '{symbol}' stands {times} times among symbols; each is there once"
        if not symbol or symbol.split() != [symbol] or symbol in ("<pad>", "<eos>"):
            yield f"symbol '{symbol}' cannot be told apart in a text; use no blanks, no empty text, no <pad> or <eos>"
    if task.round_end not in symbols:
        yield f"round_end is '{task.round_end}', which is no symbol"


def _of_length(task: Task, length: int, count: int, seed: int, solver: Solver | None) -> Iterator[str]:
    problems_PL = task.draw(np.random.default_rng([seed, length]), length, count)
    if shape := _misshapen("draw", problems_PL, (count, None)):
        yield shape
        return
    again_PL = task.draw(np.random.default_rng([seed, length]), length, count)
    for row in [row for row in range(count) if not _same(problems_PL[row], again_PL[row])][:1]:
        texts = [f"'{_text(task, each_PL[row])}'" for each_PL in (problems_PL, again_PL)]
        yield f"draw gives other problems for the same rng: {', then '.join(texts)}; draw from rng only"
    rounds_PTR, answers_PA = task.work(problems_PL, length)
    shape = _misshapen("rounds of work", rounds_PTR, (count, None, None))
    if shape := shape or _misshapen("answers of work", answers_PA, (count, None)):
        yield shape
        return
    worked = _Worked(task, length, problems_PL, rounds_PTR, answers_PA)
    for check in (*_CHECKS, *([_agrees_with(solver)] if solver else [])):
        found = list(check(worked))
        if found:
            row, what = found[0]
            problems = len({row for row, _ in found})
            yield f"{what}; problem '{worked.problem(row)}' ({problems} of {count} problems)"


def _misshapen(what: str, tokens: NDArray[np.integer], shape: tuple[int | None, ...]) -> str:
    fits = tokens.ndim == len(shape) and all(
        size in (None, found) for size, found in zip(shape, tokens.shape, strict=True)
    )
    if fits and np.issubdtype(tokens.dtype, np.integer):
        return ""
    wanted = " x ".join("any" if size is None else str(size) for size in shape)
    return f"{what} has shape {' x '.join(map(str, tokens.shape))} of {tokens.dtype}; fits: {wanted}, of uint16"


def _text(task: Task, tokens: Tokens) -> str:
    """Tokens for people; those that the task has no symbol for as numbers."""
    names = ("<pad>", "<eos>", *task.symbols)
    width = int(widths_of(tokens[None])[0])
    return " ".join(names[token] if 0 <= token < len(names) else f"#{token}" for token in tokens[:width])


def _tokens_are_symbols(worked: _Worked) -> Iterator[Fault]:
    end = FIRST_SYMBOL + len(worked.task.symbols)
    for what, row, tokens in _rows(worked):
        if (tokens == EOS).any():
            yield row, f"{what} '{worked.text(tokens)}' holds EOS, which only follows the answer"
        if ((tokens < 0) | (tokens >= end)).any():
            yield row, f"{what} '{worked.text(tokens)}' holds tokens beyond {end - 1}, the last symbol's"


def _padding_is_on_the_right(worked: _Worked) -> Iterator[Fault]:
    for what, row, tokens in _rows(worked):
        if (tokens[: int(widths_of(tokens[None])[0])] == PAD).any():
            yield row, f"{what} '{worked.text(tokens)}' holds PAD before its last token"
        elif what != "a round" and not tokens.any():
            yield row, f"{what} is empty"


def _rounds_are_as_many_as_loops(worked: _Worked) -> Iterator[Fault]:
    loops = worked.task.loops(worked.length)
    for row, rounds_TR in enumerate(worked.rounds_PTR):
        found = int(rounds_TR.any(axis=1).sum())
        if found != loops or len(rounds_TR) != loops:
            yield row, f"work gives {found} rounds, and loops({worked.length}) is {loops}"


def _rounds_are_no_longer_than_problems(worked: _Worked) -> Iterator[Fault]:
    for row, rounds_TR in enumerate(worked.rounds_PTR):
        width = int(widths_of(worked.problems_PL[row][None])[0])
        for tokens in rounds_TR[widths_of(rounds_TR) > width][:1]:
            found = int(widths_of(tokens[None])[0])
            yield row, f"round '{worked.text(tokens)}' has {found} tokens, more than its problem's {width}"


def _problems_fit_their_width(worked: _Worked) -> Iterator[Fault]:
    widest = worked.task.widest_problem(worked.length)
    for row in (widths_of(worked.problems_PL) > widest).nonzero()[0]:
        found = int(widths_of(worked.problems_PL[row][None])[0])
        yield int(row), f"a problem has {found} tokens, and widest_problem({worked.length}) is {widest}"


def _rounds_end_as_they_should(worked: _Worked) -> Iterator[Fault]:
    task = worked.task
    end = task.token(task.round_end)
    for row, rounds_TR in enumerate(worked.rounds_PTR):
        written = [tokens[: int(widths_of(tokens[None])[0])] for tokens in rounds_TR if tokens.any()]
        *others, last = written or [np.zeros(0, np.uint16)]
        if task.last_round_is_answer and (last == end).any():
            yield row, f"the last round '{worked.text(last)}' holds '{task.round_end}', and it is to be the bare answer"
        for tokens in others if task.last_round_is_answer else written:
            if tokens[-1] != end:
                yield row, f"round '{worked.text(tokens)}' does not end in '{task.round_end}'"
            elif (tokens == end).sum() > 1:
                yield row, f"round '{worked.text(tokens)}' holds '{task.round_end}' before its end"


def _answers_have_their_width(worked: _Worked) -> Iterator[Fault]:
    width = worked.task.answer_width(worked.length)
    for row in (widths_of(worked.answers_PA) != width).nonzero()[0]:
        answer = worked.text(worked.answers_PA[row])
        yield int(row), f"answer '{answer}' has not {width} tokens, as answer_width({worked.length}) says"


def _answers_follow_from_chains(worked: _Worked) -> Iterator[Fault]:
    first_with: dict[bytes, int] = {}
    for row, (rounds_TR, answer_A) in enumerate(zip(worked.rounds_PTR, worked.answers_PA, strict=True)):
        answer, last = worked.text(answer_A), worked.text(rounds_TR[max(0, int(rounds_TR.any(axis=1).sum()) - 1)])
        first = first_with.setdefault(rounds_TR.tobytes(), row)
        if worked.task.last_round_is_answer and last != answer:
            yield row, f"the last round is '{last}' and the answer '{answer}', which are to be the same"
        elif answer != worked.text(worked.answers_PA[first]):
            other = f"'{worked.text(worked.answers_PA[first])}' of problem '{worked.problem(first)}'"
            yield row, f"answer '{answer}' follows the same rounds as {other}; rounds have to tell the answer"


def _last_rounds_are_known(worked: _Worked) -> Iterator[Fault]:
    for row, rounds_TR in enumerate(worked.rounds_PTR):
        is_last_T = worked.task.is_last(rounds_TR)
        if is_last_T is None:
            continue
        right_T = np.arange(len(rounds_TR)) == len(rounds_TR) - 1
        for place in (is_last_T != right_T).nonzero()[0][:1]:
            said = "the last one" if is_last_T[place] else "not the last one"
            shown = worked.text(rounds_TR[place])
            yield row, f"is_last says that round {place + 1} of {len(rounds_TR)}, '{shown}', is {said}"


def _boards_stand_in_problems(worked: _Worked) -> Iterator[Fault]:
    boards_PTL = worked.task.boards(worked.problems_PL, worked.length)
    if boards_PTL is None:
        return
    shape = len(worked.problems_PL), worked.task.loops(worked.length), worked.problems_PL.shape[1]
    if fault := _misshapen("boards", boards_PTL, shape):
        yield 0, fault
    elif (boards_PTL >= FIRST_SYMBOL + len(worked.task.symbols)).any():
        yield int(boards_PTL.max(axis=(1, 2)).argmax()), "a board holds a token beyond the last symbol's"


def _work_repeats_itself(worked: _Worked) -> Iterator[Fault]:
    again = Worked(*worked.task.work(worked.problems_PL, worked.length))
    for row in range(len(worked.problems_PL)):
        if not _same_work(worked, row, again.rounds_PTR[row], again.answers_PA[row]):
            yield row, "work gives something else when asked again"


def _work_knows_no_neighbours(worked: _Worked) -> Iterator[Fault]:
    for row, problem_L in enumerate(worked.problems_PL):
        alone = Worked(*worked.task.work(problem_L[None, : int(widths_of(problem_L[None])[0])], worked.length))
        if not _same_work(worked, row, alone.rounds_PTR[0], alone.answers_PA[0]):
            yield row, "work gives something else for a problem alone than for the same one among others"


def _agrees_with(solver: Solver) -> Callable[[_Worked], Iterator[Fault]]:
    def agrees(worked: _Worked) -> Iterator[Fault]:
        for row, answer_A in enumerate(worked.answers_PA):
            answer, solved = worked.text(answer_A), solver(worked.problem(row))
            if answer.split() != solved.split():
                yield row, f"the answer is '{answer}', and the solver's '{solved}'"

    return agrees


_CHECKS: tuple[Callable[[_Worked], Iterator[Fault]], ...] = (
    _tokens_are_symbols,
    _padding_is_on_the_right,
    _rounds_are_as_many_as_loops,
    _rounds_are_no_longer_than_problems,
    _problems_fit_their_width,
    _rounds_end_as_they_should,
    _answers_have_their_width,
    _answers_follow_from_chains,
    _last_rounds_are_known,
    _boards_stand_in_problems,
    _work_repeats_itself,
    _work_knows_no_neighbours,
)


def _rows(worked: _Worked) -> Iterator[tuple[str, int, Tokens]]:
    """All rows of tokens: what they are, of which problem, and they."""
    for row, (problem_L, rounds_TR, answer_A) in enumerate(zip(*worked[2:], strict=True)):
        yield "a problem", row, problem_L
        yield from (("a round", row, tokens) for tokens in rounds_TR)
        yield "an answer", row, answer_A


def _same_work(worked: _Worked, row: int, rounds_TR: Tokens, answer_A: Tokens) -> bool:
    mine_TR = worked.rounds_PTR[row]
    return (
        len(rounds_TR) == len(mine_TR)
        and all(map(_same, rounds_TR, mine_TR))
        and _same(answer_A, worked.answers_PA[row])
    )


def _same(one_W: Tokens, other_W: Tokens) -> bool:
    """Whether two rows are the same but for PAD on their right."""
    width = max(len(one_W), len(other_W))
    return bool((widened(one_W[None], width) == widened(other_W[None], width)).all())
