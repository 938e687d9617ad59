"""One numbering of tokens for the tasks that a network learns together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.relay.task import EOS, FIRST_SYMBOL, PAD, Task, Tokens


class Vocabulary:
    """PAD, EOS, then a token for each task where there are several, then the symbols of all, each once.

    Tasks know their own tokens only; networks and label files hold these.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        task_tokens = [f"[{task.name}]" for task in tasks] if len(tasks) > 1 else []
        symbols = dict.fromkeys(symbol for task in tasks for symbol in task.symbols)
        self.texts = ("<pad>", "<eos>", *task_tokens, *symbols)
        place = {text: number for number, text in enumerate(self.texts)}
        self.task_token = {task.name: place[text] for task, text in zip(tasks, task_tokens, strict=False)}
        self._joint = {
            task.name: np.array([PAD, EOS, *(place[symbol] for symbol in task.symbols)], np.uint16) for task in tasks
        }
        self._own = {name: _inverse(joint, len(self.texts)) for name, joint in self._joint.items()}

    def __len__(self) -> int:
        return len(self.texts)

    def joint(self, task: str, tokens: Tokens) -> Tokens:
        """The task's own tokens in the numbering of all tasks."""
        return self._joint[task][tokens]

    def own(self, task: str, tokens: NDArray[np.integer]) -> Tokens:
        """Joint tokens in the task's own numbering; those that it does not have become one it has no symbol for."""
        return self._own[task][tokens]

    def asked(self, task: str, problems_PL: Tokens) -> Tokens:
        """Problems as networks read them: joint tokens, behind the task's token where there are several tasks."""
        joint_PL = self.joint(task, problems_PL)
        if not self.task_token:
            return joint_PL
        first_P1 = np.full((len(joint_PL), 1), self.task_token[task], np.uint16)
        return np.concatenate([first_P1, joint_PL], axis=1)

    def problem_width(self, asked_width: int) -> int:
        """How many of the tokens of a problem that networks read are the task's own."""
        return asked_width - bool(self.task_token)


def _inverse(joint: NDArray[np.uint16], size: int) -> NDArray[np.uint16]:
    foreign = len(joint)  # one more than the task's last token: no symbol has it
    own = np.full(size, foreign, np.uint16)
    own[joint] = np.arange(len(joint), dtype=np.uint16)
    assert own[joint[-1]] >= FIRST_SYMBOL
    return own
