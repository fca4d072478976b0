"""Handwritten digits, spoilt by noise and by a shaky frame: one image, four variants."""
