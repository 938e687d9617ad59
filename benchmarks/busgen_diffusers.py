"""diffusers' UNet2DModel; answers `busgen_speed.py`'s requests on stdin, a JSON line each.

    PYTHON benchmarks/busgen_diffusers.py          # a Python with diffusers

`example` is the network of diffusers' own training example for 128 x 128 images, and `shape` has our multipliers and
attention at the same sides; each is as wide as gives it the parameters asked for.
"""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import busgen_work as work
import torch
from busgen_rig import DEVICE, answer
from diffusers import UNet2DModel
from rto_work import serve

GROUPS = 4  # of the norms, whose number has to divide every width; with the default of 32 few widths would fit
SHAPES = {"example": ((1, 1, 2, 2, 4, 4), 4), "shape": ((1, 2, 4, 8), 3)}  # multipliers, level with attention


def make(shape: str, width: int, side: int, channels: int) -> UNet2DModel:
    """With the mask and whether it is given as further channels, as ours has them."""
    multipliers, attends = SHAPES[shape]
    count = len(multipliers)
    down = ["AttnDownBlock2D" if level == attends else "DownBlock2D" for level in range(count)]
    up = ["AttnUpBlock2D" if level == attends else "UpBlock2D" for level in reversed(range(count))]
    return UNet2DModel(
        sample_size=side,
        in_channels=channels + 2,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=tuple(width * multiplier for multiplier in multipliers),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        norm_num_groups=GROUPS,
        attention_head_dim=64 if width >= 64 else width,
        num_class_embeds=work.CLASSES + 1,
    )


def fitting(shape: str, wanted: int, side: int, channels: int) -> int:
    """The width whose number of parameters is the nearest to that wanted."""
    with torch.device("meta"):
        counts = {
            width: sum(at.numel() for at in make(shape, width, side, channels).parameters())
            for width in range(GROUPS, 192, GROUPS)
        }
    return min(counts, key=lambda width: abs(counts[width] - wanted))


def prepare(request: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    side, channels = request["side"], request["channels"]
    width = fitting(request["network"], request["parameters"], side, channels)
    torch.manual_seed(0)
    network = make(request["network"], width, side, channels).to(DEVICE)
    mask = torch.ones(work.BATCH, 2, side, side, device=DEVICE)
    labels = torch.ones(work.BATCH, dtype=torch.int64, device=DEVICE)

    def call(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return network(torch.cat([x, mask], dim=1), level, class_labels=labels, return_dict=False)[0]

    return answer(network, call, request)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        serve(prepare)
