"""From a Hydra configuration to runs; the only place in the package that knows Hydra."""
