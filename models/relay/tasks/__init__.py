"""The tasks that come with RELAY, one a file; `models/relay/task.py` is what each of them is."""
