"""Event delivery: which handler gets which event, when, and how often. Knows no app, no Docker, no SSH."""
