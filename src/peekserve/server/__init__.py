"""The doors: one front desk behind HTTP and gRPC."""
