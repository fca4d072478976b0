"""From the archives that data sets are published as to the arrays that our loaders read; numpy alone."""
