"""Direct preference optimisation (Rafailov et al. 2023) and its relatives (`preference_losses.py`)."""

# B pairs   2 chosen, rejected   N real response tokens   V vocabulary

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.rows import Rows, draw_rows
from models.common.warmup_descent import Descent
from models.rto import preference_losses as losses
from models.rto.batches import DPO, check_lengths, pair_lengths, pieces, read_preferences
from models.rto.config import DpoStage
from models.rto.network import read_policy
from models.rto.policies import PolicySet, policies_for
from models.rto.preferences import pair_sequences
from models.rto.reference import CachedReference, check_agreement, live_logits, response_log_probs
from models.rto.sequences import Sequences


@dataclass(frozen=True)
class PairTerms:
    """What a loss is made of, of each pair.

    reference_B2: log pi_ref; None where the loss has no reference.
    divergences_B2: KL(pi_ref || pi) summed along each response; None where the loss does not ask for it.
    """

    log_probs_B2: Tensor
    lengths_B2: Tensor
    reference_B2: Tensor | None = None
    divergences_B2: Tensor | None = None

    @property
    def log_ratios_B2(self) -> Tensor:
        assert self.reference_B2 is not None
        return self.log_probs_B2 - self.reference_B2


def preference_loss(config: DpoStage, terms: PairTerms) -> Tensor:
    """The loss of each pair that the settings name, [B]."""
    beta, wrong = config.beta, config.label_smoothing
    match config.loss:
        case "sigmoid":
            return losses.dpo_loss(terms.log_ratios_B2, beta=beta, label_smoothing=wrong)
        case "ipo":
            return losses.ipo_loss(terms.log_ratios_B2, beta=beta, label_smoothing=wrong)
        case "r_dpo":
            return losses.r_dpo_loss(
                terms.log_ratios_B2, terms.lengths_B2, beta=beta, alpha=config.length_penalty, label_smoothing=wrong
            )
        case "simpo":
            return losses.simpo_loss(
                terms.log_probs_B2, terms.lengths_B2, beta=beta, gamma=config.margin, label_smoothing=wrong
            )
        case "tdpo":
            assert terms.divergences_B2 is not None
            return losses.tdpo_loss(
                terms.log_ratios_B2, terms.divergences_B2, beta=beta, alpha=config.kl_weight, label_smoothing=wrong
            )


class DpoLearner:
    """Trains a policy on preference pairs; it begins as the reference, whose weights it starts from."""

    def __init__(self, config: DpoStage, world: World) -> None:
        self.config = config
        self.world = world
        data = read_preferences(world, config.policy)
        self.pairs = data.train
        self.lengths = pair_lengths(self.pairs)
        check_lengths(self.pairs.prompts, (self.pairs.chosen, self.pairs.rejected), config.policy.context, "pair")
        self.cache: CachedReference | None = None
        self.policies: PolicySet | None = None
        start_from, vocabulary = world.start_from, data.vocabulary
        if config.loss != "simpo" and config.reference == "live":
            self.policies = policies_for(
                config.policy, vocabulary, start_from=start_from, dpo=None, device=world.device
            )
            policy = self.policies.actor
        else:
            policy = read_policy(config.policy, start_from, vocabulary, world.device)
        if config.loss != "simpo" and config.reference == "cached":
            at_once = config.micro_batch or max(1, config.batch_size // world.size)
            self.cache = CachedReference(self.pairs, world, at_once)
        self.descent = Descent(policy, config.optimizer, config.max_steps, world)
        if self.policies is not None:
            self.policies.follow_actor()
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world = self.config, self.world
        rows_B = draw_rows(len(self.pairs), config.batch_size, self.descent.steps_done, (world.seed, DPO))
        parts = pieces(rows_B[world.share(config.batch_size)], self.lengths, config.micro_batch)
        told: list[dict[str, Tensor]] = []
        rate, gradient_norm = self.descent.update(self._losses(parts, told), len(parts))
        own = torch.stack([torch.stack(list(each.values())) for each in told]).sum(dim=0)
        means = world.mean(own / (config.batch_size // world.size)).tolist()
        return dict(zip(told[0], means, strict=True)) | {"learning_rate": rate, "gradient_norm": gradient_norm}

    def _losses(self, parts: list[Rows], told: list[dict[str, Tensor]]) -> Iterator[Tensor]:
        """The loss of each piece of this rank's pairs; adds sums over its pairs to what is told."""
        share = self.config.batch_size // self.world.size
        for rows in parts:
            terms = self._terms(rows)
            loss_B = preference_loss(self.config, terms)
            told.append({name: value_B.detach().sum() for name, value_B in self._told(terms, loss_B).items()})
            yield loss_B.sum() / share

    def _terms(self, rows_B: Rows) -> PairTerms:
        """What the loss of these pairs is made of."""
        engine = self.descent.engine
        batch = pair_sequences(self.pairs, rows_B).to(self.world.device)
        lengths_B2 = batch.lengths_BG.float()
        # Before the policy's own pass: the first one fills the cache, which would hold its activations meanwhile.
        cached_B2 = None if self.cache is None else self.cache.of(rows_B, engine)
        logits_NV = engine(batch)
        log_probs_B2 = response_log_probs(logits_NV, batch)
        if self.policies is not None:
            terms = self._live_terms(self.policies, batch, logits_NV, log_probs_B2, lengths_B2)
        else:
            terms = PairTerms(log_probs_B2, lengths_B2, cached_B2)
        if self.descent.steps_done == 0 and terms.reference_B2 is not None:
            check_agreement(terms.log_ratios_B2, lengths_B2, logits_NV.dtype)
        return terms

    def _live_terms(
        self, policies: PolicySet, batch: Sequences, logits_NV: Tensor, log_probs_B2: Tensor, lengths_B2: Tensor
    ) -> PairTerms:
        reference_NV = live_logits(policies.reference, batch, logits_NV)
        divergences_B2 = None
        if self.config.loss == "tdpo":
            divergences_B2 = batch.spread(losses.token_divergence(logits_NV, reference_NV)).sum(dim=-1)
        return PairTerms(log_probs_B2, lengths_B2, response_log_probs(reference_NV, batch), divergences_B2)

    def _told(self, terms: PairTerms, loss_B: Tensor) -> dict[str, Tensor]:
        """Of each pair, what is reported as a mean."""
        if terms.reference_B2 is None:
            rewards_B2 = losses.length_normalised_reward(terms.log_probs_B2, terms.lengths_B2, self.config.beta)
        else:
            rewards_B2 = losses.implicit_reward(terms.log_ratios_B2, self.config.beta)
        margin_B = rewards_B2[:, 0] - rewards_B2[:, 1]
        told = {
            "loss": loss_B,
            "accuracy": torch.heaviside(margin_B, margin_B.new_tensor(0.5)),
            "margin": margin_B,
            "chosen_reward": rewards_B2[:, 0],
            "rejected_reward": rewards_B2[:, 1],
            "chosen_log_prob": terms.log_probs_B2[:, 0],
        }
        if terms.reference_B2 is not None:
            # KL(pi_ref || pi) of a response, if the pairs are the reference's own; the evaluation measures the other.
            told["kl_from_pairs"] = -terms.log_ratios_B2.mean(dim=-1)
        return told

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict(reference=None if self.cache is None else self.cache.state_dict())

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        if self.cache is not None:
            self.cache.load_state_dict(state.shared["reference"])

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()
