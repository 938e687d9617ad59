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
from models.relay.schedule import Descent


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
        self.descent = Descent(network, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        batch = draw_chains_batch(
            self.problems, self.labels, config.batch_size, config.new_share, world.seed, self.stream, step
        )
        mine = world.share(config.batch_size)
        tokens_BS = torch.from_numpy(batch.tokens_BS[mine]).long().to(world.device)
        supervised_BS = torch.from_numpy(batch.supervised_BS[mine]).to(world.device)

        logits_BSV = self.descent.engine(tokens_BS[:, :-1])
        loss = chain_loss(logits_BSV, tokens_BS[:, 1:], supervised_BS, float(batch.supervised_BS.sum()) / world.size)

        rate, gradient_norm = self.descent.update(loss)
        mean_loss = float(world.mean(loss.detach().float()))
        if batch.length == max(self.problems.train_lengths):
            self.descent.convergence.take(mean_loss, self.descent.steps_done)
        self.finished = self.descent.over
        return {
            "loss": mean_loss,
            "operators": float(batch.length),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        self.finished = self.descent.over

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()

    def _read_labels(self) -> Labels | None:
        if not self.config.new_share:
            return None
        if "labels" not in self.world.inputs:
            raise ConfigError(
                f"new_share is {self.config.new_share:g}, but the stage was given no labels\n"
                "fits: new_share=0, or the folder of a labels stage as input 'labels'"
            )
        return Labels.read(self.world.inputs["labels"])
