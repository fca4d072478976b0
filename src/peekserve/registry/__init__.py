"""Repositories of applications: a folder of files -> domain values, and what is wrong with it."""
