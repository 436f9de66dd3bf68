"""Can the numbers of a run be believed? What is probed on the model, and what is made of it."""
