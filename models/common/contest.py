"""Two versions on the same held-out items in one job: which is better, and by how much more than chance.

No torch and no numpy, as configs derive from what stands here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, TypeAdapter, ValidationError

from models.common.config import Config, explain_validation
from models.common.contract import DataConfig, MapConfig, World
from models.common.errors import ConfigError

CONTEST_FILE = "contest.json"
CANDIDATE, CHAMPION, HELD_OUT = "candidate", "champion", "held_out"  # inputs of a contest, by name
SIDES = (CANDIDATE, CHAMPION)

Seed = Annotated[int, Field(ge=0, lt=2**32, description="of the held-out items")]


class Estimate(Config):
    """A measured number, and its standard error."""

    value: float
    error: NonNegativeFloat


class Contest(Config):
    """What candidate and champion scored on the same items.

    gain: how much better the candidate is, positive where it is, whichever way the metric points. Its error is that of
    the paired difference where both met the same items, which is smaller than that of two independent measurements.
    margin: the gain that is worth a promotion.
    """

    metric: str  # such as "chains right at 6-8 operators"
    unit: str = ""  # such as " points"
    higher_is_better: bool = True
    items: PositiveInt  # how many were scored
    candidate: Estimate
    champion: Estimate
    gain: Estimate
    margin: NonNegativeFloat

    def write(self, folder: Path) -> None:
        (folder / CONTEST_FILE).write_text(json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls.model_validate_json((folder / CONTEST_FILE).read_text())


class ContestMethod(Protocol):
    """How versions are scored: a workload's `contest.py`, with what `MapConfig` has, as functions of the config."""

    def shards(self, config: Any, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        """Pieces of work on two versions that are known to be comparable."""
        ...

    def process(self, config: Any, shard: dict[str, Any], world: World) -> Any: ...

    def collect(self, config: Any, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        """Writes who won, a Contest, into the folder."""
        ...


class ContestStage(MapConfig):
    """Scores two published versions side by side; a workload derives its own from it.

    `inputs` has the folders of two versions, "candidate" and "champion", and where `held_out` names data, its prepared
    folder, "held_out". What is scored was held out from the training of both; which items these are depends on the
    seed alone, so that another contest has others.
    """

    margin: NonNegativeFloat = Field(description="gain that is worth a promotion, in the metric's unit")
    seed: Seed = 0

    def held_out(self) -> DataConfig | None:
        """The data that hold the items, or what they are drawn by; None where the versions are all that is needed."""
        return None

    def check_versions(self, candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> None:
        """Raises ConfigError where versions of these configs cannot be scored on the same items."""

    def method(self) -> ContestMethod:
        """How the workload does it. Import it here, so that reading a config does not import torch."""
        raise NotImplementedError

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        candidate, champion = (read_version(inputs[side]) for side in SIDES)
        self.check_versions(candidate, champion)
        return self.method().shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        return self.method().process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        self.method().collect(self, parts, inputs, folder)


class Scores(NamedTuple):
    """What both sides scored, and how much more the candidate did."""

    candidate: Estimate
    champion: Estimate
    gain: Estimate


def paired(candidate_N: Sequence[float], champion_N: Sequence[float]) -> Scores:
    """The means of two versions on the same N items, and that of the differences, each with its standard error.

        gain = sum_n d_n / N,   error = sqrt(sum_n (d_n - gain)^2 / (N - 1) / N),   d_n = candidate_n - champion_n

    gain / error is the t of Student's paired test. Items that are alike for both add nothing to its error.
    """
    differences = [one - other for one, other in zip(candidate_N, champion_N, strict=True)]
    return Scores(mean_of(candidate_N), mean_of(champion_N), mean_of(differences))


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with its standard error s / sqrt(N)."""
    count = len(values)
    assert count > 1, "one value has no error"
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(value=mean, error=math.sqrt(variance / count))


def read_version(folder: Path) -> dict[str, Any]:
    """The config that a version's run had, as it was published."""
    return json.loads((folder / "config.json").read_text())


def part_of(version: Mapping[str, Any], path: str, kind: Any) -> Any:
    """A part of a version's config, such as "data.splits", validated as this kind.

    Raises ConfigError where the version has none, or one that this code cannot read.
    """
    value: Any = version
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise ConfigError(
                f"a version of {version.get('name', 'an unknown workload')} has no {path}, and cannot be compared\n"
                "fits: a version that this workload published, with code not much older than this"
            )
        value = value[name]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(
            f"{path} of a version: {explain_validation(error, path)}\n"
            "it was published by other code, and cannot be compared\n"
            "fits: a version of this code; promote the first of them by hand"
        ) from None


def require_alike(what: str, candidate: Any, champion: Any) -> None:
    """Raises ConfigError where the two differ in what makes their items the same."""
    if candidate != champion:
        raise ConfigError(
            f"the candidate has {what} {candidate}, the champion {champion}: there are no items to score both on\n"
            "fits: versions that agree in it; where the change is meant, promote the new version by hand"
        )
