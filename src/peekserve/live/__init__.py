"""The scheduler in real time."""
