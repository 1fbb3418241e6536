"""ORO rewards: modules that score generated clips, one number per clip; higher is better."""
