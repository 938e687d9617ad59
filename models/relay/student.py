"""Stage II of RELAY: an autoregressive student learns to write chains, at last the teacher's longer ones."""

# B sequences of this rank   S positions   N tokens to learn   V tokens of the vocabulary

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.relay.chains import ChainsBatch, Labels, chains_batches, draw_chains
from models.relay.config import StudentConfig
from models.relay.learning import Tally, on_device, require_rows, seed_dropout
from models.relay.mixing import padded_share
from models.relay.network import Decoder
from models.relay.problems import Problems
from models.relay.schedule import Descent
from models.relay.streams import CONTINUED, STUDENT


def chain_loss(logits_NV: Tensor, next_tokens_N: Tensor, weight_N: Tensor) -> Tensor:
    """How surprised the student is by the chain, the answer and EOS, given the problem (section 3.3, stage II).

        L = -(1/N) sum_i log p(z_i | x, z_<i)

    The weights hold 1/N and the task's weight. Scalar, in nats a token.
    """
    return (F.cross_entropy(logits_NV.float(), next_tokens_N, reduction="none") * weight_N).sum()


class StudentLearner:
    """Trains the student: afresh on short problems, or further, on longer ones with labels where `new_share` says."""

    def __init__(self, config: StudentConfig, world: World) -> None:
        require_rows(config, world)
        self.config = config
        self.world = world
        self.problems = Problems.read(world.inputs["problems"])
        self.labels = self._read_labels()
        self.stream = STUDENT if world.start_from is None else CONTINUED
        network = Decoder(config.network, len(self.problems.vocabulary))
        if world.start_from is not None:
            network.load_state_dict(load_weights(world.start_from))
        self.descent = Descent(network, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        chains = draw_chains(self.problems, self.labels, config, world.seed, self.stream, step)
        batches = chains_batches(chains, config, world)
        seed_dropout(config.network.dropout, self.stream, step, world)
        tally = Tally()
        rate, gradient_norm = self.descent.update(self._losses(batches, tally), pieces=len(batches))

        means = tally.means(world)
        if chains.longest:
            self.descent.convergence.take(means["loss"], self.descent.steps_done)
        self.finished = self.descent.over
        return {
            "loss": means["loss"],
            "padded_share": padded_share(means["computed"], means["filled"]),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def _losses(self, batches: list[ChainsBatch], tally: Tally) -> Iterator[Tensor]:
        """The loss of each bucket, and what is told of it."""
        device = self.world.device
        for batch in batches:
            tokens_BS = on_device(batch.tokens_BS[:, :-1], device)
            logits_NV = self.descent.engine(tokens_BS, None, on_device(batch.picked_N, device))
            loss = chain_loss(logits_NV, on_device(batch.targets_N, device), on_device(batch.weight_N, device))
            tally.add(loss=loss, computed=batch.computed, filled=batch.filled)
            yield loss

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        self.finished = self.descent.over

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()

    def _read_labels(self) -> Labels | None:
        if not self.config.reads_labels:
            return None
        if "labels" not in self.world.inputs:
            raise ConfigError(
                f"new_share is {self.config.new_share}, but the stage was given no labels\n"
                "fits: new_share=0, or the folder of a labels stage as input 'labels'"
            )
        return Labels.read(self.world.inputs["labels"], self.problems)
