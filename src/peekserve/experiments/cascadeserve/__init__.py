"""What the CascadeServe paper measures, on zoos of our own: five models of each application, tiny to base."""
