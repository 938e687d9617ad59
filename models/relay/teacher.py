"""Stage I of RELAY: each iteration of the loop is trained to show one round of the chain (section 3.3)."""

# B sequences of this rank   S positions   T iterations, one a round   V tokens of the vocabulary

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.relay.arithmetic import EOS, PAD, Tokens, operators_in
from models.relay.batches import draw_rounds_batch, flush_right
from models.relay.config import TeacherConfig
from models.relay.network import LoopedTransformer
from models.relay.problems import Problems
from models.relay.schedule import Descent


def round_loss(logits_TBSV: Tensor, rounds_TBS: Tensor, supervised_TBS: Tensor, supervised_T: Tensor) -> Tensor:
    """How far the iterations are from showing their rounds (arXiv 2502.08482, section 3.3, L_iter).

        L_iter = (1/T) sum_t CE(P(z_t | e_t), z_t) * M_t

    In each round the sum over M_t is divided by `supervised_T`, how many positions it has. Scalar, in nats.
    """
    surprise_TBS = F.cross_entropy(logits_TBSV.float().flatten(0, 2), rounds_TBS.flatten(), reduction="none")
    masked_TBS = surprise_TBS.view(rounds_TBS.shape) * supervised_TBS
    return (masked_TBS.sum(dim=(1, 2)) / supervised_T).mean()


def answer_loss(logits_BV: Tensor, answers_B: Tensor) -> Tensor:
    """How far the last iteration is from the answer (section 3.3, L_ans).

    L_ans = CE(P(y | e_T), y)
    """
    return F.cross_entropy(logits_BV.float(), answers_B)


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

    def take(self, loss: float, length: int) -> None:
        """Takes in the rounds' loss of one more batch of problems of this length."""
        if self.unrolled == self.most or length < self.unrolled:
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
        self.config = config
        self.world = world
        self.problems = Problems.read(world.inputs["problems"])
        vocabulary = len(self.problems.arithmetic.vocabulary)
        network = LoopedTransformer(config.network, vocabulary, config.alibi_slopes)
        self.descent = Descent(network, config.optimizer, config.max_steps, world)
        self.curriculum = RoundCurriculum(
            max(self.problems.train_lengths), config.curriculum_loss, config.curriculum_window
        )
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        batch = draw_rounds_batch(
            self.problems, config.batch_size, config.left_pads, config.supervised_pads, world.seed, step
        )
        rounds = min(batch.length, self.curriculum.unrolled)
        mine = world.share(config.batch_size)
        supervised = batch.supervised_TBS[:rounds]
        supervised_T = self._on_device(supervised.sum(axis=(1, 2))) / world.size

        logits_TBSV, answer_logits_BV = self.descent.engine(self._on_device(batch.problems_BS[mine]), rounds)
        rounds_loss = round_loss(
            logits_TBSV,
            self._on_device(batch.rounds_TBS[:rounds, mine]),
            self._on_device(supervised[:, mine]),
            supervised_T,
        )
        # An answer that the iterations do not reach yet teaches nothing; times zero, it keeps its head in the graph.
        reached = float(rounds == batch.length)
        answers_loss = reached * answer_loss(answer_logits_BV, self._on_device(batch.answers_B[mine]))
        loss = answers_loss + config.round_weight * rounds_loss

        rate, gradient_norm = self.descent.update(loss)
        mean_loss, mean_rounds_loss, mean_answers_loss = world.mean(
            torch.stack([loss, rounds_loss, answers_loss]).detach().float()
        ).tolist()
        unrolled = self.curriculum.unrolled
        self.curriculum.take(mean_rounds_loss, batch.length)
        if rounds == max(self.problems.train_lengths):
            self.descent.convergence.take(mean_loss, self.descent.steps_done)
        self.finished = self.descent.over
        return {
            "loss": mean_loss,
            "round_loss": mean_rounds_loss,
            "answer_loss": mean_answers_loss,
            "unrolled_rounds": float(unrolled),
            "operators": float(batch.length),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict(curriculum=self.curriculum.state_dict())

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        self.curriculum.load_state_dict(state.shared["curriculum"])
        self.finished = self.descent.over

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()

    def _on_device(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return (tensor if tensor.dtype == torch.bool else tensor.long()).to(self.world.device)


@torch.no_grad()
def work_off(network: LoopedTransformer, problems_BL: Tokens) -> Tokens:
    """What the teacher writes after each problem: its rounds but the last, then its answer and EOS; PAD at the end.

    The loop runs once for each operator. The last round is the bare answer, for which the answer's own head speaks.
    """
    device = next(network.parameters()).device
    iterations = operators_in(problems_BL)
    padded_BS = torch.from_numpy(flush_right(problems_BL, problems_BL.shape[1] + 1)).long().to(device)
    logits_TBSV, answer_logits_BV = network(padded_BS, iterations)
    shown_TBS = logits_TBSV.argmax(dim=-1).to(torch.uint8).cpu().numpy()
    answers_B1 = answer_logits_BV.argmax(dim=-1, keepdim=True).to(torch.uint8).cpu().numpy()
    return concatenate_rounds(shown_TBS[:-1], answers_B1)


def concatenate_rounds(shown_TBS: Tokens, answers_B1: Tokens) -> Tokens:
    """The rounds read out and put one after the other, with answer and EOS; PAD on the right."""
    batch = len(answers_B1)
    pieces = [*shown_TBS, answers_B1, np.full((batch, 1), EOS, np.uint8)]
    kept = [*(read_out(shown_BS) for shown_BS in shown_TBS), np.ones((batch, 2), bool)]
    tokens, keep = np.concatenate(pieces, axis=1), np.concatenate(kept, axis=1)
    in_order = np.argsort(~keep, axis=1, kind="stable")  # kept ones first, in their order
    written = np.take_along_axis(np.where(keep, tokens, PAD), in_order, axis=1)
    return written[:, : int(keep.sum(axis=1).max())]


def read_out(shown_BS: Tokens) -> np.ndarray:
    """Which positions belong to the round: those right of the last PAD, or all where there is none.

    What stands further left was not supervised, and means nothing.
    """
    token_BS = shown_BS != PAD
    return np.logical_and.accumulate(token_BS[:, ::-1], axis=1)[:, ::-1]
