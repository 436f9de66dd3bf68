"""Attacks on inputs: PGD (ours) and AutoAttack (the reference package), both held to one budget."""
