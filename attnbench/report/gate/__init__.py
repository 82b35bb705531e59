"""What a check found, for people and bots: verdicts, the rules for two sets of records, and a file for each format."""
