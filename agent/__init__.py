"""The Pushboat agent."""
