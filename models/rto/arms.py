"""The arms that RTO is compared with: what each changes in its settings (arXiv 2404.18922, section 5 and figure 3)."""

from typing import Any, Literal, TypeAlias

ArmName: TypeAlias = Literal[
    "ppo", "ppo_lambda1", "ddpo", "rs_ppo", "semi_rto", "rto_without_score", "reinforce", "rto_reinforce", "rto_group"
]

ARMS: dict[str, dict[str, Any]] = {
    "rto": {},
    "ppo": {"reward.layout": "ppo"},
    "ppo_lambda1": {"reward.layout": "ppo", "gae_lambda": 1.0},
    "ddpo": {"reward.layout": "ddpo"},
    "rs_ppo": {"reward.layout": "rs_ppo"},
    "semi_rto": {"reward.layout": "semi_rto"},
    "rto_without_score": {"reward.beta3": 0.0},
    "reinforce": {"reward.layout": "ppo", "algorithm": "reinforce"},
    "rto_reinforce": {"algorithm": "reinforce"},
    "rto_group": {"algorithm": "group", "responses_per_prompt": 4},
}
