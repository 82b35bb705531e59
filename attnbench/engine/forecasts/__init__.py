"""What a run would take, told without running it."""
