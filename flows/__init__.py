"""What happens, in order: one flow a workload, and the command line."""
