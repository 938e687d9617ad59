"""A task that a user wrote: a class in a Python file, which stands for the task in everything."""

import importlib.util
import inspect
import json
import sys
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError

from models.common.config import explain_validation, unknown
from models.common.errors import ConfigError
from models.relay.task import Task, Tokens, Worked

_CONSTANTS = ("last_round_is_answer", "round_end", "length_unit")


class UserTask(Task):
    """The task of this class in this file, which is read when something is first asked of it.

    Then ConfigError is raised where there is no such file, no such class, or one that cannot be a task.
    """

    kind: Literal["user"] = "user"
    source: Path = Field(description="a Python file; it may import whatever Python finds")
    class_name: str = Field(pattern=r"^[A-Za-z_]\w*$", description="a subclass of Task or TaskInWords in it")
    settings: dict[str, JsonValue] = Field(default={}, description="what the class's own fields are set to")

    def __hash__(self) -> int:  # the one that pydantic makes fails at the settings, which are a dict
        return hash((self.source, self.class_name, json.dumps(self.settings, sort_keys=True)))

    @property
    def task(self) -> Task:
        """The user's own object."""
        if not self.source.is_file():
            raise ConfigError(f"task.source is {self.source}, and there is no such file\nfits: a Python file of a task")
        changed = self.source.stat().st_mtime_ns
        return _load(self.source.resolve(), changed, self.class_name, json.dumps(self.settings, sort_keys=True))

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.task.symbols)

    @property
    def chance(self) -> str:
        return self.task.chance

    @property
    def last_round_is_answer(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] the user's own
        return self.task.last_round_is_answer

    @property
    def round_end(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] the user's own
        return self.task.round_end

    @property
    def length_unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] the user's own
        return self.task.length_unit

    def check_length(self, length: int) -> None:
        self.task.check_length(length)

    def loops(self, length: int) -> int:
        return self.task.loops(length)

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        return self.task.draw(rng, length, count)

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        return self.task.work(problems_PL, length)

    def boards(self, problems_PL: Tokens, length: int) -> Tokens | None:
        return self.task.boards(problems_PL, length)

    def answer_width(self, length: int) -> int:
        return self.task.answer_width(length)

    def widest_problem(self, length: int) -> int:
        return self.task.widest_problem(length)

    def is_last(self, rounds_PR: Tokens) -> NDArray[np.bool_] | None:
        return self.task.is_last(rounds_PR)


@lru_cache(maxsize=64)
def _load(source: Path, changed: int, class_name: str, settings: str) -> Task:
    """The object; `changed` is when the file was, so that another version of it is read anew."""
    module = _module(source, changed)
    found = getattr(module, class_name, None)
    if found is None:
        own = [name for name, value in vars(module).items() if _is_task(value) and value.__module__ == module.__name__]
        raise ConfigError(unknown("class", class_name, sorted(own), where=str(source)))
    if not _is_task(found):
        raise ConfigError(
            f"{class_name} in {source} is {_described(found)}\n"
            "fits: a class that derives from Task (models/relay/task.py) or TaskInWords (models/relay/tasks/words.py)"
        )
    missing = sorted({*found.__abstractmethods__, *(name for name in _CONSTANTS if not hasattr(found, name))})
    if missing:
        raise ConfigError(f"{class_name} in {source} does not define {', '.join(missing)}\ndefine them in the class")
    try:
        return found(**json.loads(settings))
    except ValidationError as error:
        raise ConfigError(explain_validation(error, f"{class_name} in {source}")) from None


@lru_cache(maxsize=64)
def _module(source: Path, changed: int) -> ModuleType:
    name = f"relay_task_{sha256(f'{source} {changed}'.encode()).hexdigest()[:16]}"
    specification = importlib.util.spec_from_file_location(name, source)
    if specification is None or specification.loader is None:
        raise ConfigError(f"task.source is {source}, which Python cannot read\nfits: a file whose name ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where pydantic looks up what a class's annotations name
    try:
        specification.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise ConfigError(f"task.source is {source}, and it cannot be imported: {error}\nmend the file") from None
    return module


def _is_task(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Task)


def _described(value: Any) -> str:
    return "a class, but no task" if inspect.isclass(value) else f"a {type(value).__name__}"
