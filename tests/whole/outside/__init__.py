"""Clients that nobody here wrote, each in an environment of its own, at a real server: __main__.py runs them."""
