"""Where evidence comes from: cheap features of raw inputs, labelled neighbours, and the thread that looks."""
