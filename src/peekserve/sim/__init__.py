"""The same scheduler in pretended time."""
