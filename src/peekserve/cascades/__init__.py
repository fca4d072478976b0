"""Cheap first, costly only if unsure: what a chain of models answers and costs, and where its thresholds lie."""
