"""What a suite is made of: lines, keys, rules, grids, and the plan; `engine/suite.py` is the door."""
