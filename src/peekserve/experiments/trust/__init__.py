"""A server to trust: deadlines, overload, kills, memory and time, each of them with real servers."""
