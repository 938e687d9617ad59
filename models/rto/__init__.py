"""RTO: preference pairs give a token-wise reward, and PPO optimises it (arXiv 2404.18922)."""
