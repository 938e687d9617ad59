"""Neural quantum states for the two-dimensional Hubbard model (arXiv 2507.02644)."""
