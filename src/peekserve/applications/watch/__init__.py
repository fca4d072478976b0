"""Shoulder exercises seen by a wristwatch: two sensors, three variants that need one, the other or both."""
