"""Words that outlive a process: stored in the database, or spoken between client and agent."""
