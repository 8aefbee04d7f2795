"""File → lazily readable named arrays and metadata. No meaning, no code execution, no framework."""
