"""`orchard up`: the services of one machine, started together, watched, and stopped together."""
