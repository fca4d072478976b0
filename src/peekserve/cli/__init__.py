"""The commands: a file each, which puts the parts together and tells people what came of it."""
