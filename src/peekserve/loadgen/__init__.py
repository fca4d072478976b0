"""Load: when requests come, and a client that sends them whatever the server does. Benches and simulations share it."""
