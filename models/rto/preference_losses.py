"""What a policy loses on each preference pair: DPO and its relatives. Pure functions, of log-probabilities.

In all of them column 0 is the chosen response and column 1 the rejected one; a log-ratio is
log pi(y|x) - log pi_ref(y|x), summed over the response's tokens, its end included.
"""

# B pairs   2 chosen, rejected   N real response tokens   V vocabulary

import torch.nn.functional as F
from torch import Tensor


def implicit_reward(log_ratios: Tensor, beta: float) -> Tensor:
    """The reward that a DPO policy stands for, up to an offset of its prompt (Rafailov et al. 2023, eq. 5).

    r(x, y) = beta log pi(y|x)/pi_ref(y|x)

    Of whole responses, or of single tokens, as RTO has it (arXiv 2404.18922, eq. 4.3).
    """
    return beta * log_ratios


def length_normalised_reward(log_probs_B2: Tensor, lengths_B2: Tensor, beta: float) -> Tensor:
    """SimPO's reward, which needs no reference (Meng et al. 2024, eq. 4).

    r(x, y) = beta / |y| log pi(y|x)
    """
    return beta * log_probs_B2 / lengths_B2


def logistic_loss(margin_B: Tensor, label_smoothing: float) -> Tensor:
    """How surprised Bradley and Terry are at each label, in nats, where a share of labels is wrong (cDPO).

        l = -(1 - e) log sigmoid(margin) - e log sigmoid(-margin)

    Mitchell (2023), "A note on DPO with noisy preferences", eq. 3; with e = 0 it is eq. 2 of Rafailov et al. (2023).
    """
    return -(1.0 - label_smoothing) * F.logsigmoid(margin_B) - label_smoothing * F.logsigmoid(-margin_B)


def dpo_loss(log_ratios_B2: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """DPO's loss of each pair (Rafailov et al. 2023, eq. 7).

    l = -log sigmoid(beta (h_chosen - h_rejected))    with the log-ratios h
    """
    return logistic_loss(_difference(implicit_reward(log_ratios_B2, beta)), label_smoothing)


def ipo_loss(log_ratios_B2: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """IPO's loss of each pair (Azar et al. 2023, eq. 17), whose tau is beta here.

        l = (h_chosen - h_rejected - 1 / (2 beta))^2

    The log-ratios are sums over tokens, as in the paper; TRL divides each by its response's length first. Where a
    share e of labels is wrong, the loss is its mean over right and wrong ones, as in `logistic_loss`.
    """
    difference_B, target = _difference(log_ratios_B2), 1.0 / (2.0 * beta)
    right_B, wrong_B = (difference_B - target).square(), (difference_B + target).square()
    return (1.0 - label_smoothing) * right_B + label_smoothing * wrong_B


def r_dpo_loss(
    log_ratios_B2: Tensor, lengths_B2: Tensor, *, beta: float, alpha: float, label_smoothing: float
) -> Tensor:
    """R-DPO's loss of each pair (Park et al. 2024, arXiv 2403.19159).

        l = -log sigmoid(beta (h_chosen - h_rejected) + alpha (|y_chosen| - |y_rejected|))

    Labels are taken to follow the reward, and the policy to maximise it less alpha |y|: then
    r = beta h + alpha |y| + an offset, so that what length explains of a label is not learnt.
    """
    margin_B = _difference(implicit_reward(log_ratios_B2, beta)) + alpha * _difference(lengths_B2)
    return logistic_loss(margin_B, label_smoothing)


def simpo_loss(
    log_probs_B2: Tensor, lengths_B2: Tensor, *, beta: float, gamma: float, label_smoothing: float
) -> Tensor:
    """SimPO's loss of each pair (Meng et al. 2024, eq. 6); no reference.

    l = -log sigmoid(beta/|y_chosen| log pi(y_chosen) - beta/|y_rejected| log pi(y_rejected) - gamma)
    """
    margin_B = _difference(length_normalised_reward(log_probs_B2, lengths_B2, beta)) - gamma
    return logistic_loss(margin_B, label_smoothing)


def tdpo_loss(
    log_ratios_B2: Tensor, divergences_B2: Tensor, *, beta: float, alpha: float, label_smoothing: float
) -> Tensor:
    """TDPO2's loss of each pair (Zeng et al. 2024, arXiv 2404.11999, L_TDPO2).

        l = -log sigmoid(beta (h_chosen - h_rejected) - alpha beta (D_rejected - sg(D_chosen)))

    D is the sum of `token_divergence` along the response, and sg stops the gradient.
    """
    chosen_B, rejected_B = divergences_B2.unbind(dim=-1)
    margin_B = _difference(implicit_reward(log_ratios_B2, beta)) - alpha * beta * (rejected_B - chosen_B.detach())
    return logistic_loss(margin_B, label_smoothing)


def token_divergence(logits_NV: Tensor, reference_logits_NV: Tensor) -> Tensor:
    """KL(pi_ref(.|s) || pi(.|s)) of the law at each token, [N]; summed along a response it is TDPO's D_SeqKL.

    Zeng et al. (2024), arXiv 2404.11999. In float32.
    """
    log_p_NV = F.log_softmax(logits_NV.float(), dim=-1)
    log_reference_NV = F.log_softmax(reference_logits_NV.float(), dim=-1)
    return F.kl_div(log_p_NV, log_reference_NV, reduction="none", log_target=True).sum(dim=-1)


def _difference(values_B2: Tensor) -> Tensor:
    return values_B2[:, 0] - values_B2[:, 1]
