"""How much memory a network that is trained needs on a worker, before any activation."""

from models.common.contract import WorkerGroup


def bytes_of_a_number(group: WorkerGroup) -> int:
    """Of a weight, or an activation, in the group's precision."""
    return 2 if group.precision == "bf16" else 4


def trained_bytes(parameters: int, trained: int, group: WorkerGroup) -> int:
    """Weights, gradients and optimizer of a network of which some are trained (Rajbhandari et al. 2020, section 3.1).

    Mixed precision with Adam: 2 bytes of weight, 2 of gradient and 12 of optimizer (weight, mean and variance in
    float32) a parameter; stage 1 splits the 12 over the workers, stage 2 the gradient too, stage 3 the weights too.
    In float32: 4, 4 and 8, and 4 more of DeepSpeed's own copy from stage 1 on.
    """
    number, stage = bytes_of_a_number(group), group.zero_stage
    if group.precision == "bf16" and stage == 0:  # plain torch: float32 weights, cast anew in each forward pass
        weights, gradient, optimizer = 4 + 2, 4, 8
    else:
        weights, gradient, optimizer = number, number, 8 + (4 if stage else 0)
    split = [group.workers if stage >= least else 1 for least in (3, 2, 1)]
    return (
        -(-parameters * weights // split[0]) + -(-trained * gradient // split[1]) + -(-trained * optimizer // split[2])
    )
