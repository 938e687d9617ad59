"""The verbs that flows are made of, shared by all workloads."""
