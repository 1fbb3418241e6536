"""Drop scenes: the prior, physics, and the fast renderer (paper section 4.1, Appendix K)."""
