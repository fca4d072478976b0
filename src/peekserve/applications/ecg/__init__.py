"""Which kind of heartbeat is this: one lead, one second, a 34-layer residual net or a small convolutional one."""
