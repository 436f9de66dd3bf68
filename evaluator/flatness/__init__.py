"""Flatness of the robust loss in weight space (Stutz et al. 2021)."""
