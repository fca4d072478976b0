"""Measuring what variants cost and what they are worth."""
