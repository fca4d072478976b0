"""The processes that run batches. A worker's own process imports only host.py, frames.py, ring.py and a runtime."""
