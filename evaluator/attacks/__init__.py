"""Attacks on inputs, PGD and AutoAttack, both held to one budget."""
