"""Stage I of RELAY: each iteration of the loop is trained to show one round of the chain (section 3.3)."""

# B sequences of this rank   S positions   N supervised positions of all iterations   A of an answer
# V tokens of the vocabulary

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.relay.chains import Labels
from models.relay.config import TeacherConfig
from models.relay.learning import Tally, on_device, require_rows, seed_dropout
from models.relay.mixing import padded_share
from models.relay.network import LoopedTransformer
from models.relay.problems import Problems
from models.relay.rounds import IGNORED, RoundsBatch, draw_rounds, rounds_batches
from models.relay.schedule import Descent
from models.relay.streams import TEACHER


def round_loss(logits_NV: Tensor, targets_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """How far the iterations are from showing their rounds (arXiv 2502.08482, section 3.3, L_iter).

        L_iter = (1/T) sum_t CE(P(z_t | e_t), z_t) * M_t

    The weights hold 1/T and the mean over M_t and over problems, so that each problem and each of its rounds counts
    alike. A scalar in nats, and beside it what each supervised position adds to it (N).
    """
    surprise_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none") * weight_N
    return surprise_N.sum(), surprise_N


def answer_loss(logits_BAV: Tensor, answers_BA: Tensor, weight_B: Tensor) -> Tensor:
    """How far the last iteration is from the answer (section 3.3, L_ans).

    L_ans = CE(P(y | e_T), y)

    Where an answer has several tokens, their mean: the weights hold it, and the mean over problems. Scalar, in nats.
    """
    surprise_BA = F.cross_entropy(
        logits_BAV.float().flatten(0, 1), answers_BA.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return (surprise_BA.view(answers_BA.shape) * weight_B[:, None]).sum()


class RoundCurriculum:
    """How many iterations are unrolled: one more once the rounds' loss is low where all those now unrolled are used.

    Unlike section 3.3, which unrolls all T from the start: one iteration is learnt soon, but not through four others
    that do nothing yet.
    """

    def __init__(self, most: int, loss: float | None, window: int) -> None:
        self.most = most
        self.loss = loss
        self.window = window
        self.unrolled = most if loss is None else 1
        self.recent: list[float] = []

    def take(self, loss: float) -> None:
        """Takes in the rounds' loss of problems that use all iterations unrolled now."""
        if self.unrolled == self.most:
            return
        self.recent = [*self.recent, loss][-self.window :]
        if len(self.recent) == self.window and sum(self.recent) / self.window < (self.loss or 0.0):
            self.unrolled += 1
            self.recent = []

    def state_dict(self) -> dict[str, Any]:
        return {"unrolled": self.unrolled, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.unrolled = state["unrolled"]
        self.recent = list(state["recent"])


class TeacherLearner:
    """Trains the looped transformer on rounds and answers: L = L_ans + lambda * L_iter."""

    def __init__(self, config: TeacherConfig, world: World) -> None:
        require_rows(config, world)
        self.config = config
        self.world = world
        self.problems = Problems.read(world.inputs["problems"])
        self.labels = self._read_labels()
        network = LoopedTransformer(config, len(self.problems.vocabulary))
        if world.start_from is not None:
            network.load_state_dict(load_weights(world.start_from))
        self.descent = Descent(network, config.optimizer, config.max_steps, world)
        groups = (*self.problems.train, *(self.labels.groups if self.labels else ()))
        most = max(self.problems.loops(group) for group in groups)
        self.curriculum = RoundCurriculum(most, config.curriculum_loss, config.curriculum_window)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        unrolled = self.curriculum.unrolled
        rounds, rng = draw_rounds(self.problems, config, world.seed, step, self.labels)
        batches = rounds_batches(rounds, config, unrolled, rng, world)
        seed_dropout(config.network.dropout, TEACHER, step, world)
        tally = Tally()
        rate, gradient_norm = self.descent.update(self._losses(batches, tally), pieces=len(batches))

        means = tally.means(world)
        if means["deep_share"]:
            self.curriculum.take(means["deep_loss"] / means["deep_share"])
        if rounds.longest and unrolled == self.curriculum.most:
            self.descent.convergence.take(means["loss"], self.descent.steps_done)
        self.finished = self.descent.over
        return {
            "loss": means["loss"],
            "round_loss": means["round_loss"],
            "answer_loss": means["answer_loss"],
            "unrolled_rounds": float(unrolled),
            "mean_rounds": float(rounds.loops_B.mean()),
            "padded_share": padded_share(means["computed"], means["filled"]),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def _losses(self, batches: list[RoundsBatch], tally: Tally) -> Iterator[Tensor]:
        """The loss of each bucket, and what is told of it."""
        device = self.world.device
        for batch in batches:
            weight_N = on_device(batch.weight_N, device)
            logits_NV, answer_logits_BAV = self.descent.engine(
                on_device(batch.tokens_BS, device),
                batch.rows_T,
                on_device(batch.answer_at_B, device),
                batch.answers_BA.shape[1],
                on_device(batch.picked_N, device),
            )
            rounds_loss, surprise_N = round_loss(logits_NV, on_device(batch.targets_N, device), weight_N)
            answers_loss = answer_loss(
                answer_logits_BAV, on_device(batch.answers_BA, device), on_device(batch.answer_weight_B, device)
            )
            loss = answers_loss + self.config.round_weight * rounds_loss
            deep_N = on_device(batch.deep_N, device)
            tally.add(
                loss=loss,
                round_loss=rounds_loss,
                answer_loss=answers_loss,
                deep_loss=(surprise_N * deep_N).sum(),
                deep_share=(weight_N * deep_N).sum(),
                computed=batch.computed,
                filled=batch.filled,
            )
            yield loss

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict(curriculum=self.curriculum.state_dict())

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        self.curriculum.load_state_dict(state.shared["curriculum"])
        self.finished = self.descent.over

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()

    def _read_labels(self) -> Labels | None:
        if not self.config.label_share:
            return None
        if "labels" not in self.world.inputs:
            raise ConfigError(
                f"label_share is {self.config.label_share:g}, but the stage was given no labels\n"
                "fits: label_share=0, or the folder of a labels stage as input 'labels'"
            )
        return Labels.read(self.world.inputs["labels"], self.problems)
