"""A look at this machine: libraries, memory, weights, data, and what can run on it."""
