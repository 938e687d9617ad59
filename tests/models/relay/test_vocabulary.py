"""One numbering for several tasks: what goes in comes out, and nobody's symbol is taken for another's."""

import numpy as np
import pytest

from models.relay.problems import Problems
from models.relay.task import EOS, PAD
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.vocabulary import Vocabulary


def test_a_task_alone_keeps_its_own_numbers():
    task = Arithmetic()
    vocabulary = Vocabulary([task])
    problems = task.draw(np.random.default_rng(0), 3, 5)
    np.testing.assert_array_equal(vocabulary.asked(task.name, problems), problems)
    assert vocabulary.texts == ("<pad>", "<eos>", *task.symbols)


def test_tasks_together_share_symbols_and_are_named_in_front(mixed: Problems):
    texts = mixed.vocabulary.texts
    assert len(set(texts)) == len(texts)
    assert {"[arithmetic]", "[edit_distance]", "3", "a", "("} <= set(texts)
    for name, task in mixed.tasks.items():
        problems = task.draw(np.random.default_rng(1), 3, 20)
        asked = mixed.vocabulary.asked(name, problems)
        assert {texts[token] for token in asked[:, 0]} == {f"[{name}]"}
        for own, joint in zip(problems, asked, strict=True):
            assert " ".join(texts[token] for token in joint[1:] if token != PAD) == task.text(own)
        np.testing.assert_array_equal(mixed.vocabulary.own(name, asked[:, 1:]), problems)


def test_another_tasks_symbol_becomes_none_of_ones_own():
    tasks = [Arithmetic(), EditDistance()]
    vocabulary = Vocabulary(tasks)
    letter = vocabulary.texts.index("a")
    own = vocabulary.own("arithmetic", np.array([letter, PAD, EOS]))
    assert own.tolist() == [len(tasks[0].symbols) + 2, PAD, EOS]
    assert tasks[0].text(own) == "? <eos>"


@pytest.mark.parametrize("name", ["arithmetic", "edit_distance"])
def test_a_round_trip_through_all_symbols(name: str):
    tasks = {task.name: task for task in (Arithmetic(), EditDistance())}
    vocabulary = Vocabulary(list(tasks.values()))
    own = np.arange(len(tasks[name].symbols) + 2, dtype=np.uint16)
    np.testing.assert_array_equal(vocabulary.own(name, vocabulary.joint(name, own)), own)
