"""Which failures of a group of workers another group is worth."""

import copy

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import WorkerGroupError

from infra.worker import StageFailed
from infra.worker_group import EndsAtFatal
from models.common.errors import DataError

_LOST_PEER = RuntimeError("Connection closed by peer")
_FATAL = StageFailed.of(1, DataError("what is damaged"))


@pytest.mark.parametrize("failures", [{0: _LOST_PEER}, {0: _LOST_PEER, 1: RayActorError()}, {1: RayActorError()}])
def test_lost_peers_are_replaced_as_often_as_the_cluster_says(failures: dict[int, Exception]):
    policy = EndsAtFatal(FailureConfig(max_failures=2))
    made = [policy.make_decision(WorkerGroupError("lost", failures)) for _ in range(3)]
    assert made == [FailureDecision.RETRY, FailureDecision.RETRY, FailureDecision.RAISE]


@pytest.mark.parametrize("failures", [{1: _FATAL}, {0: _LOST_PEER, 1: _FATAL}, {0: _FATAL, 1: RayActorError()}])
def test_what_another_group_would_meet_again_ends_the_stage(failures: dict[int, Exception]):
    policy = EndsAtFatal(FailureConfig(max_failures=2))
    assert policy.make_decision(WorkerGroupError("lost", failures)) == FailureDecision.RAISE


class Particular(ValueError):
    """An error that cannot be made again from its arguments, as is done with one that was sent."""

    def __init__(self, place: str, *, value: int) -> None:
        super().__init__(f"{place} is {value}")


def test_what_ends_a_stage_arrives_whatever_the_error_was():
    error = Particular("the energy", value=3)
    with pytest.raises(TypeError):
        copy.copy(error)
    arrived = copy.copy(StageFailed.of(1, error))
    assert (arrived.told["rank"], arrived.told["kind"], arrived.told["text"]) == (1, "Particular", "the energy is 3")
    assert "Particular: the energy is 3" in str(arrived)
