"""RELAY: a looped Transformer writes chains of thought for an autoregressive student (arXiv 2502.08482)."""
