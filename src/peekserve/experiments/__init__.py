"""Runs that make figures and tables: the parts put together, rows written, claims computed from rows."""
