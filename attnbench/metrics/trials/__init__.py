"""Small experiments that find out what can be measured on this machine: each really does what a measurement would."""
