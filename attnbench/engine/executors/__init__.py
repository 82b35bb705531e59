"""Where Cases are measured: one file for each kind of executor."""
