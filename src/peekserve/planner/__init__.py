"""Gear plans, made offline: which cascade at which load, on which devices (CascadeServe, section 4)."""
