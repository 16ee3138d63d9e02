"""What the agent remembers. The only place with SQL."""
