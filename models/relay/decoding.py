"""Greedy decoding: the student writes on from a problem, each token from all that it wrote before."""

# B sequences   L tokens of a problem   W tokens written

import numpy as np
import torch

from models.relay.arithmetic import EOS, PAD, Tokens
from models.relay.network import Decoder


@torch.no_grad()
def write_on(network: Decoder, problems_BL: Tokens, most: int) -> Tokens:
    """What the network writes after each problem, up to its EOS or `most` tokens; PAD after the EOS."""
    device = next(network.parameters()).device
    batch, length = problems_BL.shape
    caches = network.empty_caches(batch, length + most)
    next_B1 = torch.from_numpy(problems_BL).long().to(device)
    ended_B = torch.zeros(batch, dtype=torch.bool, device=device)
    written = []
    while len(written) < most and not bool(ended_B.all()):
        logits_BV = network(next_B1, caches)[:, -1]
        token_B = logits_BV.argmax(dim=-1).masked_fill(ended_B, PAD)
        written.append(token_B)
        ended_B |= token_B == EOS
        next_B1 = token_B[:, None]
    return torch.stack(written, dim=1).cpu().numpy().astype(np.uint8)
