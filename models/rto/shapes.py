"""The shapes of the paper's models, as their config.json on the Hub has them: what memory is estimated from offline."""

from typing import Any

_LLAMA_3_8B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
_LLAMA_3_1B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
_PYTHIA_2_8B: dict[str, Any] = {
    "model_type": "gpt_neox",
    "vocab_size": 50_304,
    "hidden_size": 2560,
    "intermediate_size": 10_240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}

KNOWN: dict[str, dict[str, Any]] = {
    "OpenRLHF/Llama-3-8b-sft-mixture": _LLAMA_3_8B,
    "meta-llama/Meta-Llama-3-8B": _LLAMA_3_8B,
    "meta-llama/Llama-3.2-1B-Instruct": _LLAMA_3_1B,
    "EleutherAI/pythia-2.8b": _PYTHIA_2_8B,
}
