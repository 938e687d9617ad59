"""A user's class in a file stands for a task in everything; what is wrong with the file or the class is said."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.tasks.user import UserTask
from models.relay.validation import check_task

LARGEST = Path(__file__).with_name("largest.py")


def largest(**settings: int) -> UserTask:
    return UserTask(source=LARGEST, class_name="Largest", settings={**settings})


def written(folder: Path, text: str, class_name: str = "Mine") -> UserTask:
    (folder / "mine.py").write_text(text)
    return UserTask(source=folder / "mine.py", class_name=class_name)


def test_the_example_is_a_sound_task_of_twenty_lines():
    def solver(problem: str) -> str:
        return str(max(map(int, problem.split()[:-1])))

    assert check_task(largest(), (1, 2, 6, 20), solver=solver) == []
    lines = [line for line in LARGEST.read_text().split("class Largest")[1].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_everything_is_asked_of_the_users_class():
    task = largest(numbers=5)
    assert (task.name, task.length_unit, task.round_end) == ("largest", "comparisons", "=")
    assert task.last_round_is_answer
    assert task.symbols == ("=", "0", "1", "2", "3", "4")
    assert task.loops(7) == 7
    solution = task.solutions(task.read("3 0 4 1 =")[None], 3)[0]
    assert task.text(solution) == "3 4 1 = 4 1 = 4 <eos>"
    rounds_TR = task.work(task.read("3 0 4 =")[None], 2).rounds_PTR[0]
    np.testing.assert_array_equal(task.is_last(rounds_TR), [False, True])
    drawn = task.draw(np.random.default_rng(0), 2, 100)
    assert set(np.unique(drawn)) == set(range(2, 8))
    assert (task.widest_problem(3), task.answer_width(3), task.chance) == (5, 1, "")


def test_a_users_own_methods_come_before_those_of_the_base(tmp_path: Path):
    task = written(
        tmp_path,
        "from __future__ import annotations\n"
        "from models.common.errors import ConfigError\n"
        "from models.relay.tasks.parity import Parity\n"
        "class Mine(Parity):\n"
        "    offset: int = 3\n"
        "    @property\n"
        "    def chance(self): return 'seldom'\n"
        "    def answer_width(self, length): return 7\n"
        "    def boards(self, problems_PL, length): return problems_PL[:, None] + self.offset\n"
        "    def widest_problem(self, length): return self.offset + length\n"
        "    def is_last(self, rounds_PR): return rounds_PR[:, 0] == 9\n"
        "    def check_length(self, length):\n"
        "        if length > 5: raise ConfigError('too long for me')\n",
    )
    assert (task.chance, task.answer_width(2), task.widest_problem(2)) == ("seldom", 7, 5)
    assert not task.last_round_is_answer
    np.testing.assert_array_equal(task.boards(np.array([[2, 4]], np.uint16), 1), [[[5, 7]]])
    np.testing.assert_array_equal(task.is_last(np.array([[9, 1], [8, 1]], np.uint16)), [True, False])
    with pytest.raises(ConfigError, match="too long for me"):
        TaskLengths(task=task, train_lengths=(1, 2), label_lengths=(6,), untouched_lengths=())


def test_a_config_with_it_is_read_as_it_was_written():
    data = ProblemsData(tasks=(TaskLengths(task=largest(numbers=8), train_lengths=(1, 2), label_lengths=(3,)),))
    again = ProblemsData.model_validate_json(data.model_dump_json())
    assert again == data
    assert again.sources() == (LARGEST,)
    assert again.tasks[0].task.symbols == largest(numbers=8).symbols
    assert pickle.loads(pickle.dumps(again)) == data  # noqa: S301 our own bytes


def test_a_changed_file_is_read_again(tmp_path: Path):
    text = LARGEST.read_text()
    first = written(tmp_path, text, "Largest")
    assert first.length_unit == "comparisons"
    changed = written(tmp_path, text.replace('"comparisons"', '"steps"') + "\n\n", "Largest")
    assert changed.length_unit == "steps"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Other: pass\nMine = 3", "Mine in .* is a int\nfits: a class that derives from Task"),
        ("class Mine: pass", "is a class, but no task"),
        ("from models.relay.tasks.parity import Parity\nclass Mien(Parity): pass", "did you mean 'Mien'"),
        ("import no_such_module_at_all", "cannot be imported: No module named 'no_such_module_at_all'"),
        ("class Mine(", "cannot be imported"),
        (
            "from models.relay.tasks.words import TaskInWords\nclass Mine(TaskInWords):\n    name = 'mine'",
            "does not define loops, problem, rounds, symbols",
        ),
        (
            "from models.relay.task import Task\nclass Mine(Task):\n    round_end = '='",
            "does not define draw, last_round_is_answer, length_unit, loops, name, symbols, work",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, says: str):
    with pytest.raises(ConfigError, match=says):
        _ = written(tmp_path, text).name


def test_files_and_settings_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"gone\.py, and there is no such file"):
        _ = UserTask(source=tmp_path / "gone.py", class_name="Mine").symbols
    (tmp_path / "task.txt").write_text("")
    with pytest.raises(ConfigError, match=r"ends in \.py"):
        _ = UserTask(source=tmp_path / "task.txt", class_name="Mine").symbols
    with pytest.raises(ConfigError, match=r"(?s)Largest in .* does not validate\nnumbrs"):
        _ = largest(numbrs=3).symbols
    with pytest.raises(ConfigError, match="no class 'NOT_THERE'"):
        _ = UserTask(source=LARGEST, class_name="NOT_THERE").symbols


def test_a_word_that_is_no_symbol_is_named(tmp_path: Path):
    task = written(tmp_path, LARGEST.read_text().replace("[larger]", '["about"]'), "Largest")
    with pytest.raises(ConfigError, match="task largest: rounds gave 'about', and 'about' is no symbol"):
        task.work(task.read("1 2 =")[None], 1)
