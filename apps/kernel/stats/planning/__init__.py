"""Planning: how many units, what power, which effect, how long; every number with its formula and how to repeat it."""
