"""Several hosts on one machine, and what goes wrong with them: the ground that `orchard drill` stands on."""
