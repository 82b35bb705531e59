"""From records to answers: frames, comparisons, tables and files; never loads torch."""
