"""Every figure of the SneakPeek paper (SoCC '25), on recorded answers of real models: `peekserve experiment list`."""
