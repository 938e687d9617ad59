"""The science: torch and numpy. Knows nothing of Prefect, Ray, DeepSpeed, DVC or S3."""
