"""ORO rewards: modules that map (generated clips, batch) to one number per clip; higher is better."""
