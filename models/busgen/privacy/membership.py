"""Membership inference: whether the generator's own loss tells an image that it learnt from."""

# N images

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.busgen.statistics.auc import Auc, auc
from models.busgen.statistics.patients import one_score_a_patient

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Membership:
    """The chance that a member has a lower loss than a held-out one; 1/2: the loss does not tell them apart.

    Images of one patient are alike, so that the interval of images is too narrow; that of patients holds.
    """

    of_images: Auc
    of_patients: Auc


def infer_membership(
    member_loss_N: np.ndarray,
    held_out_loss_N: np.ndarray,
    member_patients: Sequence[str],
    held_out_patients: Sequence[str],
) -> Membership:
    """AUC of -loss: the lower the loss, the likelier a member (the attack of Yeom et al. 2018); DeLong's interval.

    Losses are of the same noise levels and noises for every image; a patient's is the mean of its images'. Members and
    held-out images have to be of one kind: otherwise the loss tells the kinds apart.
    """
    scores_N = -np.concatenate([member_loss_N, held_out_loss_N])
    is_member_N = np.arange(len(scores_N)) < len(member_loss_N)
    patients = [*(f"member {name}" for name in member_patients), *(f"other {name}" for name in held_out_patients)]
    of_patients = one_score_a_patient(scores_N, is_member_N, patients, "mean")
    return Membership(auc(scores_N, is_member_N, _CONFIDENCE), auc(*of_patients, _CONFIDENCE))
