"""The scheduler as a state machine: no IO, no clock, no tensors."""
