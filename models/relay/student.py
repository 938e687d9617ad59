"""Stage II of RELAY: an autoregressive student learns to write chains, at last the teacher's longer ones."""

# B sequences of this rank   S positions   V tokens of the vocabulary

import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.relay.batches import CONTINUED, STUDENT, Labels, draw_chains_batch
from models.relay.config import StudentConfig
from models.relay.network import Decoder
from models.relay.problems import Problems
from models.relay.schedule import Convergence, learning_rate, make_optimizer


def chain_loss(logits_BSV: Tensor, next_tokens_BS: Tensor, supervised_BS: Tensor, supervised: float) -> Tensor:
    """How surprised the student is by the chain, the answer and EOS, given the problem (section 3.3, stage II).

        L = -(1/N) sum_i log p(z_i | x, z_<i)

    N is `supervised`, how many tokens there are to learn. Scalar, in nats a token.
    """
    surprise_BS = F.cross_entropy(logits_BSV.float().flatten(0, 1), next_tokens_BS.flatten(), reduction="none")
    return (surprise_BS * supervised_BS.flatten()).sum() / supervised


class StudentLearner:
    """Trains the student: afresh on short problems, or further, on the teacher's chains too where `new_share` says."""

    def __init__(self, config: StudentConfig, world: World) -> None:
        self.config = config
        self.world = world
        self.problems = Problems.read(world.inputs["problems"])
        self.labels = self._read_labels()
        self.stream = STUDENT if world.start_from is None else CONTINUED
        network = Decoder(config.network, len(self.problems.arithmetic.vocabulary))
        if world.start_from is not None:
            network.load_state_dict(load_weights(world.start_from))
        self.engine = world.make_engine(
            network,
            lambda parameters: make_optimizer(config.optimizer, parameters),
            clip_norm=config.optimizer.clip_norm,
        )
        self.convergence = Convergence(config.optimizer, config.max_steps)
        self.steps_done = 0
        self.finished = False

    def step(self) -> Metrics:
        config, world = self.config, self.world
        batch = draw_chains_batch(
            self.problems, self.labels, config.batch_size, config.new_share, world.seed, self.stream, self.steps_done
        )
        mine = world.share(config.batch_size)
        tokens_BS = torch.from_numpy(batch.tokens_BS[mine]).long().to(world.device)
        supervised_BS = torch.from_numpy(batch.supervised_BS[mine]).to(world.device)

        logits_BSV = self.engine(tokens_BS[:, :-1])
        loss = chain_loss(logits_BSV, tokens_BS[:, 1:], supervised_BS, float(batch.supervised_BS.sum()) / world.size)

        rate = learning_rate(config.optimizer, self.steps_done, self.convergence.decay_from)
        self.engine.set_learning_rate(rate)
        self.engine.backward(loss)
        gradient_norm = self.engine.step()
        self.steps_done += 1

        mean_loss = float(world.mean(loss.detach().float()))
        if batch.length == max(self.problems.train_lengths):
            self.convergence.take(mean_loss, self.steps_done)
        self.finished = self.convergence.over(self.steps_done)
        return {
            "loss": mean_loss,
            "operators": float(batch.length),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def state_dict(self) -> LearnerState:
        engine = self.engine.state_dict()
        shared = {
            "engine": engine.shared,
            "steps_done": self.steps_done,
            "convergence": self.convergence.state_dict(),
        }
        return LearnerState(shared=shared, own=engine.own)

    def load_state_dict(self, state: LearnerState) -> None:
        self.engine.load_state_dict(LearnerState(shared=state.shared["engine"], own=state.own))
        self.steps_done = state.shared["steps_done"]
        self.convergence.load_state_dict(state.shared["convergence"])
        self.finished = self.convergence.over(self.steps_done)

    def weights(self) -> dict[str, Tensor]:
        return self.engine.weights()

    def _read_labels(self) -> Labels | None:
        if not self.config.new_share:
            return None
        if "labels" not in self.world.inputs:
            raise ConfigError(
                f"new_share is {self.config.new_share:g}, but the stage was given no labels\n"
                "fits: new_share=0, or the folder of a labels stage as input 'labels'"
            )
        return Labels.read(self.world.inputs["labels"])
