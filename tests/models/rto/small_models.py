"""Small random models of transformers in folders, and batches for them."""

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.rto.policy_config import HuggingFaceConfig
from models.rto.sequences import Sequences

transformers: Any = importlib.import_module("transformers")

VOCABULARY = 23


LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "attention_dropout": 0.5,
    "initializer_range": 0.3,
}


def llama(**changes: Any) -> Any:
    return transformers.LlamaConfig(**(LLAMA | changes))


def pythia() -> Any:
    return transformers.GPTNeoXConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        hidden_dropout=0.5,
        initializer_range=0.3,
    )


SHAPES = {
    "llama": llama,
    "tied llama": lambda: llama(tie_word_embeddings=True),
    "pythia": pythia,
    "mistral": lambda: transformers.MistralConfig(**LLAMA, sliding_window=3),
    "gpt2": lambda: transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=64),
}


def saved(folder: Path, shape: Any) -> tuple[HuggingFaceConfig, nn.Module]:
    """A model of this shape in the folder, the config that names it, and the model as transformers has it."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
    model.save_pretrained(folder)
    return HuggingFaceConfig(model=str(folder), context=64), model.eval()


def sequences() -> Sequences:
    """Prompts of 3, 1 and 5 tokens with two responses each, of 0 to 4 tokens."""
    prompt, response = torch.tensor([3, 1, 5]), torch.tensor([[4, 2], [1, 0], [3, 4]])
    return Sequences(
        prompts_BP=torch.randint(VOCABULARY, (3, 5)),
        prompt_real_BP=torch.arange(5) >= 5 - prompt[:, None],
        responses_BGR=torch.randint(VOCABULARY, (3, 2, 4)),
        response_real_BGR=torch.arange(4) < response[..., None],
    )


def one_by_one(batch: Sequences) -> list[tuple[Tensor, Tensor]]:
    """Prompt and response of each row, without padding."""
    rows = []
    for prompt_P, real_P, responses_GR, real_GR in zip(
        batch.prompts_BP, batch.prompt_real_BP, batch.responses_BGR, batch.response_real_BGR, strict=True
    ):
        rows += [(prompt_P[real_P], r[real]) for r, real in zip(responses_GR, real_GR, strict=True)]
    return rows


def trained_folder(folder: Path, module: nn.Module) -> Path:
    """What a stage publishes of a module, after its trained parameters were moved a little."""
    folder.mkdir()
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    save_file({name: p + 0.1 * torch.randn_like(p) for name, p in trained.items()}, folder / "weights.safetensors")
    return folder
