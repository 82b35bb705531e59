"""The gate at work: two versions of the same code measured against each other, and what decides when it fails."""
