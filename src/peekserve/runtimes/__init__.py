"""Running one batch on one device: one framework a file, and the maps around them."""
