"""What the SuperServe paper measures, on supernets of our own: recorded answers, measured times, its traces."""
