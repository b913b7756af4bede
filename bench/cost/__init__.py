"""The bill of scale to zero: prices, one container by formula, a fleet by simulation."""
