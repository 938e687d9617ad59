"""Our U-Net, and the same class in the layout of BUSGen's release; answers `busgen_speed.py`'s requests on stdin."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import busgen_work as work
import torch
from busgen_rig import DEVICE, answer
from rto_work import serve

from models.busgen.network_config import UNetConfig, official_unet
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.network import make_network

CONDITIONS = ConditionsConfig(
    classes=tuple(f"class {number}" for number in range(work.CLASSES)),
    devices=tuple(f"device {number}" for number in range(work.DEVICES)),
    descriptors=(),
)


def prepare(request: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    torch.manual_seed(0)
    config = {
        "ours": UNetConfig(width=work.OUR_WIDTH[DEVICE.type], dropout=0.0),
        "official": official_unet().but(width=work.OFFICIAL_WIDTH[DEVICE.type], dropout=0.0),
    }[request["network"]]
    network = make_network(config, CONDITIONS, request["side"], request["channels"]).to(DEVICE)
    said = Conditions(
        torch.ones(work.BATCH, dtype=torch.int64),
        torch.ones(work.BATCH, dtype=torch.int64),
        torch.zeros(work.BATCH, 0, dtype=torch.int64),
        torch.ones(work.BATCH, 1, request["side"], request["side"]),
        torch.ones(work.BATCH),
    ).to(DEVICE)
    return answer(network, lambda x, level: network(x, level, said), request)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        serve(prepare)
