"""What a sweep costs, and what it survives."""
