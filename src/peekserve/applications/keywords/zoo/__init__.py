"""Five models of spoken words, tiny to base."""
