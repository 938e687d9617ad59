"""Where preference pairs come from: tasks whose true reward is known, or files."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.contract import DataConfig


class BigramTask(Config):
    """T1: the true reward is a sum of hidden scores of neighbouring tokens; responses have one fixed length."""

    kind: Literal["bigram"] = "bigram"
    classes: int = Field(default=4, ge=1, le=64, description="prompt classes, each a prompt of one token")
    symbols: int = Field(default=8, ge=2, le=1024)
    length: int = Field(default=64, ge=1, le=4096, description="tokens of a response")
    reward_scale: float = Field(default=0.1, gt=0.0, le=100.0, description="standard deviation of a hidden score")
    law_scale: float = Field(default=0.7, gt=0.0, le=10.0, description="of the logits that demonstrations follow")

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return 1


class TransductionTask(Config):
    """T2: copy, reverse or sort a string; demonstrations have wrong tokens, and truth counts the edits."""

    kind: Literal["transduction"] = "transduction"
    operations: tuple[Literal["copy", "reverse", "sort"], ...] = Field(
        default=("copy", "reverse", "sort"), min_length=1, max_length=3
    )
    symbols: int = Field(default=16, ge=2, le=1024)
    shortest: int = Field(default=8, ge=1, le=4096)
    longest: int = Field(default=24, ge=1, le=4096)
    corruption: float = Field(default=0.25, ge=0.0, lt=1.0, description="share of a demonstration's tokens")
    missing_end: float = Field(default=5.0, ge=0.0, le=1000.0, description="penalty, in edits, of a response cut off")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest} and longest {self.longest}; swap them")
        return self

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return 1 + self.longest


class TreeTask(Config):
    """T3: a tree of responses, small enough that every optimum is computed exactly."""

    kind: Literal["tree"] = "tree"
    actions: int = Field(default=3, ge=2, le=8)
    depth: int = Field(default=5, ge=1, le=8)
    reward_scale: float = Field(default=1.0, gt=0.0, le=100.0, description="standard deviation of a token's reward")
    law_scale: float = Field(default=0.7, gt=0.0, le=10.0, description="of the logits that demonstrations follow")

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return 1


class LengthTrapTask(Config):
    """T5: responses end where they like; truth does not count length, but whoever labelled the pairs liked it."""

    kind: Literal["length_trap"] = "length_trap"
    classes: int = Field(default=4, ge=1, le=64)
    symbols: int = Field(default=8, ge=2, le=1024)
    longest: int = Field(default=48, ge=2, le=4096, description="tokens of a response at most, its end included")
    mean_length: float = Field(default=16.0, gt=1.0, le=4096.0, description="of demonstrations")
    reward_scale: float = Field(default=0.6, gt=0.0, le=100.0, description="of the mean score that truth is")
    law_scale: float = Field(default=0.7, gt=0.0, le=10.0)
    length_bias: float = Field(default=0.1, ge=0.0, le=10.0, description="added to a label's logit for each token more")

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return 1


class PreferenceFiles(Config):
    """JSONL or Parquet files of pairs, with `chosen` and `rejected` as text or as lists of messages."""

    kind: Literal["files"] = "files"
    train: tuple[Path, ...] = Field(min_length=1, description="files of pairs to learn from")
    held_out: tuple[Path, ...] = Field(min_length=1, description="files of pairs that nothing is trained on")
    tokenizer: str = Field(min_length=1, description="a folder, or a name on the Hub; the policy's own")
    most_prompt: int = Field(default=1024, ge=1, le=131_072, description="tokens; a longer prompt is refused")
    most_response: int = Field(default=1024, ge=1, le=131_072, description="tokens; a longer response is cut off")
    bad_rows: Literal["refuse", "skip"] = Field(
        default="refuse", description="rows that cannot be used, too long prompts among them; skipped ones are counted"
    )

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return self.most_prompt


Task = Annotated[
    BigramTask | TransductionTask | TreeTask | LengthTrapTask | PreferenceFiles, Field(discriminator="kind")
]


class PreferenceData(DataConfig):
    """Preference pairs, held-out pairs and demonstrations, as token numbers."""

    task: Task = BigramTask()
    pairs: int = Field(default=2000, ge=2, le=10_000_000, description="to learn from; of files: at most")
    held_out_pairs: int = Field(default=512, ge=2, le=1_000_000)
    demonstrations: int = Field(default=8192, ge=2, le=10_000_000, description="of files: the chosen responses")

    def prepare(self, folder: Path) -> None:
        from models.rto.tasks import prepare

        prepare(self, folder)

    def sources(self) -> tuple[Path, ...]:
        return (*self.task.train, *self.task.held_out) if isinstance(self.task, PreferenceFiles) else ()
