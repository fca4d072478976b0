"""What evidence means: votes and a prior make a belief, a belief and recalls make an expected accuracy.
Pure."""
