"""The outside world: one door per dependency. Knows `models.common` and no workload."""
