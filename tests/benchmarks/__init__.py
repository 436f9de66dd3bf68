"""Speed as ratios in one interleaved run, each with a check that both sides found the same."""
