"""What every workload shares: configs, the contract with the frame, the training loop, metrics, errors."""
